import sql, { join, raw, Sql } from 'sql-template-tag';
import { EVERY_OWNER_KEY, ownerKeyOf } from '../../hash.js';
import { chunks } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import type { TablesSql } from '../database/tables.js';
import { contextText } from '../../events/event-context.js';
import type { PayloadLimits } from '../../events/payload.js';
import { renderPayload } from '../../events/payload.js';
import type { NewEvent } from '../../events/webhook-event.js';

/** An event as a row: everything about it is decided, and its text is final. */
export interface EventRow {
  readonly source: NewEvent;
  readonly values: readonly unknown[];
}

/** @param identity the fields that a thin payload keeps; see {@link renderPayload} */
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

/** The key by which a customer's replay finds the events that may reach the customer, and no others. */
function ownerKeyFor({ event, audience }: NewEvent): Buffer | null {
  if (audience === 'every') return EVERY_OWNER_KEY;
  return event.owner === null ? null : ownerKeyOf(event.owner);
}

/**
 * Rows in one statement: 15 parameters each, well below PostgreSQL's 65,535 and SQLite's 32,766. The next rows are rendered while the
 * server inserts these. Fewer rows would start earlier, and more rows would need fewer round trips.
 */
export const ROWS_PER_STATEMENT = 100;
/** PostgreSQL takes longer to plan thousands of parameters than to insert their rows. For fewer rows than this, parameters are faster. */
const ROWS_WORTH_LISTS = 8;

/** Multi-row inserts for every database, in order, with a limited number of rows and length of payloads. */
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

/** One insert for few rows; for many rows use {@link insertsOfEvents}. It leaves out columns that are null in all rows. */
export function insertEvents({ events: { sql: path, $ } }: TablesSql, rows: readonly EventRow[]): Sql {
  const named = PROPERTIES.map((_, n) => n).filter((n) => rows.some(({ values }) => values[n] !== null));
  const columns = named.map((n) => $[PROPERTIES[n] as keyof typeof COLUMNS].sql);
  // Plain strings: on SQLite, nested templates would take longer than the statement.
  const commas = named.slice(1).map(() => ',');
  const strings = [`insert into ${path.sql} (${columns.join()}) values (`, ...commas];
  for (let row = 1; row < rows.length; row++) strings.push('),(', ...commas);
  strings.push(')');
  return new Sql(
    strings,
    rows.flatMap(({ values }) => named.map((n) => values[n])),
  );
}

/** Columns of `EventRow.values`, in order, and the type of each in a list. */
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

/** Separates the values of a list: ASCII's record separator. JSON escapes it. */
const SEPARATOR = '\x1e';

/**
 * One insert of many rows on PostgreSQL. Each column is one text, which the server splits; a value that all rows share is sent once. In
 * batches of 100 rows of 1 KB it takes 11.5 us per row; arrays, JSON and `values` take 18 to 19 us.
 *
 * @returns `null` if a list cannot hold one of the values
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
      // An empty text becomes a null.
      lists.push(sql`string_to_array(${texts.join(SEPARATOR)}, chr(${raw(String(SEPARATOR.charCodeAt(0)))}), '')`);
      selected.push(kind === 'hash' ? sql`decode(r.${name}, 'hex')` : sql`cast(r.${name} as ${CONSTANTS[kind]})`);
    }
    columns.push($[property]);
  }
  // Sequences are assigned in this order.
  return sql`insert into ${path} (${join(columns)}) select ${join(selected)} from unnest(${join(lists)}) with ordinality as r(${join(names)}, n) order by r.n`;
}

const CONSTANTS = { text: raw('text'), bigint: raw('bigint'), hash: raw('bytea') } as const;

/** A value as text in a list; `null` if it contains the separator, or if it is empty and would become a null. */
function listed(value: unknown): string | null {
  if (value === null) return '';
  const text = Buffer.isBuffer(value) ? value.toString('hex') : String(value);
  return text === '' || text.includes(SEPARATOR) ? null : text;
}
