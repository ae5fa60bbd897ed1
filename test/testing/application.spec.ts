import { afterEach, beforeEach, expect, it } from 'vitest';
import { drain, expectDelivered, expectNothingSent, FakeDns } from 'nestjs-entity-webhooks/testing';
import { Audit, Line, Order } from '../capture/shop.js';
import { databases, type FreshDatabase } from '../support/databases.js';
import { LOOPBACK, startApp, type TestApp } from '../support/webhooks-app.js';

let fresh: FreshDatabase;
let app: TestApp;
const dns = new FakeDns({
  'hooks.example': '127.0.0.1',
  'inside.example': ['127.0.0.1', '10.0.0.1'],
  'later.example': '127.0.0.1',
});

beforeEach(async () => {
  fresh = await (databases[0] as (typeof databases)[number]).reuse();
  app = await startApp({
    database: fresh.options,
    entities: [Order, Line],
    others: [Audit],
    webhooks: { security: { ...LOOPBACK, lookup: dns.lookup } },
  });
});
afterEach(async () => {
  await app.close();
  await fresh.drop();
});

const urlOf = (host: string) => app.receiver.url.replace('127.0.0.1', host);

it('drains an application, and expectations list the requests that arrived', async () => {
  await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
  expectNothingSent(app.receiver);
  await app.dataSource.getRepository(Order).save({ status: 'a' });
  expect(await drain(app.app)).toEqual({ events: 1, attempts: 1 });
  await expectDelivered(app.receiver, { type: 'order.created', data: { status: 'a' } });
  expect(() => expectNothingSent(app.receiver)).toThrow(/order\.created/);
});

it('reaches a receiver by a name that only the fake DNS resolves', async () => {
  await app.listeners.create({ events: ['order.*'], url: urlOf('hooks.example') });
  await app.dataSource.getRepository(Order).save({ status: 'a' });
  await drain(app.app);
  await expectDelivered(app.receiver, { type: 'order.created' });
  expect(dns.queries).toContain('hooks.example');
});

it('sends nothing to a name that has a private address among its addresses', async () => {
  const inside = { events: ['order.*'], url: urlOf('inside.example') };
  await expect(app.listeners.create(inside)).rejects.toMatchObject({ code: 'URL_ADDRESS_BLOCKED' });
  // A name that is public at the check, and private afterwards.
  await app.listeners.create({ events: ['order.*'], url: urlOf('later.example') });
  dns.set('later.example', ['127.0.0.1', '10.0.0.1']);
  await app.dataSource.getRepository(Order).save({ status: 'a' });
  await drain(app.app);
  expectNothingSent(app.receiver);
  expect((await app.deliveries.list()).items).toMatchObject([{ lastErrorCode: 'ADDRESS_BLOCKED' }]);
});
