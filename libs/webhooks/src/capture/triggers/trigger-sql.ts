import { tupleHash } from '../../hash.js';
import type { TriggerTable } from './trigger-table.js';

/** The table of images, to which triggers write. Names are escaped, except `name` and `schema`. */
export interface ImagesTable {
  /** The path, with the schema on PostgreSQL. */
  readonly path: string;
  /** The name without a schema. The names of triggers and functions contain this name, so that two table prefixes do not clash. */
  readonly name: string;
  /** The schema of the table. On MySQL and MariaDB, the database of the table. `null` on SQLite. */
  readonly schema: string | null;
  readonly column: (
    property: 'seq' | 'tablePath' | 'op' | 'oldRow' | 'newRow' | 'context' | 'mergeKey' | 'createdAt',
  ) => string;
}

/** A trigger or a function that must be installed. */
export interface TriggerObject {
  readonly name: string;
  /** The path of the table of the trigger; `null` for a function. */
  readonly table: string | null;
  /** The hash of the definition. This hash is stored in a comment of the object, and shows whether the installed object is up to date. */
  readonly hash: string;
  /** The statements that create the object, in order. */
  readonly create: readonly string[];
  readonly drop: string;
}

/** A trigger or a function that was found in the database. */
export interface InstalledObject {
  readonly name: string;
  /** The path of the table in the form of the database catalog; `null` for a function. */
  readonly table: string | null;
  readonly hash: string | null;
  /** `false` if the trigger is disabled. */
  readonly isEnabled: boolean;
  readonly drop: string;
}

/** The triggers of one database dialect. */
export interface TriggerDialect {
  /** The objects that must be installed, in order. */
  objects(tables: readonly TriggerTable[], images: ImagesTable): TriggerObject[];
  /** The statement that lists the installed objects that write to this images table, and the conversion of its rows. */
  installed(images: ImagesTable): { readonly text: string; readonly objectOf: (row: never) => InstalledObject };
}

/** A comment `/* nestjs-entity-webhooks 0123… *\/` identifies the triggers and functions of this library. */
const MARK = 'nestjs-entity-webhooks';

/** Replaces `{mark}` in a definition by a comment with the hash of the definition. */
export function marked(definition: string): { hash: string; text: string } {
  const hash = tupleHash('trigger', definition).toString('hex');
  return { hash, text: definition.replace('{mark}', () => `/* ${MARK} ${hash} */`) };
}

/** The hash in the text of an installed object. `null` if the text has no hash, because the text was changed. */
export function hashIn(text: string): string | null {
  return new RegExp(`/\\* ${MARK} ([0-9a-f]{32}) \\*/`).exec(text)?.[1] ?? null;
}

/** A text as an SQL literal. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/**
 * The name of a trigger or function. Databases limit names to 63 or 64 characters. Longer parts are cut, and a hash keeps the names
 * distinct.
 */
export function objectName(images: ImagesTable, operation: string, table: string): string {
  const plain = table.slice(0, 24).replaceAll('.', '_');
  return `${images.name.slice(0, 20)}_${operation}_${plain}_${tupleHash(images.path, table).toString('hex').slice(0, 8)}`;
}
