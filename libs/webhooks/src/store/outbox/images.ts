import sql, { type Sql } from 'sql-template-tag';
import { insertChores } from '../database/chores.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { execute, query, type Script } from '../database/script.js';
import { SKIP_MARK } from './marks.js';

/** A change that a trigger has stored. */
export interface StoredImage {
  readonly seq: unknown;
  /** The path of the table in TypeORM's form. */
  readonly tablePath: string;
  readonly op: string;
  /** JSON with column names as keys. `null` if the row did not exist. */
  readonly oldRow: string | null;
  readonly newRow: string | null;
  readonly context: string | null;
  /** Changes of one row in one transaction that are merged into one event have the same key. `null` if each change becomes an event. */
  readonly mergeKey: string | null;
  readonly createdAt: unknown;
}

/** The name of a chore. One process converts images at a time, because the process locks the chore with this name. */
const CONVERSION = 'convert-images';

/**
 * The first image that may be converted, as an expression. Images of tables that this process does not know are left to other processes.
 * Images that are marked as damaged are skipped. There are few damaged images, so the primary key is enough. A further index would slow
 * down writers.
 */
export function firstImage(database: Database, tablePaths: readonly string[]): Sql {
  const { images: i } = database.tables;
  const first = sql`(select i.${i.$.seq} from ${i.sql} i where ${isConvertible(database, tablePaths)} order by i.${i.$.seq} limit 1)`;
  if (database.dialect !== 'sqlite') return first;
  // A stale mark counts as an image, because the next conversion removes the mark.
  return sql`coalesce((select i.${i.$.seq} from ${i.sql} i where i.${i.$.seq} < 0 limit 1), ${first})`;
}

/** The time at which the oldest pending image was captured. @param tablePaths the tables whose images this process converts */
export function oldestImageAt(database: Database, tablePaths: readonly string[]): Sql {
  const { images: i } = database.tables;
  return sql`(select i.${i.$.createdAt} from ${i.sql} i where ${isConvertible(database, tablePaths)} order by i.${i.$.seq} limit 1)`;
}

/**
 * Deletes transaction marks that a transaction has left behind on SQLite. A mark is a row that means "store no images", or that stores the
 * context of the changes. A mark must never be committed, because a committed mark affects every writer of the file.
 *
 * Run this script in a transaction of the module. SQLite has one writer at a time. So a mark that is visible in this transaction belongs to
 * no open transaction.
 *
 * @returns the kind of mark, for the log; `null` if there was no mark
 */
export function* removeStaleMarks(database: Database): Script<'skip' | 'other' | null> {
  if (database.dialect !== 'sqlite') return null;
  const { images: i } = database.tables;
  const { sql: path, $ } = i;
  const found = yield* query<{ seq: unknown }>(sql`select ${i.select('i', 'seq')} from ${path} i where i.${$.seq} < 0`);
  if (!found.length) return null;
  yield* execute(sql`delete from ${path} where ${$.seq} < 0`);
  return found.some(({ seq }) => Number(seq) === SKIP_MARK) ? 'skip' : 'other';
}

/** Whether there is an image that may be converted. */
export function* hasImages(database: Database, tablePaths: readonly string[]): Script<boolean> {
  const [row] = yield* query<{ first: unknown }>(sql`select ${firstImage(database, tablePaths)} as first`);
  return row?.first !== null && row?.first !== undefined;
}

/**
 * Makes this transaction the only transaction that converts images.
 *
 * If two conversions ran at the same time, each of them could have a part of one row's changes. The two conversions could then commit in
 * either order.
 *
 * @returns `false` while another transaction converts
 */
export function* lockConversion(database: Database): Script<boolean> {
  if (database.dialect === 'sqlite') return true;
  const { chores: c } = database.tables;
  const find = (lock: Sql) =>
    sql`select ${c.select('c', 'seq')} from ${c.sql} c where c.${c.$.name} = ${CONVERSION}${lock}`;
  if ((yield* query(find(database.skipLocked))).length) return true;
  if ((yield* query(find(sql``))).length) return false;
  yield* insertChores(database, [CONVERSION], 0);
  return (yield* query(find(database.skipLocked))).length > 0;
}

/**
 * The oldest pending images. The changes of a row are in the order of their sequence, because the sequence is assigned while the writer
 * holds the row.
 */
export function* readImages(
  database: Database,
  { tablePaths, limit }: { tablePaths: readonly string[]; limit: number },
): Script<StoredImage[]> {
  return yield* query<StoredImage>(
    sql`${selection(database)} where ${isConvertible(database, tablePaths)} order by i.${database.tables.images.$.seq} limit ${limit}`,
  );
}

/**
 * The other images that are merged with some of the oldest images, in order. The transactions of these images have committed, so all of the
 * images are visible.
 */
export function* readRestOfMerged(
  database: Database,
  oldest: readonly StoredImage[],
  { tablePaths, limit }: { tablePaths: readonly string[]; limit: number },
): Script<StoredImage[]> {
  const keys = new Set(oldest.map(({ mergeKey }) => mergeKey).filter((key) => key !== null));
  const last = oldest.at(-1);
  if (!keys.size || !last) return [];
  const { $ } = database.tables.images;
  // Without `is not null`, SQLite would not use its partial index.
  return yield* query<StoredImage>(
    sql`${selection(database)} where i.${$.mergeKey} is not null and i.${$.mergeKey} ${inList([...keys])} and i.${$.seq} > ${last.seq} and ${isConvertible(database, tablePaths)} order by i.${$.seq} limit ${limit}`,
  );
}

function selection({ tables: { images: i } }: Database): Sql {
  return sql`select ${i.select('i', 'seq', 'tablePath', 'op', 'oldRow', 'newRow', 'context', 'mergeKey', 'createdAt')} from ${i.sql} i`;
}

export function* deleteImages(database: Database, images: readonly Pick<StoredImage, 'seq'>[]): Script<void> {
  const { sql: path, $ } = database.tables.images;
  for (const some of chunks(images)) {
    yield* execute(sql`delete from ${path} where ${$.seq} ${inList(some.map(({ seq }) => seq))}`);
  }
}

/** Marks an image as damaged. The image stays in the table, and is not converted until `reason` is null again. */
export function* markImageDamaged(database: Database, { seq }: Pick<StoredImage, 'seq'>, reason: string): Script<void> {
  const { sql: path, $ } = database.tables.images;
  yield* execute(sql`update ${path} set ${$.reason} = ${reason.replaceAll('\0', '\ufffd')} where ${$.seq} = ${seq}`);
}

/** Deletes damaged images that are older than a time. Damaged events have the same retention. */
export function* pruneImages(database: Database, before: number): Script<void> {
  const { sql: path, $ } = database.tables.images;
  yield* execute(sql`delete from ${path} where ${$.reason} is not null and ${$.createdAt} < ${before}`);
}

function isConvertible({ tables: { images: i } }: Database, tablePaths: readonly string[]): Sql {
  return sql`i.${i.$.reason} is null and i.${i.$.tablePath} ${inList(tablePaths)}`;
}
