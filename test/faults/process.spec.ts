import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { RetrySchedule, WebhookTransport, Webhook, type Outcome } from 'nestjs-entity-webhooks';
import { FakeDns } from 'nestjs-entity-webhooks/testing';
import { databases, type FreshDatabase } from '../support/databases.js';
import { listenToLog, type Said } from '../support/said.js';
import { LOOPBACK, startApp, type TestApp, type TestAppOptions } from '../support/webhooks-app.js';

@Webhook()
@Entity('item')
class Item {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

const WAIT = { timeout: 15_000, interval: 20 };
const DAY = 24 * 60 * 60 * 1_000;

let fresh: FreshDatabase;
let app: TestApp;
let said: Said;

beforeEach(async () => {
  fresh = await databases[0]!.reuse();
});
afterEach(async () => {
  await app.close();
  await fresh.drop();
  vi.restoreAllMocks();
});

async function start(webhooks: TestAppOptions['webhooks'] = {}): Promise<void> {
  app = await startApp({
    database: fresh.options,
    entities: [Item],
    webhooks: { ...webhooks, dispatcher: { pollIntervalMs: 50, ...webhooks.dispatcher } },
  });
  said = listenToLog();
}

const save = (name: string) => app.dataSource.getRepository(Item).save({ name });
const names = () => app.receiver.requests.map(({ json }) => (json as { data: { name: string } }).data.name);
const reaches = (counts: object) =>
  vi.waitFor(async () => expect(await app.deliveries.counts()).toMatchObject(counts), WAIT);

function holdAnswer(status = 204): () => void {
  let release = () => undefined as void;
  app.receiver.respond([{ status, delayUntil: new Promise<void>((resolve) => (release = resolve)) }]);
  return release;
}

it('a clock that jumps a day ahead and back delays no later delivery', async () => {
  await start();
  await app.listeners.create({ events: ['*'], url: app.receiver.url });
  app.dispatcher.start();
  for (const jump of [DAY, -DAY, -DAY]) {
    const release = holdAnswer();
    await save(`before ${jump}`);
    await vi.waitFor(() => expect(names()).toContain(`before ${jump}`), WAIT);
    app.clock.advance(jump);
    release();
    await save(`after ${jump}`);
    await vi.waitFor(() => expect(names()).toContain(`after ${jump}`), WAIT);
  }
  await reaches({ succeeded: 6, due: 0, leased: 0 });
  expect(said.errors).toEqual([]);
});

it('a listener whose row is deleted while its delivery is in flight stops no other listener', async () => {
  await start();
  const gone = await app.listeners.create({ events: ['*'], url: `${app.receiver.url}/gone` });
  app.dispatcher.start();
  for (const remove of [
    () => app.listeners.remove(gone.id),
    () => app.dataSource.query('DELETE FROM webhook_listener_state'),
    () => app.dataSource.query('DELETE FROM webhook_listeners'),
  ]) {
    const target = await app.listeners.create({ events: ['*'], url: `${app.receiver.url}/also` });
    app.receiver.clear();
    const release = holdAnswer(500);
    await save('a');
    await app.receiver.waitFor(1);
    await remove();
    release();
    await vi.waitFor(async () => expect(await app.deliveries.counts()).toMatchObject({ leased: 0 }), WAIT);
    await app.listeners.remove(target.id).catch(() => undefined);
  }
  await app.listeners.create({ events: ['*'], url: app.receiver.url });
  app.receiver.clear();
  await save('b');
  await app.receiver.waitForRequest(({ url, json }) => url === '/hooks' && (json as { data: Item }).data.name === 'b');
  expect(said.errors).toEqual([]);
});

it.each(['EMFILE', 'ENOBUFS'])(
  'a process that is out of sockets (%s) counts no attempt, and logs two lines',
  async (code) => {
    const dns = new FakeDns({ 'hooks.example': '127.0.0.1' });
    let refused = 0;
    let isOut = true;
    await start({
      security: {
        ...LOOPBACK,
        lookup: (name, options, callback) => {
          if (!isOut) return dns.lookup(name, options, callback);
          refused++;
          callback(Object.assign(new Error(`getaddrinfo ${code}`), { code }), '');
        },
      },
    });
    const { port } = new URL(app.receiver.url);
    await app.listeners.create({ events: ['*'], url: `http://hooks.example:${port}/hooks` });
    app.dispatcher.start();
    await save('a');
    await vi.waitFor(() => expect(refused).toBeGreaterThan(2), WAIT);
    isOut = false;
    await reaches({ succeeded: 1, leased: 0 });
    expect(names()).toEqual(['a']);
    const [delivery] = (await app.deliveries.list()).items;
    expect(delivery?.attemptCount).toBe(1);
    expect(said.errors).toHaveLength(1);
    expect(said.errors[0]).toContain(code);
    expect(said.news).toEqual(['The dispatcher works again.']);
  },
);

it('a name that does not resolve and a server that never answers delay no other listener', async () => {
  const dns = new FakeDns({ 'hooks.example': '127.0.0.1' });
  await start({
    dispatcher: { timeoutMs: 300, leaseMs: 5_000, concurrencyPerListener: 2, concurrency: 8 },
    security: {
      ...LOOPBACK,
      lookup: (name, options, callback) => {
        if (name !== 'dead.example') dns.lookup(name, options, callback);
      },
    },
  });
  const { port } = new URL(app.receiver.url);
  const listen = (name: string) => app.listeners.create({ events: ['*'], url: `http://${name}:${port}/hooks` });
  const [dead, unknown] = [await listen('dead.example'), await listen('unknown.example')];
  await listen('hooks.example');
  app.dispatcher.start();
  for (let n = 0; n < 4; n++) await save(String(n));
  await app.receiver.waitFor(4);
  await reaches({ succeeded: 4, due: 8, leased: 0 });
  const codes = async (listenerId: string) =>
    new Set((await app.deliveries.list({ listenerId })).items.map(({ lastErrorCode }) => lastErrorCode));
  expect(await codes(dead.id)).toEqual(new Set(['TIMEOUT']));
  expect(await codes(unknown.id)).toEqual(new Set(['DNS_FAILED']));
});

it('an event with an invalid text is marked as damaged in the same round, with the reason', async () => {
  await start();
  await app.listeners.create({ events: ['*'], url: app.receiver.url });
  const damaged = vi.fn();
  app.app.get(EventEmitter2).on('webhooks.outbox.damaged', damaged);
  await app.dataSource.getRepository(Item).save(['a', 'b', 'c', 'd'].map((name) => ({ name })));
  await app.dataSource.query(`UPDATE webhook_events SET payload = '{' WHERE payload LIKE '%"b"%'`);
  await app.dataSource.query(`UPDATE webhook_events SET payload = '{}' WHERE payload LIKE '%"c"%'`);
  expect(await app.dispatcher.runOnce()).toMatchObject({ events: 4, attempts: 2 });
  expect(names().toSorted()).toEqual(['a', 'd']);
  expect(damaged).toHaveBeenCalledTimes(2);
  expect(damaged).toHaveBeenCalledWith({
    eventId: expect.stringMatching(/^evt_/) as string,
    type: 'item.created',
    reason: expect.stringMatching(/./) as string,
  });
  expect(said.errors).toHaveLength(2);
});

it.each(['{', '{"name":7}'])(
  'a filter that throws (%s) marks its event as damaged, and other events continue in the same round',
  async (filter) => {
    await start();
    const { id } = await app.listeners.create({ events: ['item.updated'], url: app.receiver.url });
    await app.listeners.create({ events: ['item.created'], url: app.receiver.url });
    const { id: item } = await save('a');
    await app.dataSource.getRepository(Item).save({ id: item, name: 'b' });
    await save('c');
    await app.dataSource.query(`UPDATE webhook_listeners SET filter = '${filter}' WHERE id = '${id}'`);
    await app.dispatcher.runOnce();
    expect(names().toSorted()).toEqual(['a', 'c']);
    const events: { seq: number }[] = await app.dataSource.query('SELECT seq FROM webhook_events ORDER BY seq');
    const damaged: { seq: number }[] = await app.dataSource.query('SELECT seq FROM webhook_damaged');
    expect(damaged.map(({ seq }) => seq)).toEqual([events[1]?.seq]);
    expect(said.errors).toHaveLength(1);
  },
);

/** Faults of parts that the application replaces. */
class BrokenSchedule extends RetrySchedule {
  static delay: () => number = () => Number.NaN;
  override delayMs(): number {
    return BrokenSchedule.delay();
  }
}

it.each([
  [
    'throws',
    () => {
      throw new Error('of the schedule');
    },
  ],
  ['gives no number', () => Number.NaN],
])('a retry schedule that %s costs a minute, and no other delivery', async (_, delay) => {
  BrokenSchedule.delay = delay;
  await start({ parts: { retrySchedule: BrokenSchedule } });
  await app.listeners.create({ events: ['*'], url: app.receiver.url });
  app.receiver.failTimes(1);
  await save('a');
  await save('b');
  await app.dispatcher.drain();
  expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, due: 1, leased: 0 });
  app.clock.advance(60_000);
  await app.dispatcher.drain();
  expect(await app.deliveries.counts()).toMatchObject({ succeeded: 2 });
  expect(said.errors).toHaveLength(1);
});

