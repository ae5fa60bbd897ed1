import { ConfigurationError } from './errors.js';

/** The supported databases, by TypeORM's `type` option. */
const SUPPORTED_DRIVERS = ['postgres', 'mysql', 'mariadb', 'better-sqlite3'] as const;

/** TypeORM's `type` option of a supported data source. */
export type SupportedDriver = (typeof SUPPORTED_DRIVERS)[number];

/** The three SQL dialects of the four drivers. `mysql` and `mariadb` share one dialect. */
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
        `Invalid value '${driver}' for \`type\` of the data source. Allowed: ${SUPPORTED_DRIVERS.map((known) => `'${known}'`).join(', ')}.`,
      );
  }
}

export const DEFAULT_TABLE_PREFIX = 'webhook_';

/**
 * Whether the text is allowed as the schema of the webhook tables. Only letters, digits and `_` are allowed, because SQL needs no escaping
 * for them.
 */
export function isSchemaName(name: unknown): name is string {
  return typeof name === 'string' && /^[A-Za-z0-9_]{1,63}$/.test(name);
}

/** Escapes each part of a path such as `schema.table` for SQL. No part contains a dot. */
export function escapedPath(path: string, driver: { escape(name: string): string }): string {
  return path
    .split('.')
    .map((part) => driver.escape(part))
    .join('.');
}
