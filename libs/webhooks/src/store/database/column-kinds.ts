import type { EntitySchemaColumnOptions } from 'typeorm';
import { type SupportedDriver, dialectOf } from '../../dialect.js';

/**
 * The kind of value in a column. The databases need different types for one kind. TypeORM's `text` is 64 KB on MySQL, an auto-increment on
 * SQLite must be `integer`, and 16 bytes are `bytea`, `binary(16)` or `blob`.
 */
export type ColumnKind =
  | 'sequence' // the primary key, assigned by the database: order of insertion, joins
  | 'id' // evt_…, dlv_…, lst_…, lease tokens
  | 'name' // event types, patterns, error codes
  | 'state' // a closed list of short words
  | 'owner'
  | 'hash' // 16 bytes of SHA-256
  | 'text' // payloads, responses, JSON; never json/jsonb, which reorder keys
  | 'milliseconds' // since 1970, UTC
  | 'reference' // the sequence of another table
  | 'integer'
  | 'flag'; // 0 or 1: better-sqlite3 binds no booleans

/** This collation compares byte by byte. With MySQL's default collation, a search for `acme` also finds `ACME` and `acmé`. */
const BINARY_COLLATION = { charset: 'utf8mb4', collation: 'utf8mb4_bin' } as const;

const VARCHAR_LENGTHS = { id: 64, name: 191, state: 16, owner: 255 } as const;

/** The TypeORM column options of a kind on a driver. */
export function columnOptions(kind: ColumnKind, driver: SupportedDriver): EntitySchemaColumnOptions {
  const dialect = dialectOf(driver);
  const collation = dialect === 'mysql' ? BINARY_COLLATION : {};
  switch (kind) {
    case 'sequence':
      return { type: dialect === 'sqlite' ? 'integer' : 'bigint', primary: true, generated: 'increment' };
    case 'id':
    case 'name':
    case 'state':
    case 'owner':
      return { type: 'varchar', length: VARCHAR_LENGTHS[kind], ...collation };
    case 'hash':
      if (dialect === 'mysql') return { type: 'binary', length: 16 };
      return { type: dialect === 'postgres' ? 'bytea' : 'blob' };
    case 'text':
      return { type: dialect === 'mysql' ? 'longtext' : 'text', ...collation };
    case 'milliseconds':
      return { type: 'bigint' };
    case 'reference':
      // As a primary key, `integer` is SQLite's own row id, and needs no second index.
      return { type: dialect === 'sqlite' ? 'integer' : 'bigint' };
    case 'integer':
      return { type: dialect === 'postgres' ? 'integer' : 'int' };
    case 'flag':
      return { type: 'smallint' };
  }
}
