import { randomUUID } from 'node:crypto';
import { Logger } from '@nestjs/common';
import { Redis } from 'ioredis';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import type { WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const HOUR = 60 * 60 * 1_000;
const { redis: server } = inject('servers');

// Without REDIS_URL the end of the run names Redis as left out; CI requires it.
describe.skipIf(!server)('processes that notify each other through Redis', () => {
  describeDatabases('on one database', (database) => {
    let fresh: FreshDatabase;
    let admin: Redis;
    let proxy: TcpProxy;
    /** Of the connections of this test. */
    let connectionName: string;
    let running: TestApp[];

    beforeEach(async () => {
      running = [];
      connectionName = randomUUID();
      fresh = await database.reuse();
      const { hostname, port } = new URL(server?.url ?? '');
      proxy = await TcpProxy.to({ host: hostname, port: Number(port) || 6379 });
      admin = new Redis(server?.url ?? '');
    });
    afterEach(async () => {
      vi.restoreAllMocks();
      for (const app of running.toReversed()) await app.close();
      await admin.quit();
      await proxy.close();
      await fresh.drop();
    });

    const connect = () => new Redis({ host: '127.0.0.1', port: proxy.port, connectionName });
    async function start(webhooks: WebhooksModuleOptions = {}): Promise<TestApp> {
      const app = await startApp({
        database: fresh.options,
        entities: [Parcel],
        webhooks: { wakeUp: { redis: connect }, ...webhooks },
      });
      running.push(app);
      return app;
    }
    /** Polls so rarely that no poll helps it. */
    const startDispatching = (webhooks: WebhooksModuleOptions = {}) =>
      start({ ...webhooks, dispatcher: { pollIntervalMs: HOUR, autoStart: true, ...webhooks.dispatcher } });
    const save = (app: TestApp, name = 'a') => app.dataSource.getRepository(Parcel).save({ name });

    /** The connections of this test, as the server sees them. */
    async function connections(): Promise<{ listens: boolean }[]> {
      const list = String(await admin.client('LIST'));
      return list
        .split('\n')
        .filter((line) => line.includes(` name=${connectionName} `))
        .map((line) => ({ listens: !line.includes(' sub=0 ') }));
    }
    async function untilListening(count = 1): Promise<void> {
      await expect
        .poll(async () => (await connections()).filter(({ listens }) => listens).length, { timeout: 10_000 })
        .toBe(count);
    }

    it('a process that only serves requests wakes one that dispatches with each commit, resend and test event', async () => {
      const web = await start();
      await startDispatching();
      await untilListening();
      await web.listeners.create({ events: ['*'], url: web.receiver.url });
      await save(web);
      await web.receiver.waitFor(1);
      await expect.poll(() => web.deliveries.counts()).toMatchObject({ succeeded: 1 });
      const [delivery] = (await web.deliveries.list()).items;
      await web.deliveries.resend(delivery?.id ?? '');
      await web.receiver.waitFor(2);
      const [listener] = (await web.listeners.list()).items;
      await web.listeners.sendTest(listener?.id ?? '');
      await web.receiver.waitFor(3);
    });

    it('a rollback notifies nobody', async () => {
      const web = await start();
      await web.dataSource
        .transaction(async (manager) => {
          await manager.save(Parcel, { name: 'not to be' });
          throw new Error('rolled back');
        })
        .catch(() => undefined);
      expect(await connections()).toEqual([]);
      await save(web);
      await expect.poll(connections).toEqual([{ listens: false }]);
    });

    it('while Redis is away the poll finds the work, the log says so once, and Redis is used again by itself', async () => {
      const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
      const log = vi.spyOn(Logger.prototype, 'log').mockImplementation(() => undefined);
      const lines = (of: typeof warn, part: string) => of.mock.calls.filter(([text]) => String(text).includes(part));
      const web = await start();
      const dispatching = await startDispatching({ dispatcher: { pollIntervalMs: 100 } });
      await untilListening();
      await web.listeners.create({ events: ['*'], url: web.receiver.url });
      proxy.cut();
      await expect.poll(() => lines(warn, 'The connection that listens for commits')).toHaveLength(1);
      await save(web, 'while Redis is away');
      await web.receiver.waitFor(1);
      proxy.mend();
      await untilListening();
      await expect.poll(() => lines(log, 'receives wake-ups of other processes again')).toHaveLength(1);
      await dispatching.dispatcher.stop();
      await startDispatching();
      await untilListening();
      await save(web, 'through Redis again');
      await web.receiver.waitFor(2);
      expect(lines(warn, 'The connection that listens for commits')).toHaveLength(1);
    });

    it('a process whose Redis vanishes without closing its connection notifies over a new connection', async () => {
      const { url } = server as { url: string };
      const direct = () => new Redis(url, { connectionName });
      const web = await start();
      await startDispatching({ wakeUp: { redis: direct } });
      await untilListening();
      await web.listeners.create({ events: ['*'], url: web.receiver.url });
      await save(web);
      await web.receiver.waitFor(1);
      proxy.vanish();
      const saveAndCount = async () => {
        await save(web, 'after');
        return web.receiver.requests.length;
      };
      await expect.poll(saveAndCount, { interval: 500 }).toBeGreaterThan(1);
    });

    it('a function that throws leaves the work to the poll, and the log shows its error once', async () => {
      const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
      const redis = vi.fn(() => {
        throw new Error('no such host in the settings');
      });
      const app = await start({ wakeUp: { redis }, dispatcher: { autoStart: true, pollIntervalMs: 100 } });
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
      await expect.poll(() => redis.mock.calls.length).toBeGreaterThan(1);
      await save(app);
      await app.receiver.waitFor(1);
      const lines = warn.mock.calls.map(([text]) => String(text)).filter((text) => text.includes('no such host'));
      expect(lines).toHaveLength(1);
    });

    it('of two instances, with different table prefixes, do not wake each other', async () => {
      const before = new Set((await admin.pubsub('CHANNELS', 'webhooks:*')) as string[]);
      await startDispatching({ tablePrefix: 'one_' });
      await startDispatching({ tablePrefix: 'other_' });
      await untilListening(2);
      const channels = (await admin.pubsub('CHANNELS', 'webhooks:*')) as string[];
      expect(channels.filter((name) => !before.has(name)).length).toBeGreaterThanOrEqual(2);
    });

    it('close their connections when they end', async () => {
      const web = await start();
      await startDispatching();
      await untilListening();
      await save(web);
      await expect.poll(async () => (await connections()).length).toBe(2);
      for (const app of running.splice(0).toReversed()) await app.close();
      await expect.poll(connections).toEqual([]);
    });

    if (database.name === 'postgres') {
      it('neither listen nor notify through PostgreSQL', async () => {
        const query = vi.spyOn(pg.Client.prototype, 'query');
        const web = await start();
        await startDispatching();
        await untilListening();
        await web.listeners.create({ events: ['*'], url: web.receiver.url });
        await save(web);
        await web.receiver.waitFor(1);
        expect(JSON.stringify(query.mock.calls.map(([first]) => first))).not.toMatch(/LISTEN |pg_notify/);
      });
    }
  });
});
