import { ConfigurationError } from './errors.js';

/** The databases this library speaks to, by TypeORM's `type` option. */
const SUPPORTED_DRIVERS = ['postgres', 'mysql', 'mariadb', 'better-sqlite3'] as const;

/** TypeORM's `type` option of a supported data source. */
export type SupportedDriver = (typeof SUPPORTED_DRIVERS)[number];

/** The three dialects behind the four drivers: `mysql` and `mariadb` are spoken to alike. */
export type DialectName = 'postgres' | 'mysql' | 'sqlite';

/** @throws ConfigurationError `UNSUPPORTED_DATABASE` for a driver that is not in {@link SUPPORTED_DRIVERS}. */
export function dialectOf(driver: string): DialectName {
  switch (driver) {
    case 'postgres':
      return 'postgres';
    case 'mysql':
    case 'mariadb':
      return 'mysql';
    case 'better-sqlite3':
      return 'sqlite';
    default:
      throw new ConfigurationError(
        'UNSUPPORTED_DATABASE',
        `The data source is of type '${driver}'; webhooks work on ${SUPPORTED_DRIVERS.join(', ')}. Use one of these.`,
      );
  }
}

export const DEFAULT_TABLE_PREFIX = 'webhook_';

/** What may name the schema of our tables: nothing that has to be escaped, and no dot, which parts it from the table. */
export function isSchemaName(name: unknown): name is string {
  return typeof name === 'string' && /^[A-Za-z0-9_]{1,63}$/.test(name);
}

/** A path such as `schema.table` in SQL: each part escaped. No part has a dot. */
export function escapedPath(path: string, driver: { escape(name: string): string }): string {
  return path
    .split('.')
    .map((part) => driver.escape(part))
    .join('.');
}
