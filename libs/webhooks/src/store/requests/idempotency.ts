import sql from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { newLease } from '../../ids.js';
import { DAY } from '../../time.js';
import type { Database } from '../database/database.js';
import { skipConflict } from '../database/dialect-sql.js';
import { inList } from '../database/chunks.js';
import { execute, query, type Script } from '../database/script.js';

/** The row of a request with an idempotency key. */
export interface IdempotentRequest {
  readonly bodyHash: Buffer;
  /** Identifies the process that handles the request. */
  readonly token: string;
  /** `null` while the request is being handled. */
  readonly status: number | null;
  readonly answer: string | null;
  readonly createdAt: number;
}

/** How long a key is known, in ms. */
export const KEY_KNOWN_FOR_MS = DAY;

/** How many expired rows one request deletes. This is more than it adds, so the table does not grow. */
const DELETED_AT_ONCE = 20;

/**
 * Takes a key for a request.
 *
 * @param options `expiredBefore`: rows from before this time do not count. `abandonedBefore`: a request that began before this time and has
 * no answer was handled by a process that died
 * @returns `null` if the request may be handled; otherwise the request that has the key
 */
export function* takeKey(
  database: Database,
  options: {
    key: Buffer;
    bodyHash: Buffer;
    owner: string | null;
    now: number;
    expiredBefore: number;
    abandonedBefore: number;
  },
): Script<IdempotentRequest | null> {
  const { sql: path, $ } = database.tables.idempotency;
  const { key, bodyHash, owner, now, expiredBefore, abandonedBefore } = options;
  yield* deleteExpired(database, expiredBefore);
  const isOver = sql`(${$.createdAt} < ${expiredBefore} or (${$.status} is null and ${$.createdAt} < ${abandonedBefore}))`;
  yield* execute(sql`delete from ${path} where ${$.key} = ${key} and ${isOver}`);
  const token = newLease();
  yield* execute(
    sql`insert into ${path} (${$.key}, ${$.bodyHash}, ${$.ownerKey}, ${$.token}, ${$.createdAt}) values (${key}, ${bodyHash}, ${owner === null ? null : ownerKeyOf(owner)}, ${token}, ${now})${skipConflict(database.dialect, [$.key])}`,
  );
  const row = yield* readKey(database, key);
  return row?.token === token ? null : row;
}

function* readKey(database: Database, key: Buffer): Script<IdempotentRequest | null> {
  const { idempotency: i } = database.tables;
  const [row] = yield* query<{
    bodyHash: Uint8Array;
    token: string;
    status: unknown;
    answer: string | null;
    createdAt: unknown;
  }>(
    sql`select ${i.select('i', 'bodyHash', 'token', 'status', 'answer', 'createdAt')} from ${i.sql} i where i.${i.$.key} = ${key}`,
  );
  if (!row) return null;
  const { bodyHash, token, status, answer, createdAt } = row;
  return {
    bodyHash: Buffer.from(bodyHash),
    token,
    status: status === null ? null : Number(status),
    answer,
    createdAt: Number(createdAt),
  };
}

/** Keeps the answer to a request. */
export function* keepAnswer(database: Database, key: Buffer, status: number, answer: string | null): Script<void> {
  const { sql: path, $ } = database.tables.idempotency;
  yield* execute(sql`update ${path} set ${$.status} = ${status}, ${$.answer} = ${answer} where ${$.key} = ${key}`);
}

/** The request was refused and did nothing, so its key may be used again. */
export function* freeKey(database: Database, key: Buffer): Script<void> {
  const { sql: path, $ } = database.tables.idempotency;
  yield* execute(sql`delete from ${path} where ${$.key} = ${key}`);
}

/** Deletes the stored requests of an owner. */
export function* eraseAnswers(database: Database, owner: string): Script<void> {
  const { sql: path, $ } = database.tables.idempotency;
  yield* execute(sql`delete from ${path} where ${$.ownerKey} = ${ownerKeyOf(owner)}`);
}

/** Deletes expired rows even if no more requests arrive. */
export function* pruneAnswers(database: Database, before: number): Script<void> {
  const { sql: path, $ } = database.tables.idempotency;
  yield* execute(sql`delete from ${path} where ${$.createdAt} < ${before}`);
}

function* deleteExpired(database: Database, before: number): Script<void> {
  const { idempotency: i } = database.tables;
  const rows = yield* query<{ seq: unknown }>(
    sql`select ${i.select('i', 'seq')} from ${i.sql} i where i.${i.$.createdAt} < ${before} order by i.${i.$.createdAt} limit ${DELETED_AT_ONCE}`,
  );
  if (rows.length) yield* execute(sql`delete from ${i.sql} where ${i.$.seq} ${inList(rows.map(({ seq }) => seq))}`);
}
