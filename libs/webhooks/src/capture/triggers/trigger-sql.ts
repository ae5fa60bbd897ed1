import { tupleHash } from '../../hash.js';
import type { TriggerTable } from './trigger-table.js';

/** Where triggers write: our table of images, its names escaped. */
export interface ImagesTable {
  /** Its path, with its schema where there are such. */
  readonly path: string;
  /** Its plain name: our triggers and functions are called after it, so that two prefixes do not meet. */
  readonly name: string;
  /** The schema it stands in, on MySQL and MariaDB its database; `null` on SQLite. */
  readonly schema: string | null;
  readonly column: (
    property: 'seq' | 'tablePath' | 'op' | 'oldRow' | 'newRow' | 'context' | 'mergeKey' | 'createdAt',
  ) => string;
}

/** A trigger or a function of ours, as it should be. */
export interface TriggerObject {
  readonly name: string;
  /** The path of the table it stands on; `null` for a function. */
  readonly table: string | null;
  /** Of its definition: it stands in a comment of it, and tells whether what is installed is this one. */
  readonly hash: string;
  /** Statements, in their order. */
  readonly create: readonly string[];
  readonly drop: string;
}

/** One that was found in the database. */
export interface InstalledObject {
  readonly name: string;
  /** As the database says it: with its schema, where there are such. */
  readonly table: string | null;
  readonly hash: string | null;
  /** Somebody may have switched it off. */
  readonly isEnabled: boolean;
  readonly drop: string;
}

/** One family of databases. */
export interface TriggerDialect {
  /** What must be installed, in this order. */
  objects(tables: readonly TriggerTable[], images: ImagesTable): TriggerObject[];
  /** Lists what is installed, of these images only. */
  installed(images: ImagesTable): { readonly text: string; readonly objectOf: (row: never) => InstalledObject };
}

/** `/* nestjs-entity-webhooks 0123… *\/`: what ours are known by. */
const MARK = 'nestjs-entity-webhooks';

/** Puts the hash of a definition into it, where it says `{mark}`. */
export function marked(definition: string): { hash: string; text: string } {
  const hash = tupleHash('trigger', definition).toString('hex');
  return { hash, text: definition.replace('{mark}', () => `/* ${MARK} ${hash} */`) };
}

/** The hash in the text of an installed one; `null` where somebody has changed it. */
export function hashIn(text: string): string | null {
  return new RegExp(`/\\* ${MARK} ([0-9a-f]{32}) \\*/`).exec(text)?.[1] ?? null;
}

/** A text in SQL. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Names of databases end at 63 or 64 characters: what is too long is cut, and told apart by a hash. */
export function objectName(images: ImagesTable, operation: string, table: string): string {
  const plain = table.slice(0, 24).replaceAll('.', '_');
  return `${images.name.slice(0, 20)}_${operation}_${plain}_${tupleHash(images.path, table).toString('hex').slice(0, 8)}`;
}
