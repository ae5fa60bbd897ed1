import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { PayloadFormat, Webhook, type WebhooksModuleOptions, type RateLimit } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { createScratchProject, type ScratchProject } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook()
@Entity('parcel')
class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

const SECOND = 1_000;
/**
 * An attempt may start while the rest of its lease covers its time limit and a margin of a second: 60 - 15 - 1 by
 * default.
 */
const MAY_START_MS = 44 * SECOND;

/** Makes the transaction that leases a delivery slow on the monotonic clock, which the test controls. */
class SlowFormat extends PayloadFormat {
  static takesMs = 0;
  override readonly name = 'slow';
  override readonly contentType = 'application/json';

  override render({ payload }: { payload: string }): string {
    vi.advanceTimersByTime(SlowFormat.takesMs);
    return payload;
  }
}

describeDatabases('an attempt', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeEach(async () => {
    fresh = await database.reuse();
    const webhooks: WebhooksModuleOptions = {
      parts: { payloadFormats: [SlowFormat] },
      dispatcher: { concurrencyPerListener: 1 },
    };
    app = await startApp({ database: fresh.options, entities: [Parcel], webhooks });
    vi.useFakeTimers({ toFake: ['performance'] });
  });
  afterEach(async () => {
    vi.useRealTimers();
    await app.close();
    await fresh.drop();
  });

  const send = (count: number) =>
    app.dataSource.getRepository(Parcel).save(Array.from({ length: count }, (_, n) => ({ name: `parcel ${n}` })));

  /**
   * Two deliveries; the second is queued in memory while the first one takes `ms`.
   * @returns how many requests were made
   */
  async function behindOneThatTakes(ms: number, rateLimit: RateLimit | null = null): Promise<number> {
    await app.listeners.create({ events: ['*'], url: app.receiver.url, rateLimit });
    let release = () => undefined as void;
    app.receiver.respond([{ status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) }]);
    await send(2);
    const round = app.dispatcher.runOnce();
    await app.receiver.waitFor(1);
    vi.advanceTimersByTime(ms);
    release();
    await round;
    return app.receiver.requests.length;
  }

  it('starts while the rest of its lease covers it', async () => {
    expect(await behindOneThatTakes(MAY_START_MS - SECOND)).toBe(2);
  });

  it('does not start when the rest of its lease does not cover it: the delivery is released, unsent', async () => {
    expect(await behindOneThatTakes(MAY_START_MS + 1)).toBe(1);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, due: 1, leased: 0 });
    const [second] = (await app.deliveries.list({ state: 'due' })).items;
    expect(second?.attemptCount).toBe(0);
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(2);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 2 });
  });

  describe('to a listener with a rate limit', () => {
    const rateLimit = { limit: 10, perSeconds: 60 };
    /** A twentieth of the window. */
    const SLOT_MS = 3 * SECOND;

    beforeEach(() => app.clock.set(Math.floor(Date.now() / SLOT_MS) * SLOT_MS));

    it('starts in the part of the window in which it was counted', async () => {
      expect(await behindOneThatTakes(SLOT_MS - SECOND, rateLimit)).toBe(2);
    });

    it('does not start later without being counted again', async () => {
      expect(await behindOneThatTakes(SLOT_MS + SECOND, rateLimit)).toBe(1);
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, due: 1, leased: 0 });
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(2);
    });
  });

  it('does not start when the transaction that leased it took too long', async () => {
    await app.listeners.create({ events: ['*'], url: app.receiver.url, format: 'slow' });
    await send(1);
    SlowFormat.takesMs = MAY_START_MS + 1;
    await app.dispatcher.runOnce();
    SlowFormat.takesMs = 0;
    expect(app.receiver.requests).toEqual([]);
    expect(await app.deliveries.counts()).toMatchObject({ due: 1, leased: 0 });
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(1);
  });
});

/** Has the name of the worker's format. */
class NotSuspending extends PayloadFormat {
  override readonly name = 'suspending';
  override readonly contentType = 'application/json';

  override render({ payload }: { payload: string }): string {
    return payload;
  }
}

const WORKER = `
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { writeSync } from 'node:fs';
import { PayloadFormat, Webhook, WebhooksModule } from 'nestjs-entity-webhooks';

@Webhook()
@Entity('parcel')
class Parcel {
  @PrimaryGeneratedColumn() id: number;
  @Column({ type: 'varchar', length: 50 }) name: string;
}

const { database, dispatcher } = JSON.parse(process.env.WORKER ?? '{}');

/** A body is rendered inside the transaction that stores the delivery. */
class Suspending extends PayloadFormat {
  readonly name = 'suspending';
  readonly contentType = 'application/json';
  render({ payload }: { payload: string }): string {
    writeSync(1, 'suspended\\n');
    process.kill(process.pid, 'SIGSTOP');
    return payload;
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({ ...database, entities: [Parcel], retryAttempts: 0 }),
    EventEmitterModule.forRoot(),
    WebhooksModule.forRoot({ security: { allowedAddresses: ['127.0.0.0/8'], allowHttp: true }, dispatcher, parts: { payloadFormats: [Suspending] } }),
    WebhooksModule.forFeature([Parcel]),
  ],
})
class AppModule {}

const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error'] });
await app.get(DataSource).getRepository(Parcel).save([...'abcdef'].map((name) => ({ name })));
console.log('ready');
setInterval(() => undefined, 1_000);
`;

