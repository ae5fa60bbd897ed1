import sql, { join, type Sql } from 'sql-template-tag';
import type { Database } from './database.js';

/**
 * Conditions on the time of an event, for statements that find their rows by another key. They change no result. With partitioned tables
 * PostgreSQL reads and locks only the partitions of these times; without the condition, it would plan, lock and search each partition. Tables
 * without partitions get no condition: there, it could make the planner choose a worse index.
 */

/** ` and <column> between the first and the last of these times`. @param times in ms since 1970, of all rows that the statement must find */
export function atTimes({ isPartitioned }: Database, column: Sql, times: readonly unknown[]): Sql {
  if (!isPartitioned || !times.length) return sql``;
  let [first, last] = [Infinity, -Infinity];
  for (const time of times) {
    first = Math.min(first, Number(time));
    last = Math.max(last, Number(time));
  }
  return first === last ? sql` and ${column} = ${first}` : sql` and ${column} >= ${first} and ${column} <= ${last}`;
}

/** As {@link atTimes}, for rows that are found by public ids. Public ids of events and deliveries contain the time of the event. */
export function atTimesOf(database: Database, column: Sql, ids: readonly string[]): Sql {
  if (!database.isPartitioned) return sql``;
  const times = ids.map(timeInId).filter((time) => time !== null);
  // An id in another form is the id of no row. Without a time, the statement searches every partition, and finds nothing.
  return times.length === ids.length ? atTimes(database, column, times) : sql``;
}

/** ` and <column> = <other>`, for a join of events and deliveries that are found by their sequence. */
export function atSameTime({ isPartitioned }: Database, column: Sql, other: Sql): Sql {
  return isPartitioned ? sql` and ${join([column, other], ' = ')}` : sql``;
}

/** A public id with a UUIDv7. */
const ID = /^(?:evt|dlv)_([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** The time in the id of an event or a delivery, in ms since 1970; `null` if the id has another form. */
export function timeInId(id: string): number | null {
  const [, high, low] = ID.exec(id) ?? [];
  return high === undefined || low === undefined ? null : Number.parseInt(high + low, 16);
}
