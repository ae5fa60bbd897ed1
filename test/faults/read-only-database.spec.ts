import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { DataSource } from 'typeorm';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { describeDatabases, type FreshDatabase, type TestDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { listenToLog, type Said } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const DELIVERIES = 30;
const AT_ONCE = 4;
const WAIT = { timeout: 20_000, interval: 20 };

interface MysqlPool {
  on(event: 'connection', opened: (connection: { query(text: string): void }) => void): void;
  off(event: 'connection', opened: unknown): void;
}

interface Parts {
  readonly parts: { readonly database: Database & { readonly dataSource?: DataSource; readonly connection?: never } };
  readonly working: { readonly recorder: { record(batch: unknown): Promise<void> } };
}

function gate(): { passed: Promise<void>; open: () => void } {
  let open = () => undefined as void;
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { passed, open };
}

/**
 * Makes the dispatcher's sessions refuse writes and answer reads, like the sessions of a server that was demoted. On servers, all sessions
 * are closed, and new ones are read-only from the start.
 *
 * @returns a function after which new sessions can write again; open sessions stay read-only
 */
async function refuseWrites(target: TestDatabase, app: TestApp, direct: DataSource): Promise<() => Promise<void>> {
  const { database } = (app.dispatcher as unknown as Parts).parts;
  if (target.name === 'sqlite') {
    const { connection } = database as unknown as { connection: { pragma(text: string): void } };
    connection.pragma('query_only = on');
    return async () => connection.pragma('query_only = off');
  }
  if (target.name === 'postgres') {
    const [{ name }] = (await direct.query('select current_database() as name')) as [{ name: string }];
    await direct.query(`alter database ${name} set default_transaction_read_only = on`);
    await direct.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    );
    return () => direct.query(`alter database ${name} reset default_transaction_read_only`);
  }
  const { pool } = database.dataSource?.driver as unknown as { pool: MysqlPool };
  const opened = (connection: { query(text: string): void }) => connection.query('set session transaction read only');
  pool.on('connection', opened);
  const sessions = (await direct.query(
    'select id from information_schema.processlist where db = database() and id <> connection_id()',
  )) as { id: number }[];
  for (const { id } of sessions) await direct.query(`kill ${id}`).catch(() => undefined);
  return async () => {
    pool.off('connection', opened);
  };
}

describeDatabases('a database that answers reads and refuses writes', (target) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let direct: TestApp;
  let said: Said;

  beforeEach(async () => {
    fresh = await target.create();
    direct = await startApp({ database: fresh.options, entities: [Parcel] });
    app = await startApp({
      database: fresh.options,
      entities: [Parcel],
      webhooks: { dispatcher: { pollIntervalMs: 100, concurrency: AT_ONCE } },
    });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    said = listenToLog();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
    await direct.close();
    await fresh.drop();
  });

  it('causes no request twice, and no request that cannot be recorded', async () => {
    await direct.dataSource
      .getRepository(Parcel)
      .save(Array.from({ length: DELIVERIES }, (_, n) => ({ name: String(n) })));
    const [first, second] = [gate(), gate()];
    app.receiver.respond(() => ({
      status: 204,
      delayUntil: app.receiver.requests.length <= AT_ONCE ? first.passed : second.passed,
    }));
    app.dispatcher.start();
    await app.receiver.waitFor(AT_ONCE, { timeoutMs: 10_000 });
    const { recorder } = (app.dispatcher as unknown as Parts).working;
    const record = vi.spyOn(recorder, 'record');
    const allowWrites = await refuseWrites(target, app, direct.dataSource);
    first.open();
    await vi.waitFor(() => expect(record.mock.results.length).toBeGreaterThan(0), WAIT);
    await expect(record.mock.results[0]?.value).rejects.toThrow();
    // Deliveries that were in flight before the refusal finish, and no others start.
    second.open();
    await vi.waitFor(() => expect(record.mock.results.length).toBeGreaterThan(2), WAIT);
    expect(app.receiver.requests.length).toBeLessThanOrEqual(2 * AT_ONCE);
    await allowWrites();
    await vi.waitFor(
      async () => expect(await direct.deliveries.counts()).toMatchObject({ succeeded: DELIVERIES, leased: 0, due: 0 }),
      WAIT,
    );
    expect(app.receiver.requests).toHaveLength(DELIVERIES);
    const [row] = (await direct.dataSource.query(
      'select (select count(*) from webhook_attempts) + (select count(*) from webhook_deliveries where outcome is not null) as n',
    )) as [{ n: unknown }];
    expect(Number(row.n)).toBe(DELIVERIES);
    expect(said.errors.filter((text) => text.includes('could not be recorded'))).toEqual([]);
  });
});
