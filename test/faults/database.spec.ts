import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Column, DataSource, Entity, PrimaryGeneratedColumn, type DataSourceOptions } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { describeOn, type FreshDatabase } from '../support/databases.js';
import { listenToLog, type Said } from '../support/said.js';
import { createProxied, networked } from '../support/proxied-database.js';
import type { TcpProxy } from '../support/tcp-proxy.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook()
@Entity('item')
class Item {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

/** InnoDB does not update its list of transactions while it is read more often than every 100 ms. */
const INNODB_REFRESH_MS = 150;
const WAIT = { timeout: 20_000, interval: 20 };

let fresh: FreshDatabase;
let app: TestApp;
let said: Said;

afterEach(async () => {
  await app.close();
  await fresh.drop();
  vi.restoreAllMocks();
});

/** Starts the application, with a listener and a running dispatcher. */
async function start(database: DataSourceOptions): Promise<void> {
  app = await startApp({ database, entities: [Item], webhooks: { dispatcher: { pollIntervalMs: 100 } } });
  await app.listeners.create({ events: ['*'], url: app.receiver.url });
  said = listenToLog();
  app.dispatcher.start();
}

const save = (name: string) => app.dataSource.getRepository(Item).save({ name });
const names = () => app.receiver.requests.map(({ json }) => (json as { data: { name: string } }).data.name);
const attempts = async (): Promise<number> => {
  const [row] = (await app.dataSource.query(
    'select (select count(*) from webhook_attempts) + (select count(*) from webhook_deliveries where outcome is not null) as n',
  )) as [{ n: unknown }];
  return Number(row.n);
};

/** Makes the next request wait for its response. @returns a function that sends the response */
function holdAnswer(status = 204): () => void {
  let release = () => undefined as void;
  app.receiver.respond([{ status, delayUntil: new Promise<void>((resolve) => (release = resolve)) }]);
  return release;
}

describe.each(networked)('a database that is cut off while a request is in flight ($name)', (database) => {
  let proxy: TcpProxy;

  beforeEach(async () => {
    const created = await createProxied(database);
    fresh = created;
    ({ proxy } = created);
    await start(created.proxied);
  });

  it('is used again: the attempt is recorded and not repeated, later events are sent, and the log has two lines', async () => {
    const release = holdAnswer();
    await save('before');
    await app.receiver.waitFor(1);
    proxy.cut();
    release();
    await vi.waitFor(() => expect(said.errors).toHaveLength(1), WAIT);
    const refused = proxy.refused;
    // Tries of the dispatcher's loop and of the recorder.
    await vi.waitFor(() => expect(proxy.refused).toBeGreaterThan(refused + 3), WAIT);
    proxy.mend();
    // The connection for wake-ups was cut too, and may be the first to be restored.
    const ofDispatcher = () => said.news.filter((news) => !news.includes('wake-ups'));
    await vi.waitFor(() => expect(ofDispatcher()).toEqual(['The dispatcher works again.']), WAIT);
    await save('after');
    await vi.waitFor(
      async () => expect(await app.deliveries.counts()).toMatchObject({ succeeded: 2, leased: 0 }),
      WAIT,
    );
    expect(names()).toEqual(['before', 'after']);
    expect(await attempts()).toBe(2);
    expect(said.errors).toHaveLength(1);
  });
});

describe.each(networked)('a statement that ends in a deadlock ($name)', (database) => {
  let other: DataSource;

  beforeEach(async () => {
    fresh = await database.reuse();
    await start(fresh.options);
    other = await new DataSource({ ...fresh.options, poolSize: 2 } as DataSourceOptions).initialize();
  });
  afterEach(() => other.destroy());

  const isPostgres = database.name === 'postgres';
  const waiting = async (): Promise<number> => {
    const [{ n }] = (await other.query(
      isPostgres
        ? `select count(*) as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`
        : `select count(*) as n from information_schema.innodb_trx where trx_state = 'LOCK WAIT' and trx_query like '%webhook_%'`,
    )) as [{ n: unknown }];
    return Number(n);
  };

  it('runs again, and nothing is logged', async () => {
    const release = holdAnswer(500);
    await save('a');
    await app.receiver.waitFor(1);
    const runner = other.createQueryRunner();
    await runner.startTransaction();
    // InnoDB rolls back the transaction that has changed fewer rows.
    for (let i = 0; i < 20; i++) await runner.query(`insert into item (name) values ('weight')`);
    await runner.query('select * from webhook_listener_state for update');
    release();
    // The record holds the lock of its delivery, and waits for its listener.
    await vi.waitFor(async () => expect(await waiting()).toBe(1), { ...WAIT, interval: INNODB_REFRESH_MS });
    await runner.query('update webhook_deliveries set type = type');
    await runner.commitTransaction();
    await runner.release();
    await vi.waitFor(async () => expect(await app.deliveries.counts()).toMatchObject({ due: 1, leased: 0 }), WAIT);
    expect(await attempts()).toBe(1);
    expect(said.errors).toEqual([]);
  });
});

describeOn('sqlite', 'a file that another process has locked', (database) => {
  let other: ChildProcess;

  beforeEach(async () => {
    fresh = await database.reuse();
    await start(fresh.options);
    other = fork(join(import.meta.dirname, '../sqlite/other-process.mjs'), [String(fresh.options.database)]);
    await once(other, 'message');
  });
  afterEach(async () => {
    const exited = once(other, 'exit');
    other.disconnect();
    await exited;
  });
  const send = async (...order: unknown[]) => {
    other.send(order);
    await once(other, 'message');
  };

  it('delays the record: the attempt is recorded once, and nothing is logged', async () => {
    const release = holdAnswer();
    await save('a');
    await app.receiver.waitFor(1);
    await send('begin');
    const { recorder } = (
      app.dispatcher as unknown as { working: { recorder: { record(batch: unknown): Promise<void> } } }
    ).working;
    const run = vi.spyOn(recorder, 'record');
    release();
    await vi.waitFor(() => expect(run).toHaveBeenCalledOnce(), WAIT);
    expect(await attempts()).toBe(0);
    await send('commit');
    await vi.waitFor(
      async () => expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, leased: 0 }),
      WAIT,
    );
    expect(run).toHaveBeenCalledOnce();
    expect(names()).toEqual(['a']);
    expect(said.errors).toEqual([]);
  });
});
