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

type RoutesOf = (listener: { owner: null; patterns: readonly string[]; filter: unknown }) => { keys: Buffer[] };

/**
 * Creates listeners on PostgreSQL faster than one by one. The service creates the first listener. Its rows are copied
 * with another id, another number in filter and URL, and the route keys that the library computes for that filter.
 */
export async function copyListeners(
  dataSource: DataSource,
  listeners: ListenerService,
  { count, topics, url }: CopiedListeners,
): Promise<void> {
  const where = { own: { topic: NUMBER }, same: { topic: 0 }, range: { topic: { gt: 0 } } }[topics];
  const first = await listeners.create({ entity: Parcel, where, url: `${url}/${NUMBER}` });
  const [row] = await dataSource.query<{ patterns: string; filter: string }[]>(
    'select patterns, filter from webhook_listeners where id = $1',
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
    const routes = ids.flatMap((id, i) => keysOf(from + i).map((key) => ({ key, id })));
    await dataSource.query(
      'insert into webhook_routes (key, listener_id) select * from unnest($1::bytea[], $2::text[])',
      [routes.map(({ key }) => key), routes.map(({ id }) => id)],
    );
  }
  await listeners.remove(first.id);
  // A server with these rows has run ANALYZE long ago.
  await dataSource.query(
    'vacuum analyze webhook_listeners, webhook_listener_state, webhook_routes, webhook_route_paths',
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
  const columns = await dataSource.query<{ name: string; type: string }[]>(
    `select column_name as name, data_type as type from information_schema.columns
     where table_schema = current_schema() and table_name = $1 and column_name <> 'seq'`,
    [table],
  );
  const own = table === 'webhook_listeners' ? 'id' : 'listener_id';
  const values = columns.map(({ name, type }) => {
    if (name === own) return "'lst_copy_' || n";
    return type === 'text' ? `replace(t."${name}", '${NUMBER}', n::text)` : `t."${name}"`;
  });
  await dataSource.query(
    `insert into ${table} (${columns.map(({ name }) => `"${name}"`).join(', ')})
     select ${values.join(', ')} from ${table} t, generate_series($2::int, $3::int - 1) n where t.${own} = $1`,
    [id, from, to],
  );
}

async function loadRoutesOf(): Promise<RoutesOf> {
  const file = new URL('./routing/route-key.js', import.meta.resolve('nestjs-entity-webhooks'));
  return ((await import(file.href)) as { routesOf: RoutesOf }).routesOf;
}

/** Checks that the copied rows equal rows that the library writes. */
async function expectKeys(dataSource: DataSource, id: string, keys: readonly Buffer[]): Promise<void> {
  const rows = await dataSource.query<{ key: Buffer }[]>('select key from webhook_routes where listener_id = $1', [id]);
  const hex = (all: readonly Buffer[]): string =>
    all
      .map((key) => key.toString('hex'))
      .toSorted()
      .join();
  if (hex(rows.map(({ key }) => key)) !== hex(keys))
    throw new Error('The library computes other route keys than the copied rows have: adapt copyListeners()');
}