const POLL_MS = 20;

describe('a worker that is stopped', () => {
  let scratch: ScratchProject;
  beforeAll(async () => {
    scratch = await createScratchProject();
    await scratch.write('src/worker.ts', WORKER);
    await scratch.transpile();
  }, 240_000);
  afterAll(() => scratch.remove());

  describeDatabases('until its lease has expired, and continues', (database) => {
    let fresh: FreshDatabase;
    let app: TestApp;
    let worker: ChildProcess | undefined;

    /** Resolves when it has printed a line. */
    const startWorker = async (dispatcher: object, printed: 'ready' | 'suspended') => {
      worker = spawn(process.execPath, [join(scratch.folder, 'dist/worker.js')], {
        env: { ...process.env, WORKER: JSON.stringify({ database: fresh.options, dispatcher }) },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const lines = createInterface(worker.stdout as NodeJS.ReadableStream);
      for await (const line of lines) if (line === printed) return;
      throw new Error(`the worker ended before it printed '${printed}'`);
    };

    beforeEach(async () => {
      fresh = await database.reuse();
      app = await startApp({
        database: fresh.options,
        entities: [Parcel],
        webhooks: { parts: { payloadFormats: [NotSuspending] } },
      });
    });
    afterEach(async () => {
      worker?.kill('SIGKILL');
      await app.close();
      await fresh.drop();
    });

    // On SQLite and MySQL no server ends the transaction of a suspended process.
    it.runIf(database.name === 'postgres' || database.name === 'mariadb')(
      'blocks no other process, even if it is stopped inside a transaction',
      async () => {
        await app.listeners.create({ events: ['*'], url: app.receiver.url, format: 'suspending' });
        await startWorker({}, 'suspended');
        app.clock.set(Date.now());
        app.dispatcher.start();
        await app.receiver.waitFor(6, { timeoutMs: 20_000 });
        worker?.kill('SIGCONT');
        await waitUntil(async () => (await app.deliveries.counts()).succeeded === 6);
        expect(app.receiver.requests).toHaveLength(6);
      },
    );

    it('causes repeats only of its deliveries in flight, under the same ids, and changes nothing', async () => {
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
      let release = () => undefined as void;
      const held = new Promise<void>((resolve) => (release = resolve));
      app.receiver.respond((_, index) => ({ status: 204, ...(index < 2 ? { delayUntil: held } : {}) }));
      // Two are in flight, and two more are queued in memory.
      const dispatcher = { concurrencyPerListener: 2, timeoutMs: 4 * SECOND, leaseMs: 6 * SECOND };
      await startWorker(dispatcher, 'ready');
      await app.receiver.waitFor(2, { timeoutMs: 10_000 });
      worker?.kill('SIGSTOP');
      release();
      await waitUntil(async () => {
        const [{ until }] = await app.dataSource.query<[{ until: unknown }]>(
          'SELECT max(lease_until) AS until FROM (SELECT lease_until FROM webhook_leases UNION ALL SELECT lease_until FROM webhook_deliveries) leases',
        );
        return Number(until) < Date.now();
      });
      app.clock.set(Date.now());
      // A statement may wait for a transaction of the stopped worker. Unlike `drain()`, a running dispatcher tries again.
      app.dispatcher.start();
      await waitUntil(async () => (await app.deliveries.counts()).succeeded === 6);
      await app.dispatcher.stop();
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: 6, leased: 0, due: 0 });
      worker?.kill('SIGCONT');
      await waitUntil(async () => {
        const rows = await app.dataSource.query<unknown[]>('SELECT seq FROM webhook_attempts WHERE superseded = 1');
        return rows.length === 2;
      });
      const exited = once(worker as unknown as ChildProcess, 'exit');
      worker?.kill('SIGTERM');
      await exited;

      expect(app.receiver.requests).toHaveLength(8);
      const ids = app.receiver.requests.map(({ headers }) => headers['webhook-id']);
      expect(new Set(ids).size).toBe(6);
      expect(new Set(ids.slice(2)).size).toBe(6);
      const { items } = await app.deliveries.list();
      expect(items.map(({ state, attemptCount }) => `${state} ${attemptCount}`)).toEqual(
        Array.from({ length: 6 }, () => 'succeeded 1'),
      );
      const late = await Promise.all(items.map(async ({ id }) => (await app.deliveries.get(id)).attempts));
      expect(late.map((attempts) => attempts.map(({ superseded }) => superseded)).toSorted()).toEqual([
        ...Array.from({ length: 4 }, () => [false]),
        ...Array.from({ length: 2 }, () => [true, false]),
      ]);
    }, 90_000);
  });
});

async function waitUntil(isSo: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`not so within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
