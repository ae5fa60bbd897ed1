import sql, { bulk, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../hash.js';
import { chunks } from '../store/chunks.js';
import type { TablesSql } from '../store/tables.js';
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
  const payload = renderPayload(event, identity, limits);
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
      source.context ? JSON.stringify(source.context) : null,
      source.createdAt,
    ],
  };
}

/** Rows of one statement: 15 parameters each, well under PostgreSQL's 65,535 and SQLite's 32,766. */
const ROWS_PER_STATEMENT = 400;

/** Multi-row inserts that every database takes: of bounded numbers of rows and lengths of payloads. */
export function* insertsOfEvents(tables: TablesSql, rows: readonly EventRow[]): Generator<Sql> {
  const lengthOf = ({ values }: EventRow) =>
    values.reduce<number>((sum, value) => sum + (typeof value === 'string' ? value.length : 0), 0);
  for (const some of chunks(rows, ROWS_PER_STATEMENT, lengthOf)) yield insertEvents(tables, some);
}

/** One insert of few rows; for many there is {@link insertsOfEvents}. */
export function insertEvents(tables: TablesSql, rows: readonly EventRow[]): Sql {
  const { sql: path, $ } = tables.events;
  return sql`insert into ${path} (${$.id}, ${$.type}, ${$.superTypes}, ${$.state}, ${$.audience}, ${$.owner}, ${$.ownerKey}, ${$.orderKey}, ${$.ordered}, ${$.dedupeKey}, ${$.payload}, ${$.thinPayload}, ${$.droppedFields}, ${$.context}, ${$.createdAt}) values ${bulk(rows.map((row) => row.values))}`;
}
