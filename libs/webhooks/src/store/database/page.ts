import sql, { type Sql } from 'sql-template-tag';
import { BadRequestError } from '../../errors.js';
import { textOf } from '../../foreign-text.js';
import { show } from '../../show.js';
import type { DialectName } from '../../dialect.js';

/** One page of a list, newest first. */
export interface WebhookPage<T> {
  items: T[];
  /** Pass this value as `cursor` to get the next page. `null` on the last page. Do not parse the value. */
  next: string | null;
}

export interface WebhookPageOptions {
  /** Items per page, 1 to 500. @defaultValue 50 */
  limit?: number;
  /** The `next` of the previous page. */
  cursor?: string;
}

/** The end of a page: the time of the last item, and the sequence for items with the same time. */
export interface PagePosition {
  readonly at: number;
  readonly seq: string;
}

/**
 * The condition for items after a position in a list that is newest first. The database uses this condition as a bound of the index over
 * both columns. So every page costs the same. MySQL cannot use the index for a comparison of pairs. PostgreSQL and SQLite cannot use the
 * index for the long form of the condition.
 */
export function isAfter(dialect: DialectName, createdAt: Sql, seq: Sql, { at, seq: last }: PagePosition): Sql {
  if (dialect !== 'mysql') return sql`(${createdAt}, ${seq}) < (${at}, ${last})`;
  return sql`${createdAt} <= ${at} and (${createdAt} < ${at} or ${seq} < ${last})`;
}

/**
 * The maximum number of rows that a page reads if no index serves its filter. Such a page may have few items although another page follows.
 */
export const MAX_SCANNED = 20_000;

/** The position of the last row that a page may read: the last of {@link MAX_SCANNED} rows, if there are more. */
export type ScanEnd = PagePosition | null;

/** The condition for items up to and including a position; the opposite of {@link isAfter}. */
export function isUpTo(dialect: DialectName, createdAt: Sql, seq: Sql, { at, seq: last }: PagePosition): Sql {
  if (dialect !== 'mysql') return sql`(${createdAt}, ${seq}) >= (${at}, ${last})`;
  return sql`${createdAt} >= ${at} and (${createdAt} > ${at} or ${seq} >= ${last})`;
}

const MAX_LIMIT = 500;
const DEFAULT_LIMIT = 50;
const MAX_SEQUENCE = 2n ** 63n - 1n;

/** @throws BadRequestError `INVALID_LIMIT` or `INVALID_CURSOR` */
export function readPage(options: WebhookPageOptions): { limit: number; after: PagePosition | null } {
  const limit = options.limit ?? DEFAULT_LIMIT;
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new BadRequestError(
      'INVALID_LIMIT',
      `Invalid value ${show(limit)} for \`limit\`. Allowed: a whole number from 1 to ${MAX_LIMIT}.`,
    );
  }
  return { limit, after: options.cursor === undefined ? null : readCursor(options.cursor) };
}

/**
 * Returns the page for `limit + 1` rows. The additional row shows whether another page follows. @param scanEnd where the next page begins
 * if there are fewer rows than the limit, although more may follow
 */
export function page<R, T extends object>(
  rows: readonly R[],
  limit: number,
  positionOf: (row: R) => PagePosition,
  toItem: (row: R) => T,
  scanEnd: ScanEnd = null,
): WebhookPage<T> {
  const shown = rows.slice(0, limit);
  const items = shown.map(toItem);
  for (const [n, item] of items.entries()) POSITIONS.set(item, positionOf(shown[n] as R));
  const last = shown[shown.length - 1];
  const isFull = rows.length > limit && last !== undefined;
  const end = isFull ? positionOf(last) : scanEnd;
  return { items, next: end && writeCursor(end) };
}

/** The positions of listed items. An item itself has no sequence, but a page that is merged from several lists must end anywhere. */
const POSITIONS = new WeakMap<object, PagePosition>();

/** The position of an item of a page; `undefined` for an item that has no row yet. @internal */
export function positionOfItem(item: object): PagePosition | undefined {
  return POSITIONS.get(item);
}

/** The cursor of a page that begins after this position. @internal */
export function writeCursor({ at, seq }: PagePosition): string {
  return Buffer.from(`${at}.${seq}`).toString('base64url');
}

/** @throws BadRequestError `INVALID_CURSOR` @internal */
export function readCursor(cursor: string): PagePosition {
  const match = /^(\d{1,16})\.(\d{1,19})$/.exec(Buffer.from(textOf(cursor), 'base64url').toString());
  // Check the size here. PostgreSQL would reject a sequence beyond bigint with an error of the database.
  if (!match || BigInt(match[2] as string) > MAX_SEQUENCE) throw invalidCursor();
  return { at: Number(match[1]), seq: match[2] as string };
}

/** @internal */
export function invalidCursor(): BadRequestError {
  return new BadRequestError('INVALID_CURSOR', 'Invalid `cursor`. Pass the `next` of an earlier page, unchanged.');
}
