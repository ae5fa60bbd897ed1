import type { ReceivedRequest, ReceiverResponse } from 'nestjs-entity-webhooks/testing';
import { Order, Shipment, type Shop } from './shop-app.js';

const MINUTE = 60_000;

const CUSTOMERS = ['acme', 'globex', 'initech'];
const STATUSES = ['new', 'paid', 'shipped', 'delivered'];
const CARRIERS = ['DHL', 'UPS', 'Post'];

/** What the receivers of the shop answer. */
function respond({ headers }: ReceivedRequest, index: number): ReceiverResponse {
  const host = String(headers.host);
  if (host.startsWith('warehouse.')) {
    return { status: 503, headers: { 'content-type': 'text/html' }, body: '<h1>503 Service Unavailable</h1>' };
  }
  if (host.startsWith('billing.'))
    return index % 3 === 0 ? { status: 500, body: '{"error":"deadlock"}' } : { status: 202 };
  return { status: 204 };
}

/** A healthy listener, a failing one, one whose retries succeed, a disabled one, and some hours of events for them. */
export async function playTraffic(shop: Shop, rounds = 12): Promise<void> {
  const { listeners, receiver, clock, dispatcher, dataSource, url } = shop;
  receiver.respond(respond);
  await listeners.create({
    ...{ owner: 'acme', name: 'Order sync', url: url('hooks.acme.test/orders'), events: ['order.*'] },
    description: 'Keeps the orders of the ERP up to date.',
  });
  await listeners.create({
    ...{ owner: 'acme', url: url('warehouse.acme.test/api/v2/inbound/webhooks'), events: ['order.updated'] },
    where: { status: { changedTo: 'paid' }, total: { gte: '100.00' } },
  });
  await listeners.create({ owner: 'globex', name: 'Billing', url: url('billing.globex.test/in'), events: ['order.*'] });
  const crm = await listeners.create({
    owner: 'initech',
    name: 'Old CRM',
    url: url('crm.initech.test/hooks'),
    events: ['*'],
  });
  await listeners.disable(crm.id, 'The contract ended on 31 October.');
  await listeners.create({
    name: 'Analytics',
    url: url('analytics.shop.test/collect'),
    events: ['order.*', 'shipment.*'],
  });
  const orders = dataSource.getRepository(Order);
  for (let round = 0; round < rounds; round++) {
    const customer = CUSTOMERS[round % 3] as string;
    const order = await orders.save({
      ...{ customer, status: 'new', total: `${(round * 37 + 120.5).toFixed(2)}`, currency: 'EUR' },
      items: [{ sku: `SKU-${1000 + round}`, quantity: (round % 4) + 1 }],
    });
    for (const status of STATUSES.slice(1, 2 + (round % 3))) {
      clock.advance(4 * MINUTE);
      await orders.save({ ...order, status });
      await dispatcher.drain();
    }
    await dataSource
      .getRepository(Shipment)
      .save({ customer, carrier: CARRIERS[round % 3] as string, status: 'on its way' });
    clock.advance(11 * MINUTE);
    await dispatcher.drain();
  }
}
