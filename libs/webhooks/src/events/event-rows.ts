import sql, { bulk, join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../hash.js';
import { chunks, inList } from '../store/chunks.js';
import type { Database } from '../store/database.js';
import { jsonRows, jsonValue } from '../store/json-rows.js';
import type { TablesSql } from '../store/tables.js';
import { contextText } from './event-context.js';
import type { PayloadLimits } from './payload.js';
import { renderPayload } from './payload.js';
import type { NewEvent } from './webhook-event.js';

/** An event as a row: everything about it is decided, and its text is what will be sent. */
export interface EventRow {
  readonly source: NewEvent;
  readonly values: readonly unknown[];
}

/** `identity`: the fields a thin payload keeps; see {@link renderPayload}. */
export function eventRow(source: NewEvent, identity: readonly string[], limits: PayloadLimits): EventRow {
  const { event } = source;
  const payload = renderPayload(event, identity, limits, source.audience === 'test');
  return {
    source,
    values: [
      event.id,
      event.type,
      source.superTypes.length ? JSON.stringify(source.superTypes) : null,
      'pending',
      source.audience,
      event.owner,
      event.owner === null ? null : ownerKeyOf(event.owner),
      source.orderKey,
      source.isOrdered ? 1 : 0,
      source.dedupeKey,
      payload.text,
      payload.thin,
      payload.dropped ? JSON.stringify(payload.dropped) : null,
      contextText({ context: event.context, depth: source.depth }),
      source.createdAt,
    ],
  };
}

/**
 * Rows of one statement: 15 parameters each, well under PostgreSQL's 65,535 and SQLite's 32,766. Drivers and servers copy a text of
 * megabytes again and again: on PostgreSQL rows of 1 KB cost 42 us each by the four hundred, and 23 by the hundred.
 */
export const ROWS_PER_STATEMENT = 100;
/** PostgreSQL takes longer to plan thousands of parameters than to insert their rows; a few cost less than JSON does. */
const ROWS_WORTH_JSON = 8;

/** Multi-row inserts that every database takes: of bounded numbers of rows and lengths of payloads, in their order. */
export function* insertsOfEvents(
  { dialect, tables }: Pick<Database, 'dialect' | 'tables'>,
  rows: readonly EventRow[],
): Generator<Sql> {
  const lengthOf = ({ values }: EventRow) =>
    values.reduce<number>((sum, value) => sum + (typeof value === 'string' ? value.length : 0), 0);
  for (const some of chunks(rows, ROWS_PER_STATEMENT, lengthOf)) {
    yield dialect === 'postgres' && some.length >= ROWS_WORTH_JSON
      ? insertFromJson(tables, some)
      : insertEvents(tables, some);
  }
}

/** One insert of few rows; for many there is {@link insertsOfEvents}. What is null in all of them is not named. */
export function insertEvents({ events: { sql: path, $ } }: TablesSql, rows: readonly EventRow[]): Sql {
  const said = PROPERTIES.map((_, n) => n).filter((n) => rows.some(({ values }) => values[n] !== null));
  const columns = join(said.map((n) => $[PROPERTIES[n] as keyof typeof COLUMNS]));
  return sql`insert into ${path} (${columns}) values ${bulk(rows.map(({ values }) => said.map((n) => values[n])))}`;
}

/** Takes events away that the same transaction has written. @param ids that one statement takes */
export function deletionOfEvents({ tables }: Pick<Database, 'tables'>, ids: readonly string[]): Sql {
  const { sql: path, $ } = tables.events;
  return sql`delete from ${path} where ${$.id} ${inList(ids)}`;
}

/** Columns of `EventRow.values`, in their order, and how they travel in JSON. */
const COLUMNS = {
  ...({ id: 'text', type: 'text', superTypes: 'text', state: 'text', audience: 'text', owner: 'text' } as const),
  ...({ ownerKey: 'hash', orderKey: 'hash', ordered: 'bigint', dedupeKey: 'hash', payload: 'text' } as const),
  ...({ thinPayload: 'text', droppedFields: 'text', context: 'text', createdAt: 'bigint' } as const),
} as const;

const PROPERTIES = Object.keys(COLUMNS) as readonly (keyof typeof COLUMNS)[];

function insertFromJson({ events: { sql: path, $ } }: TablesSql, rows: readonly EventRow[]): Sql {
  const types = Object.values(COLUMNS);
  const names = types.map((_, n) => `c${n}`);
  const given = rows.map(({ values }, row) => {
    const one: Record<string, string | number | undefined> = { n: row };
    // A null is a key that is not there.
    values.forEach((value, n) => {
      if (value !== null) one[names[n] as string] = Buffer.isBuffer(value) ? value.toString('hex') : (value as string);
    });
    return one;
  });
  const columns = Object.fromEntries([['n', 'bigint'], ...types.map((type, n) => [names[n], type])]) as Record<
    string,
    (typeof types)[number]
  >;
  const values = types.map((type, n) => jsonValue('postgres', `c${n}`, type));
  // Sequences are drawn in this order.
  return sql`insert into ${path} (${join(PROPERTIES.map((property) => $[property]))}) select ${join(values)} from ${jsonRows('postgres', columns, given)} order by r.n`;
}