class OddTransport extends WebhookTransport {
  override send(): Promise<Outcome> {
    return Promise.resolve({ kind: 'accepted', status: 204, durationMs: Number.NaN } as Outcome);
  }
}

it('attempts of a transport that returns no outcome are recorded as failed', async () => {
  await start({ parts: { transport: OddTransport } });
  await app.listeners.create({ events: ['*'], url: app.receiver.url });
  await save('a');
  await app.dispatcher.drain();
  expect((await app.deliveries.list()).items).toMatchObject([{ state: 'due', lastErrorCode: 'TRANSPORT_FAILED' }]);
});

const isOnSqlite = databases[0]?.name === 'sqlite';
it.runIf(isOnSqlite)(
  'an attempt that cannot be stored is separated: the others of its batch are recorded, and it is logged once',
  async () => {
    await start({ dispatcher: { leaseMs: 60_000 } });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.query(
      `CREATE TRIGGER refuse BEFORE INSERT ON webhook_deliveries WHEN new.last_status = 418 BEGIN SELECT raise(abort, 'not this one'); END`,
    );
    app.receiver.respond((request) => ({ status: (request.json as { data: Item }).data.name === '5' ? 418 : 204 }));
    await app.dataSource.getRepository(Item).save(Array.from({ length: 9 }, (_, n) => ({ name: String(n) })));
    app.dispatcher.start();
    await reaches({ succeeded: 8 });
    await vi.waitFor(() => expect(said.errors).toHaveLength(1), WAIT);
    expect(said.errors[0]).toMatch(/^The attempt of delivery dlv_\S+ could not be recorded/);
    // A lease still names the event: it is sent again when the lease has expired.
    const [{ left }] = (await app.dataSource.query('SELECT count(*) AS left FROM webhook_leases')) as [
      { left: number },
    ];
    expect(left).toBe(1);
  },
);

