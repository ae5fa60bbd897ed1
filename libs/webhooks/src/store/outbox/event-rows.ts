import sql, { join, raw, Sql } from 'sql-template-tag';
import { EVERY_OWNER_KEY, ownerKeyOf } from '../../hash.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import type { TablesSql } from '../database/tables.js';
import { contextText } from '../../events/event-context.js';
import type { PayloadLimits } from '../../events/payload.js';
import { renderPayload } from '../../events/payload.js';
import type { NewEvent } from '../../events/webhook-event.js';

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
      ownerKeyFor(source),
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

/** By which a customer's replay finds what may reach it, and nothing else. */
function ownerKeyFor({ event, audience }: NewEvent): Buffer | null {
  if (audience === 'every') return EVERY_OWNER_KEY;
  return event.owner === null ? null : ownerKeyOf(event.owner);
}

/**
 * Rows of one statement: 15 parameters each, well under PostgreSQL's 65,535 and SQLite's 32,766. The next are rendered while the server
 * takes these, so fewer begin sooner, and more are fewer round trips.
 */
export const ROWS_PER_STATEMENT = 100;
/** PostgreSQL takes longer to plan thousands of parameters than to insert their rows; few rows cost less so. */
const ROWS_WORTH_LISTS = 8;

/** Multi-row inserts that every database takes: of bounded numbers of rows and lengths of payloads, in their order. */
export function* insertsOfEvents(
  { dialect, tables }: Pick<Database, 'dialect' | 'tables'>,
  rows: readonly EventRow[],
): Generator<Sql> {
  const lengthOf = ({ values }: EventRow) =>
    values.reduce<number>((sum, value) => sum + (typeof value === 'string' ? value.length : 0), 0);
  for (const some of chunks(rows, ROWS_PER_STATEMENT, lengthOf)) {
    const lists = dialect === 'postgres' && some.length >= ROWS_WORTH_LISTS ? insertFromLists(tables, some) : null;
    yield lists ?? insertEvents(tables, some);
  }
}

/** One insert of few rows; for many there is {@link insertsOfEvents}. What is null in all of them is not named. */
export function insertEvents({ events: { sql: path, $ } }: TablesSql, rows: readonly EventRow[]): Sql {
  const said = PROPERTIES.map((_, n) => n).filter((n) => rows.some(({ values }) => values[n] !== null));
  const columns = said.map((n) => $[PROPERTIES[n] as keyof typeof COLUMNS].sql);
  // Plain strings, as nested templates would take longer than the statement does on SQLite.
  const commas = said.slice(1).map(() => ',');
  const strings = [`insert into ${path.sql} (${columns.join()}) values (`, ...commas];
  for (let row = 1; row < rows.length; row++) strings.push('),(', ...commas);
  strings.push(')');
  return new Sql(
    strings,
    rows.flatMap(({ values }) => said.map((n) => values[n])),
  );
}

/** Takes events away that the same transaction has written. @param ids that one statement takes */
export function deletionOfEvents({ tables }: Pick<Database, 'tables'>, ids: readonly string[]): Sql {
  const { sql: path, $ } = tables.events;
  return sql`delete from ${path} where ${$.id} ${inList(ids)}`;
}

/** Columns of `EventRow.values`, in their order, and how they travel in a list. */
const COLUMNS = {
  id: 'text',
  type: 'text',
  superTypes: 'text',
  state: 'text',
  audience: 'text',
  owner: 'text',
  ownerKey: 'hash',
  orderKey: 'hash',
  ordered: 'bigint',
  dedupeKey: 'hash',
  payload: 'text',
  thinPayload: 'text',
  droppedFields: 'text',
  context: 'text',
  createdAt: 'bigint',
} as const;

const PROPERTIES = Object.keys(COLUMNS) as readonly (keyof typeof COLUMNS)[];

/** Between the values of a list: ASCII's record separator. JSON escapes it. */
const SEPARATOR = '\x1e';

/**
 * One insert of many rows on PostgreSQL, each column as one text that is split there; what all rows have in common is said once. Of rows
 * of 1 KB, by the hundred, that takes 11.5 us each, and 18 to 19 us as arrays, as JSON, or as `values`.
 *
 * @returns `null` where a value cannot stand in a list
 */
function insertFromLists({ events: { sql: path, $ } }: TablesSql, rows: readonly EventRow[]): Sql | null {
  const [{ values: first }] = rows as readonly [EventRow];
  const columns: Sql[] = [];
  const selected: Sql[] = [];
  const names: Sql[] = [];
  const lists: Sql[] = [];
  for (const [n, property] of PROPERTIES.entries()) {
    const kind = COLUMNS[property];
    if (rows.every(({ values }) => values[n] === first[n])) {
      if (first[n] === null) continue;
      selected.push(sql`cast(${first[n]} as ${CONSTANTS[kind]})`);
    } else {
      const texts = rows.map(({ values }) => listed(values[n]));
      if (texts.some((text) => text === null)) return null;
      const name = raw(`c${n}`);
      names.push(name);
      // What is empty is a null.
      lists.push(sql`string_to_array(${texts.join(SEPARATOR)}, chr(${raw(String(SEPARATOR.charCodeAt(0)))}), '')`);
      selected.push(kind === 'hash' ? sql`decode(r.${name}, 'hex')` : sql`cast(r.${name} as ${CONSTANTS[kind]})`);
    }
    columns.push($[property]);
  }
  // Sequences are drawn in this order.
  return sql`insert into ${path} (${join(columns)}) select ${join(selected)} from unnest(${join(lists)}) with ordinality as r(${join(names)}, n) order by r.n`;
}

const CONSTANTS = { text: raw('text'), bigint: raw('bigint'), hash: raw('bytea') } as const;

/** A value as it stands in a list; `null` where the list would be split in it, or it be taken for a null. */
function listed(value: unknown): string | null {
  if (value === null) return '';
  const text = Buffer.isBuffer(value) ? value.toString('hex') : String(value);
  return text === '' || text.includes(SEPARATOR) ? null : text;
}
