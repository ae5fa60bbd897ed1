import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { webhookEntities, type DispatcherOptions, type SupportedDriver } from 'nestjs-entity-webhooks';
import { Audit, Line, Order } from '../capture/shop.js';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import type { TestApp } from '../support/webhooks-app.js';

/** Answers 200 with the headers, and sends its body slowly and without end. */
async function dripping() {
  let arrivals = 0;
  const waiting: (() => void)[] = [];
  const server = createServer((request, response) => {
    request.resume();
    arrivals++;
    response.writeHead(200);
    response.flushHeaders();
    const drip = setInterval(() => response.write('.'), 20);
    response.on('close', () => clearInterval(drip));
    for (const look of waiting) look();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    arrived: (count: number) =>
      new Promise<void>((resolve) => {
        const look = () => (arrivals >= count ? resolve() : undefined);
        waiting.push(look);
        look();
      }),
  };
}

/** Makes ten thousand of the hundred deliveries to a listener, each with its own event, in a tenth of the time in which they are routed. */
async function multiplyDeliveries({ dataSource }: TestApp, listenerId: string): Promise<void> {
  const columnsOf = (table: string) => {
    const schemas = webhookEntities({ type: dataSource.options.type as SupportedDriver });
    const { columns = {} } = schemas.find(({ options }) => options.tableName === table)?.options ?? {};
    return Object.values(columns).flatMap((column) => (column?.name && column.name !== 'seq' ? [column.name] : []));
  };
  const copy = async (table: string, changes: Readonly<Record<string, string>>, from: string) => {
    const columns = columnsOf(table).map((column) => dataSource.driver.escape(column));
    const values = columnsOf(table).map((column) => changes[column] ?? `t.${dataSource.driver.escape(column)}`);
    await dataSource.query(`insert into ${table} (${columns.join()}) select ${values.join()} from ${from}`);
  };
  const routed = `select e.* from webhook_events e join webhook_deliveries d on d.event_seq = e.seq where d.listener_id = '${listenerId}'`;
  const [{ last }] = await dataSource.query<[{ last: number }]>('select max(seq) as last from webhook_events');
  await copy(
    'webhook_events',
    { id: "concat('evt_', t.seq, '_', n.seq)" },
    `(${routed}) t cross join (${routed} order by e.seq limit 99) n`,
  );
  await copy(
    'webhook_deliveries',
    { id: "concat('dlv_', e.seq)", event_seq: 'e.seq', event_at: 'e.created_at' },
    `webhook_events e cross join (select * from webhook_deliveries where listener_id = '${listenerId}' limit 1) t where e.seq > ${last}`,
  );
}

describeDatabases('listeners that share a dispatcher', (database) => {
  const apps = appsOn(database);
  const start = (dispatcher: DispatcherOptions = {}) =>
    apps.start({ entities: [Order, Line], others: [Audit], webhooks: { dispatcher } });

  const listen = ({ listeners, receiver }: TestApp, name: string) =>
    listeners.create({ events: ['order.*'], where: { note: name }, url: `${receiver.url}/${name}` });
  const place = ({ dataSource }: TestApp, name: string, count: number) =>
    dataSource.getRepository(Order).save(
      Array.from({ length: count }, (_, n) => ({ status: `${n}`, note: name })),
      { chunk: 1_000 },
    );
  const nameOf = ({ url }: { url: string }) => url.slice(url.lastIndexOf('/') + 1);

  it('never get more requests in flight than both limits allow', async () => {
    const app = await start({ concurrency: 5, concurrencyPerListener: 2 });
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) await listen(app, name);
    for (const name of names) await place(app, name, 15);
    const underWay: string[] = [];
    const most = { all: 0, one: 0 };
    app.receiver.respond(async (request) => {
      const name = nameOf(request);
      underWay.push(name);
      most.all = Math.max(most.all, underWay.length);
      most.one = Math.max(most.one, underWay.filter((other) => other === name).length);
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
      underWay.splice(underWay.indexOf(name), 1);
      return { status: 204 };
    });
    app.dispatcher.start();
    await app.receiver.waitFor(60, { timeoutMs: 20_000 });
    // Exactly the allowed number.
    expect(most).toEqual({ all: 5, one: 2 });
  });

  it('do not wait for a listener that never answers', async () => {
    const app = await start({ concurrency: 6, concurrencyPerListener: 2, eventsPerBatch: 10 });
    await listen(app, 'dead');
    await listen(app, 'alive');
    let release = () => undefined as void;
    const held = new Promise<void>((resolve) => (release = resolve));
    app.receiver.respond((request) => ({
      status: 204,
      ...(nameOf(request) === 'dead' ? { delayUntil: held } : {}),
    }));
    await place(app, 'dead', 60);
    await place(app, 'alive', 60);
    app.dispatcher.start();
    const alive = () => app.receiver.requests.filter((request) => nameOf(request) === 'alive').length;
    await app.receiver.waitForRequest(() => alive() === 60);
    expect(app.receiver.requests.length - alive()).toBe(2);
    release();
  });

  it('get their turn although ten thousand deliveries to another listener are due earlier', async () => {
    const app = await start({ concurrencyPerListener: 4, eventsPerBatch: 1_000, concurrency: 8 });
    const many = await listen(app, 'many');
    const single = await listen(app, 'single');
    for (const { id } of [many, single]) await app.listeners.disable(id);
    await place(app, 'many', 100);
    await place(app, 'single', 1);
    // Deliveries to a disabled listener are held: created, and due as soon as the listener is enabled.
    while ((await app.dispatcher.runOnce()).events);
    await multiplyDeliveries(app, many.id);
    for (const { id } of [many, single]) await app.listeners.enable(id);
    expect(await app.deliveries.counts()).toMatchObject({ due: 10_001 });
    app.dispatcher.start();
    await app.receiver.waitForRequest((request) => nameOf(request) === 'single');
    await app.dispatcher.stop();
    const before = app.receiver.requests.findIndex((request) => nameOf(request) === 'single');
    // A claim takes at most 8 deliveries of a new listener, twice its limit.
    expect(before).toBeLessThanOrEqual(8);
  }, 120_000);

  it('each receive at most their rate limit from all processes together', async () => {
    const app = await start();
    const other = await start();
    other.clock.set(app.clock.now());
    await app.listeners.create({
      events: ['order.*'],
      url: app.receiver.url,
      rateLimit: { limit: 5, perSeconds: 60 },
    });
    await place(app, 'any', 13);
    const drainBoth = () => Promise.all([app.dispatcher.drain(), other.dispatcher.drain()]);
    const { advance } = apps;
    await drainBoth();
    expect(app.receiver.requests).toHaveLength(5);
    advance(59_999);
    await drainBoth();
    expect(app.receiver.requests).toHaveLength(5);
    advance(3_001);
    await drainBoth();
    expect(app.receiver.requests).toHaveLength(10);
    advance(63_000);
    await drainBoth();
    expect(app.receiver.requests).toHaveLength(13);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 13, due: 0 });
  });

  it('do not wait for a response body of another owner: a slot is free when the status is known', async () => {
    const app = await start({ concurrency: 4, concurrencyPerListener: 2, concurrencyPerOwner: 2 });
    const drip = await dripping();
    for (let n = 0; n < 20; n++) {
      await app.listeners.create({ events: ['order.*'], url: `${drip.url}/${n}`, owner: 'bad' });
    }
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url, owner: 'acme' });
    await app.dataSource.getRepository(Order).save({ customerId: 'bad' });
    app.dispatcher.start();
    // More requests than there are slots and bodies being read, although no body has ended.
    await drip.arrived(20);
    await place(app, 'any', 30);
    await app.receiver.waitFor(30, { timeoutMs: 10_000 });
    await app.dispatcher.stop();
    const { succeeded } = await app.deliveries.counts();
    expect(succeeded).toBe(50);
  });

  it('of one owner never take more slots than the owner has, and listeners of another owner continue', async () => {
    const app = await start({ concurrency: 6, concurrencyPerListener: 2, concurrencyPerOwner: 3, eventsPerBatch: 30 });
    let release = () => undefined as void;
    const held = new Promise<void>((resolve) => (release = resolve));
    for (let n = 0; n < 40; n++) {
      await app.listeners.create({ events: ['order.*'], url: `${app.receiver.url}/bad`, owner: 'bad' });
    }
    await app.listeners.create({ events: ['order.*'], url: `${app.receiver.url}/good`, owner: 'acme' });
    app.receiver.respond((request) => ({ status: 204, ...(nameOf(request) === 'bad' ? { delayUntil: held } : {}) }));
    const bad = Array.from({ length: 10 }, () => ({ customerId: 'bad' }));
    await app.dataSource.getRepository(Order).save(bad);
    app.dispatcher.start();
    const count = (name: string) => app.receiver.requests.filter((request) => nameOf(request) === name).length;
    await app.receiver.waitForRequest(() => count('bad') === 3);
    for (let n = 0; n < 5; n++) await place(app, `${n}`, 10);
    await app.receiver.waitForRequest(() => count('good') === 50);
    expect(count('bad')).toBe(3);
    release();
    await app.receiver.waitForRequest(() => count('bad') === 400, { timeoutMs: 30_000 });
  }, 60_000);
});
