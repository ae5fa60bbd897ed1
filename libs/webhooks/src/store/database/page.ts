import sql, { type Sql } from 'sql-template-tag';
import { BadRequestError } from '../../errors.js';
import { textOf } from '../../foreign-text.js';
import type { DialectName } from '../../dialect.js';

/** One page of a list, newest first. */
export interface WebhookPage<T> {
  items: T[];
  /** Give it back as `cursor` for the next page; `null` on the last one. Opaque. */
  next: string | null;
}

export interface WebhookPageOptions {
  /** Items of a page, 1 to 500. @defaultValue 50 */
  limit?: number;
  /** `next` of the page before. */
  cursor?: string;
}

/** Where a page ended: the time of its last item, and its sequence where several share a time. */
export interface PagePosition {
  readonly at: number;
  readonly seq: string;
}

/**
 * What comes after a position in a list that is newest first, as a bound of the index over both columns: every page costs the
 * same. MySQL makes none of a comparison of pairs, and PostgreSQL and SQLite none of the long form.
 */
export function isAfter(dialect: DialectName, createdAt: Sql, seq: Sql, { at, seq: last }: PagePosition): Sql {
  if (dialect !== 'mysql') return sql`(${createdAt}, ${seq}) < (${at}, ${last})`;
  return sql`${createdAt} <= ${at} and (${createdAt} < ${at} or ${seq} < ${last})`;
}

const MAX_LIMIT = 500;
const DEFAULT_LIMIT = 50;
const MAX_SEQUENCE = 2n ** 63n - 1n;

/** @throws BadRequestError `INVALID_LIMIT` or `INVALID_CURSOR` */
export function readPage(options: WebhookPageOptions): { limit: number; after: PagePosition | null } {
  const limit = options.limit ?? DEFAULT_LIMIT;
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new BadRequestError('INVALID_LIMIT', `limit must be a whole number from 1 to ${MAX_LIMIT}`);
  }
  return { limit, after: options.cursor === undefined ? null : readCursor(options.cursor) };
}

/** Cuts a page from `limit + 1` rows. */
export function page<R, T>(
  rows: readonly R[],
  limit: number,
  positionOf: (row: R) => PagePosition,
  toItem: (row: R) => T,
): WebhookPage<T> {
  const shown = rows.slice(0, limit);
  const last = shown[shown.length - 1];
  return {
    items: shown.map(toItem),
    next: rows.length > limit && last !== undefined ? writeCursor(positionOf(last)) : null,
  };
}

function writeCursor({ at, seq }: PagePosition): string {
  return Buffer.from(`${at}.${seq}`).toString('base64url');
}

function readCursor(cursor: string): PagePosition {
  const match = /^(\d{1,16})\.(\d{1,19})$/.exec(Buffer.from(textOf(cursor), 'base64url').toString());
  // PostgreSQL would answer a sequence beyond bigint with an error of its own.
  if (!match || BigInt(match[2] as string) > MAX_SEQUENCE) {
    throw new BadRequestError('INVALID_CURSOR', 'cursor is not one that a list gave');
  }
  return { at: Number(match[1]), seq: match[2] as string };
}
