import { DataSource, type DataSourceOptions, type QueryRunner } from 'typeorm';
import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RetrySchedule, TaskService, type WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { PartitionChore } from '../../libs/webhooks/src/dispatcher/partition-chore.js';
import { newId } from '../../libs/webhooks/src/ids.js';
import { runtimeToken } from '../../libs/webhooks/src/instance.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { dropDay, readPartitions } from '../../libs/webhooks/src/store/queue/partitions.js';
import { describeDatabases, describeOn, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { createPartitioned } from '../support/partitioned.js';
import { waitInTheDatabase } from '../support/waits-for-lock.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { countRows } from '../deliveries/outbox.js';

const MINUTE = 60_000;
const DAY = 86_400_000;
const TABLES = ['webhook_events', 'webhook_deliveries', 'webhook_attempts'];
/** Retention of one day, so that the partition of a day can be dropped two days later. */
const ONE_DAY = { succeededMs: DAY, failedMs: DAY };

/** For tests in which a chore makes the partitions of thirty days: on a busy machine, each takes a second. */
const LONG_MS = 180_000;

/** No retries. */
class Once extends RetrySchedule {
  delayMs(): null {
    return null;
  }
}

describeOn('postgres', 'tables with partitions', (target) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeEach(async () => {
    fresh = await target.create();
    await createPartitioned(fresh.options);
  });
  afterEach(async () => {
    await app?.close();
    await fresh.drop();
  });

  const start = async (webhooks: WebhooksModuleOptions = {}) => {
    app = await startApp({
      database: fresh.options,
      entities: [Parcel],
      webhooks: {
        publishedTypes: ['note.sent'],
        retention: ONE_DAY,
        parts: { retrySchedule: Once },
        ...webhooks,
        // Otherwise what is due for long would be discarded first.
        dispatcher: { maxAgeMs: 300 * DAY, ...webhooks.dispatcher },
      },
    });
    return app;
  };
  /** The days that have a partition, as `2026-12-01`, in order. */
  const days = async (table = 'webhook_events') => {
    const rows = await app.dataSource.query<{ name: string }[]>(
      `select inhrelid::regclass::text as name from pg_inherits where inhparent = '${table}'::regclass and inhrelid::regclass::text not like '%_default' order by 1`,
    );
    return rows.map(({ name }) => name.slice(-8).replace(/(....)(..)(..)/, '$1-$2-$3'));
  };
  const dayOf = (at: number) => new Date(at).toISOString().slice(0, 10);
  const has = async (at: number) => (await days()).includes(dayOf(at));
  const publish = (value: number, options = {}) =>
    app.dataSource.transaction((manager) => app.webhooks.publish('note.sent', { value }, { manager, ...options }));
  const listen = (input = {}) => app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });
  /** One run of the chore, without the days that are ahead: to make them takes longer than everything else. */
  const runPartitions = async () => {
    const { database } = app.app.get<{ database: Database }>(runtimeToken('default'));
    const chore = new PartitionChore({ database, logger: new Logger(), keptMs: DAY, daysAhead: 0 });
    for (let position = 0, isDone = false; !isDone;) {
      const from = position;
      const batch = await database.transaction(() => chore.batch(from, app.clock.now()));
      batch.committed?.();
      ({ position, isDone } = batch);
    }
  };
  const received = () => app.receiver.requests.map(({ json }) => (json as { data: { value: number } }).data.value);

  describe('and a dispatcher', () => {
    it(
      'have partitions for thirty days ahead, and keep them all with `retention: false`',
      async () => {
        await start({ retention: false });
        const now = app.clock.now();
        await app.dispatcher.runChores();
        const ahead = Array.from({ length: 31 }, (_, n) => dayOf(now + n * DAY));
        for (const table of TABLES) expect(await days(table)).toEqual([dayOf(now - DAY), ...ahead]);
        app.clock.advance(6 * MINUTE);
        await app.dispatcher.runChores();
        expect(await days()).toHaveLength(32);
        app.clock.advance(DAY);
        await app.dispatcher.runChores();
        for (const table of TABLES) expect((await days(table)).at(-1)).toBe(dayOf(now + 31 * DAY));
        app.clock.advance(3 * DAY);
        await app.dispatcher.runChores();
        expect((await days())[0]).toBe(dayOf(now - DAY));
      },
      LONG_MS,
    );

    it(
      'accept every write while no dispatcher has run for forty days, and all of it goes out later, in order',
      async () => {
        await start();
        await listen({ ordering: 'entity' });
        const repository = app.dataSource.getRepository(Parcel);
        const parcel = await repository.save({ name: '0' });
        for (let day = 1; day <= 40; day++) {
          app.clock.advance(DAY);
          await repository.save({ ...parcel, name: String(day) });
          await publish(day, { idempotencyKey: `day ${day}` });
        }
        // The first days have partitions. The others are in the default one.
        const [row] = await app.dataSource.query<{ n: string }[]>('select count(*) as n from webhook_events_default');
        expect(Number(row?.n)).toBe(2 * 37);
        await app.dispatcher.runChores();
        await app.dispatcher.drain();
        const bodies = app.receiver.requests.map(
          ({ json }) => json as { type: string; data: { name: string; value: number } },
        );
        const all = Array.from({ length: 41 }, (_, n) => n);
        expect(bodies.filter(({ type }) => type !== 'note.sent').map(({ data }) => Number(data.name))).toEqual(all);
        const notes = bodies.filter(({ type }) => type === 'note.sent').map(({ data }) => data.value);
        expect(notes.toSorted((a, b) => a - b)).toEqual(all.slice(1));
        expect(await app.deliveries.counts()).toMatchObject({ succeeded: 81, due: 0 });
        // The rows of today stay in the default partition, and tomorrow has one of its own.
        expect(await days()).not.toContain(dayOf(app.clock.now()));
        expect(await days()).toContain(dayOf(app.clock.now() + DAY));
        // What is in the default partition is deleted row by row.
        app.clock.advance(4 * DAY);
        await app.dispatcher.runChores();
        expect(await countRows(app.dataSource, 'events', 'deliveries', 'outbox')).toEqual({
          ...{ events: 0, deliveries: 0, outbox: 0 },
        });
      },
      LONG_MS,
    );

    it(
      'lose the partition of a day with all its rows when retention is over, and not a moment earlier',
      async () => {
        await start();
        await listen();
        const written = app.clock.now();
        const end = (Math.floor(written / DAY) + 1) * DAY;
        await publish(1);
        await app.dispatcher.drain();
        app.clock.advance(end + DAY - written - 1);
        await app.dispatcher.runChores();
        expect(await has(written)).toBe(true);
        expect(await countRows(app.dataSource, 'events', 'deliveries')).toEqual({ events: 1, deliveries: 1 });
        app.clock.advance(6 * MINUTE);
        await app.dispatcher.runChores();
        for (const table of TABLES) expect(await days(table)).not.toContain(dayOf(written));
        expect(await countRows(app.dataSource, 'events', 'deliveries')).toEqual({ events: 0, deliveries: 0 });
      },
      LONG_MS,
    );

    it('forget the idempotency keys of a dropped day, and no key that a newer event has taken', async () => {
      await start();
      const written = app.clock.now();
      await publish(1, { idempotencyKey: 'old' });
      await publish(2, { idempotencyKey: 'taken' });
      await app.dispatcher.drain();
      const id = newId('evt', written + DAY);
      await app.dataSource.query(
        `update webhook_idempotency_keys set event_id = '${id}' where event_id = (select id from webhook_events order by seq desc limit 1)`,
      );
      app.clock.advance(3 * DAY);
      await runPartitions();
      expect(await has(written)).toBe(false);
      expect(await app.dataSource.query('select event_id from webhook_idempotency_keys')).toEqual([{ event_id: id }]);
    });
  });

  describe('and something unfinished of a day', () => {
    /** What is unfinished, and how it ends. */
    const unfinished: Record<string, { begin(): Promise<unknown>; end(): Promise<unknown> }> = {
      'an event that no process has claimed': { begin: () => publish(1), end: () => app.dispatcher.drain() },
      'a delivery that is held, because its listener is disabled': {
        async begin() {
          const { id } = await listen();
          await app.listeners.disable(id);
          await publish(1);
          await app.dispatcher.drain();
        },
        async end() {
          const [listener] = (await app.listeners.list()).items;
          await app.listeners.enable(listener?.id ?? '');
          await app.dispatcher.drain();
        },
      },
      'a delivery that a process is sending': {
        async begin() {
          await listen();
          await publish(1);
          await app.dispatcher.drain();
          await app.dataSource.query(
            `update webhook_deliveries set state = 'leased', lease_token = 'other', lease_until = ${app.clock.now() + 300 * DAY}`,
          );
        },
        end: () => app.dataSource.query(`update webhook_deliveries set state = 'succeeded', lease_token = null`),
      },
      'a damaged event': {
        async begin() {
          await listen();
          await publish(1);
          await app.dataSource.query(`update webhook_events set payload = '{'`);
          await app.dispatcher.drain();
          expect(await countRows(app.dataSource, 'damaged')).toEqual({ damaged: 1 });
        },
        end: () => app.dataSource.query('delete from webhook_damaged'),
      },
      'a task': {
        async begin() {
          await listen();
          await publish(1);
          await app.dispatcher.drain();
          await app.app.get(TaskService).create({ kind: 'recover', since: new Date(0) });
        },
        end: () => app.dataSource.query(`update webhook_tasks set state = 'done'`),
      },
    };

    it.each(Object.keys(unfinished))('keep that day: %s', async (name) => {
      const { begin, end } = unfinished[name] as (typeof unfinished)[string];
      await start();
      const written = app.clock.now();
      await begin();
      app.clock.advance(3 * DAY);
      await runPartitions();
      expect(await has(written)).toBe(true);
      const kept = await countRows(app.dataSource, 'events');
      expect(kept).toEqual({ events: 1 });
      await end();
      await runPartitions();
      expect(await has(written)).toBe(false);
    });
  });

  describe('and another transaction', () => {
    /** Inserts an event as a writer with a late clock does, and does not commit. */
    const insertOpen = async (at: number): Promise<QueryRunner> => {
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.query(
        `with e as (insert into webhook_events (id, type, audience, ordered, payload, created_at)
           values ('${newId('evt', at)}', 'note.sent', 'application', 0, '{"data":{"value":7}}', ${at}) returning seq, created_at)
         insert into webhook_outbox (seq, event_at, claims) select seq, created_at, 0 from e`,
      );
      return runner;
    };

    it('gives up after 100 ms and drops the day later if a writer has an open transaction; other writers go on', async () => {
      await start();
      await listen();
      const written = app.clock.now();
      app.clock.advance(3 * DAY);
      const open = await insertOpen(app.clock.now());
      await runPartitions();
      expect(await has(written)).toBe(true);
      // A lock that still waits would make this wait, too.
      await publish(8);
      await open.commitTransaction();
      await open.release();
      await runPartitions();
      expect(await has(written)).toBe(false);
      await app.dispatcher.drain();
      expect(received().toSorted()).toEqual([7, 8]);
    });

    it('keeps the day if the writer commits an event of that very day while the drop waits for its lock', async () => {
      await start();
      await listen();
      const written = app.clock.now();
      app.clock.advance(3 * DAY);
      const open = await insertOpen(written);
      const { database } = app.app.get<{ database: Database }>(runtimeToken('default'));
      const partitions = await database.single(() => readPartitions(database));
      const day = Math.floor(written / DAY);
      // With the usual 100 ms, a busy machine would end the wait before the commit.
      const limits = { lockMs: 60_000, changeMs: 60_000 };
      const drop = database.transaction(() => dropDay(database, partitions, day, { limits }));
      await waitInTheDatabase(app.dataSource, 1);
      await open.commitTransaction();
      await open.release();
      expect(await drop).toBe('kept');
      expect(await has(written)).toBe(true);
      await app.dispatcher.drain();
      expect(received()).toEqual([7]);
    });

    it(
      'waits for a short time only while a day is dropped: no insert fails, and the 99th percentile stays',
      async () => {
        await start();
        const written = app.clock.now();
        await app.dataSource.query(
          `insert into webhook_events (id, type, audience, ordered, payload, created_at)
         select 'evt_' || n, 'note.sent', 'application', 0, repeat('x', 500), ${written} from generate_series(1, 20000) n`,
        );
        app.clock.advance(3 * DAY);
        const insert = async () => {
          const began = performance.now();
          await publish(1);
          return performance.now() - began;
        };
        const at99 = (times: number[]) => times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] as number;
        const without: number[] = [];
        for (let n = 0; n < 150; n++) without.push(await insert());
        const during: number[] = [];
        const drop = { isOver: false };
        const chores = runPartitions().finally(() => (drop.isOver = true));
        while (!drop.isOver || during.length < 150) during.push(await insert());
        await chores;
        expect(await has(written)).toBe(false);
        // One lock is waited for at most 100 ms; the machine may be busy.
        expect(at99(during)).toBeLessThan(Math.max(5 * at99(without), 150));
        expect(await countRows(app.dataSource, 'events')).toEqual({ events: without.length + during.length });
      },
      LONG_MS,
    );

    it('does not fail if the partition of its day cannot be made, because it has rows in the default partition', async () => {
      await start();
      app.clock.advance(20 * DAY);
      const now = app.clock.now();
      await publish(1);
      await runPartitions();
      expect(await has(now)).toBe(false);
      await publish(2);
      await listen();
      await publish(3);
      await app.dispatcher.drain();
      expect(received()).toEqual([3]);
      app.clock.advance(DAY);
      await runPartitions();
      expect(await has(app.clock.now())).toBe(true);
    });
  });

  it(
    'go on with the default partition if the database user may not change tables, and a warning says it once',
    async () => {
      await start();
      const user = `webhooks_${newId('txn').slice(-12)}`;
      const { dataSource } = app;
      await dataSource.query(`create role ${user} login superuser password 'x'`);
      await dataSource.query(`alter role ${user} nosuperuser`);
      try {
        await dataSource.query(`grant usage on schema public to ${user}`);
        await dataSource.query(`grant all on all tables in schema public to ${user}`);
        await dataSource.query(`grant all on all sequences in schema public to ${user}`);
        await app.close();
        const url = new URL((fresh.options as { url: string }).url);
        url.username = user;
        url.password = 'x';
        const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
        app = await startApp({
          database: { ...fresh.options, url: url.href, synchronize: false } as DataSourceOptions,
          entities: [],
          webhooks: { publishedTypes: ['note.sent'], retention: ONE_DAY },
        });
        await listen();
        await app.dispatcher.runChores();
        app.clock.advance(20 * DAY);
        await publish(1);
        await app.dispatcher.runChores();
        await app.dispatcher.drain();
        expect(received()).toEqual([1]);
        const lines = warn.mock.calls.map(([text]) => String(text)).filter((text) => text.includes('partitions of'));
        expect(lines).toHaveLength(1);
        expect(lines[0]).toContain('does not own the webhook tables');
      } finally {
        await app.close();
        const admin = await new DataSource(fresh.options).initialize();
        await admin.query(`drop owned by ${user}`);
        await admin.query(`drop role ${user}`);
        await admin.destroy();
      }
    },
    LONG_MS,
  );

  it('stop the bootstrap when an index is missing, and the error has the statement that creates it', async () => {
    const source = await new DataSource(fresh.options).initialize();
    const [index] = await source.query<{ name: string }[]>(
      `select indexrelid::regclass::text as name from pg_index where indrelid = 'webhook_events'::regclass and indisunique and not indisprimary`,
    );
    await source.query(`drop index ${index?.name}`);
    const error = await start().then(
      () => undefined,
      (failure: { message: string; details: { missing: string[] } }) => failure,
    );
    // `synchronize` has created it.
    expect(error).toBeUndefined();
    await app.close();
    await source.query(`drop index ${index?.name}`);
    const database = { ...fresh.options, synchronize: false } as DataSourceOptions;
    const failure = await startApp({ database, entities: [] }).then(
      () => undefined,
      (one: { code: string; details: { missing: string[] } }) => one,
    );
    expect(failure).toMatchObject({ code: 'TABLES_MISSING' });
    expect(failure?.details.missing).toEqual([expect.stringMatching(/UNIQUE INDEX .*"id", "created_at"/)]);
    for (const statement of failure?.details.missing ?? []) await source.query(statement);
    await source.destroy();
    app = await startApp({ database, entities: [] });
  });
});

describeDatabases('the option `partitions`', (database) => {
  it('is accepted on PostgreSQL, and refused elsewhere before anything is created', async () => {
    const fresh = await database.create();
    const migrations = webhookMigrations({ partitions: 'day' });
    const source = await new DataSource({ ...fresh.options, migrations } as DataSourceOptions).initialize();
    const run = source.runMigrations();
    try {
      if (database.name === 'postgres') await run;
      else await expect(run).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    } finally {
      await source.destroy();
      await fresh.drop();
    }
  });

  it('has no value but `day`', async () => {
    const fresh = await database.create();
    const migrations = webhookMigrations({ partitions: 'month' as never });
    const source = await new DataSource({ ...fresh.options, migrations } as DataSourceOptions).initialize();
    try {
      await expect(source.runMigrations()).rejects.toThrow(
        `Invalid value "month" for \`partitions\`: allowed: 'day', or no value.`,
      );
    } finally {
      await source.destroy();
      await fresh.drop();
    }
  });
});
