import { basename } from 'node:path';
import type { DataSource } from 'typeorm';
import { tupleHash } from '../../hash.js';
import type { Database } from './database.js';

/** Equal for the processes that use the same tables. Hosts may reach one database server under different names. */
export function tablesKey({ dialect, tables }: Database, dataSource: DataSource): string {
  const name = dataSource.driver.database ?? '';
  return tupleHash(dialect === 'sqlite' ? basename(name) : name, tables.events.metadata.tablePath).toString('hex');
}
