import type { ListenerService } from 'nestjs-entity-webhooks';
import type { DataSource } from 'typeorm';
import { Parcel } from './parcel.js';

/** Which listeners to create, and how the n-th differs from the first. */
export interface CopiedListeners {
  readonly count: number;
  /**
   * `own`: topic `n`; `same`: topic 0 for all listeners; `range`: every topic above 0, with a filter without
   * equality.
   */
  readonly topics: 'own' | 'same' | 'range';
  /** `url/0`, `url/1`, … */
  readonly url: string;
}

/**
 * Marks the place in the first listener where a copy has its own number; no other text of the listener has these
 * digits.
 */
const NUMBER = 987_654_321;
const CHUNK = 10_000;

/** What PostgreSQL and MariaDB write differently. */
interface Dialect {
  /** The placeholder of the n-th parameter, from 1. */
  placeholder(n: number): string;
  quoted(name: string): string;
  /** A table of the numbers from `from` to before `to`, with the column `n`. */
  numbers(from: number, to: number): string;
  readonly currentSchema: string;
  /** Refreshes the statistics, as a server with these rows has done long ago. */
  analyze(tables: string): string;
}

const POSTGRES: Dialect = {
  placeholder: (n) => `$${n}`,
  quoted: (name) => `"${name}"`,
  numbers: (from, to) => `generate_series(${from}, ${to - 1}) numbers(n)`,
  currentSchema: 'current_schema()',
  analyze: (tables) => `vacuum analyze ${tables}`,
};

const MARIADB: Dialect = {
  placeholder: () => '?',
  quoted: (name) => `\`${name}\``,
  numbers: (from, to) => `(select seq as n from seq_${from}_to_${to - 1}) numbers`,
  currentSchema: 'database()',
  analyze: (tables) => `analyze table ${tables}`,
};

type RoutesOf = (listener: { owner: null; patterns: readonly string[]; filter: unknown }) => { keys: Buffer[] };

/**
 * Creates listeners faster than one by one. The service creates the first listener. Its rows are copied
 * with another id, another number in filter and URL, and the route keys that the library computes for that filter.
 */
export async function copyListeners(
  dataSource: DataSource,
  listeners: ListenerService,
  { count, topics, url }: CopiedListeners,
): Promise<void> {
  const dialect = dialectOf(dataSource);
  const where = { own: { topic: NUMBER }, same: { topic: 0 }, range: { topic: { gt: 0 } } }[topics];
  const first = await listeners.create({ entity: Parcel, where, url: `${url}/${NUMBER}` });
  const [row] = await dataSource.query<{ patterns: string; filter: string }[]>(
    `select patterns, filter from webhook_listeners where id = ${dialect.placeholder(1)}`,
    [first.id],
  );
  if (!row) throw new Error('The first listener is not in the table');
  const routesOf = await loadRoutesOf();
  const patterns = JSON.parse(row.patterns) as string[];
  const keysOf = (n: number): Buffer[] =>
    routesOf({ owner: null, patterns, filter: JSON.parse(numbered(row.filter, n)) as unknown }).keys;
  await expectKeys(dataSource, first.id, keysOf(NUMBER));

  for (let from = 0; from < count; from += CHUNK) {
    const to = Math.min(count, from + CHUNK);
    const ids = Array.from({ length: to - from }, (_, i) => copyId(from + i));
    await copyRows(dataSource, 'webhook_listeners', first.id, from, to);
    await copyRows(dataSource, 'webhook_listener_state', first.id, from, to);
    await insertRoutes(
      dataSource,
      ids.flatMap((id, i) => keysOf(from + i).map((key) => [key, id] as const)),
    );
  }
  await listeners.remove(first.id);
  const tables = ['webhook_listeners', 'webhook_listener_state', 'webhook_routes', 'webhook_route_paths'];
  await dataSource.query(dialect.analyze(tables.join(', ')));
}

function dialectOf(dataSource: DataSource): Dialect {
  return dataSource.options.type === 'postgres' ? POSTGRES : MARIADB;
}

async function insertRoutes(dataSource: DataSource, routes: readonly (readonly [Buffer, string])[]): Promise<void> {
  const { placeholder, quoted } = dialectOf(dataSource);
  const rows = routes.map((_, n) => `(${placeholder(2 * n + 1)}, ${placeholder(2 * n + 2)})`);
  await dataSource.query(
    `insert into webhook_routes (${quoted('key')}, listener_id) values ${rows.join(', ')}`,
    routes.flat(),
  );
}

function copyId(n: number): string {
  return `lst_copy_${n}`;
}

function numbered(text: string, n: number): string {
  return text.replaceAll(String(NUMBER), String(n));
}

/** Copies every column of a table, except for the id of the listener and its number. */
async function copyRows(dataSource: DataSource, table: string, id: string, from: number, to: number): Promise<void> {
  const { placeholder, quoted, numbers, currentSchema } = dialectOf(dataSource);
  const columns = await dataSource.query<{ name: string; type: string }[]>(
    `select column_name as name, data_type as type from information_schema.columns
     where table_schema = ${currentSchema} and table_name = ${placeholder(1)} and column_name <> 'seq'`,
    [table],
  );
  const own = table === 'webhook_listeners' ? 'id' : 'listener_id';
  const values = columns.map(({ name, type }) => {
    if (name === own) return "concat('lst_copy_', n)";
    return /text|char/.test(type) ? `replace(t.${quoted(name)}, '${NUMBER}', concat('', n))` : `t.${quoted(name)}`;
  });
  await dataSource.query(
    `insert into ${table} (${columns.map(({ name }) => quoted(name)).join(', ')})
     select ${values.join(', ')} from ${table} t, ${numbers(from, to)} where t.${own} = ${placeholder(1)}`,
    [id],
  );
}

async function loadRoutesOf(): Promise<RoutesOf> {
  const file = new URL('./routing/route-key.js', import.meta.resolve('nestjs-entity-webhooks'));
  return ((await import(file.href)) as { routesOf: RoutesOf }).routesOf;
}

/** Checks that the copied rows equal rows that the library writes. */
async function expectKeys(dataSource: DataSource, id: string, keys: readonly Buffer[]): Promise<void> {
  const { placeholder, quoted } = dialectOf(dataSource);
  const rows = await dataSource.query<{ key: Buffer }[]>(
    `select ${quoted('key')} from webhook_routes where listener_id = ${placeholder(1)}`,
    [id],
  );
  const hex = (all: readonly Buffer[]): string =>
    all
      .map((key) => key.toString('hex'))
      .toSorted()
      .join();
  if (hex(rows.map(({ key }) => key)) !== hex(keys))
    throw new Error('The library computes other route keys than the copied rows have: adapt copyListeners()');
}
