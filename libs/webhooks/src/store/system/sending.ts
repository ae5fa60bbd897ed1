import sql, { type Sql } from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { skipConflict } from '../database/dialect-sql.js';
import { execute, query, type Script } from '../database/script.js';

/** Name of the row that says whether sending is paused. */
const SENDING = 'sending';

/** The row that says whether sending is paused. Times are in ms since 1970. */
export interface SendingState {
  readonly paused: boolean;
  /** The reason of the pause; `null` if none was given, or if sending is not paused. */
  readonly reason: string | null;
  /** When sending was last paused or resumed; `null`: never. */
  readonly since: number | null;
  /** Who paused or resumed sending. */
  readonly actor: string | null;
  /** The total duration of the pauses that can still affect the age of a pending delivery. */
  readonly pausedMs: number;
}

/** The state before sending was paused for the first time. */
export const SENDING_ON: SendingState = { paused: false, reason: null, since: null, actor: null, pausedMs: 0 };

/** A change of the switch. */
export interface SendingChange {
  readonly paused: boolean;
  readonly reason: string | null;
  readonly actor: string | null;
  readonly now: number;
  /** The maximum age of a delivery. */
  readonly maxAgeMs: number;
}

/** A column with the state, for queries that also read other things. {@link parseSending} reads its value. */
export function selectSending({ tables: { settings: s } }: Database): Sql {
  return sql`(select s.${s.$.value} from ${s.sql} s where s.${s.$.name} = ${SENDING})`;
}

export function parseSending(value: string | null | undefined): SendingState {
  return value === null || value === undefined ? SENDING_ON : (JSON.parse(value) as SendingState);
}

export function* readSending(database: Database): Script<SendingState> {
  const [row] = yield* query<{ value: string | null }>(sql`select ${selectSending(database)} as value`);
  return parseSending(row?.value);
}

/** Pauses or resumes sending. @returns the state, and whether it was the opposite before */
export function* writeSending(
  database: Database,
  change: SendingChange,
): Script<{ state: SendingState; isChanged: boolean }> {
  const { settings: s } = database.tables;
  const { sql: path, $ } = s;
  yield sql`insert into ${path} (${$.name}, ${$.value}, ${$.updatedAt}) values (${SENDING}, ${JSON.stringify(SENDING_ON)}, ${change.now})${skipConflict(database.dialect, [$.name])}`;
  const [row] = yield* query<{ value: string }>(
    sql`select ${s.select('s', 'value')} from ${path} s where s.${$.name} = ${SENDING}${database.forUpdate}`,
  );
  const before = parseSending(row?.value);
  const state = afterChange(before, change);
  if (state === before) return { state, isChanged: false };
  yield* execute(
    sql`update ${path} set ${$.value} = ${JSON.stringify(state)}, ${$.updatedAt} = ${change.now} where ${$.name} = ${SENDING}`,
  );
  return { state, isChanged: state.paused !== before.paused };
}

function afterChange(before: SendingState, { paused, reason, actor, now, maxAgeMs }: SendingChange): SendingState {
  if (paused && before.paused) return { ...before, reason, actor };
  if (paused) return { paused, reason, since: now, actor, pausedMs: pausedTime(before, now, maxAgeMs) };
  if (!before.paused) return before;
  return { paused, reason: null, since: now, actor, pausedMs: pausedTime(before, now, maxAgeMs) };
}

/**
 * How much older than the maximum age a pending delivery may be: the duration of the pauses. A pause counts until the maximum age has
 * passed since its end. After that, no delivery is left that waited during the pause.
 */
export function pausedTime({ paused, since, pausedMs }: SendingState, now: number, maxAgeMs: number): number {
  if (since === null) return 0;
  if (paused) return pausedMs + Math.max(0, now - since);
  return now - since < maxAgeMs + pausedMs ? pausedMs : 0;
}