it.runIf(isOnSqlite)(
  'an attempt whose response cannot be stored is recorded without the response, and is not repeated',
  async () => {
    await start();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.query(
      `CREATE TRIGGER refuse BEFORE INSERT ON webhook_deliveries WHEN new.response LIKE '%odd%' BEGIN SELECT raise(abort, 'not this text'); END`,
    );
    app.receiver.respond({ status: 200, body: 'odd' });
    await save('a');
    app.dispatcher.start();
    await reaches({ succeeded: 1 });
    const [delivery] = (await app.deliveries.list()).items;
    const { attempts } = await app.deliveries.get(String(delivery?.id));
    expect(attempts).toMatchObject([{ status: 200, response: null }]);
    expect(app.receiver.requests).toHaveLength(1);
    expect(said.errors).toEqual([]);
  },
);

it.runIf(isOnSqlite)(
  'an attempt whose headers and phases cannot be stored is recorded without them, and is not repeated',
  async () => {
    await start({ log: { details: 'all' } });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.query(
      `CREATE TRIGGER refuse BEFORE INSERT ON webhook_attempts BEGIN SELECT raise(abort, 'no details'); END`,
    );
    await save('a');
    app.dispatcher.start();
    await reaches({ succeeded: 1 });
    const [delivery] = (await app.deliveries.list()).items;
    const { attempts } = await app.deliveries.get(String(delivery?.id));
    expect(attempts).toMatchObject([{ number: 1, outcome: 'accepted', status: 204 }]);
    expect(app.receiver.requests).toHaveLength(1);
    expect(said.errors).toEqual([]);
  },
);
