import type { DataSource } from 'typeorm';
export interface IsolateSqliteOptions { lockTimeoutMs?: number }
export function isolateSqlite(dataSource: DataSource, _options?: IsolateSqliteOptions): DataSource { return dataSource; }
export function sqliteWriterLock(_dataSource: DataSource): { acquire(origin?: string): Promise<() => void> } | undefined { return undefined; }
export function isFileSqlite(dataSource: DataSource): boolean { return dataSource.options.type === 'better-sqlite3' && dataSource.options.database !== ':memory:'; }
