import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWebhooksClient, WebhooksApiError, type WebhooksClient } from 'nestjs-entity-webhooks/client';
import { OPERATIONS } from '../../libs/webhooks/src/client/operations.js';
import { Order, startApiApp, type ApiApp, type Platform } from './api-app.js';

describe.each(['express', 'fastify'] satisfies Platform[])('the client (%s)', (platform) => {
  let api: ApiApp;
  let operator: WebhooksClient;
  let acme: WebhooksClient;

  beforeAll(async () => {
    api = await startApiApp({ platform });
    const url = `${api.origin}/webhooks/v1/`;
    operator = createWebhooksClient({ url, headers: { 'x-user': 'operator' } });
    const can = ['listeners:read', 'listeners:write', 'deliveries:read', 'payloads:read', 'tests:send'] as const;
    const { token } = await operator.createSession({ body: { kind: 'owner', owner: 'acme', can } });
    acme = createWebhooksClient({ url, token: () => Promise.resolve(token) });
  });
  afterAll(() => api.close());

  it('has a method for each operation of the document, with its method and path', async () => {
    const { paths } = (await operator.getOpenApi()) as {
      paths: Record<string, Record<string, { operationId: string }>>;
    };
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { operationId }]) => [operationId, [method.toUpperCase(), path]]),
    );
    expect(Object.fromEntries(documented)).toEqual(OPERATIONS);
  });

  it('calls each kind of operation', async () => {
    expect(await acme.getMe()).toMatchObject({ kind: 'owner', owner: 'acme' });
    const created = await acme.createListener(
      { body: { events: ['order.*'], url: api.receiver.url } },
      { idempotencyKey: `${platform} 1` },
    );
    const { id } = created;
    const again = await acme.createListener(
      { body: { events: ['order.*'], url: api.receiver.url } },
      { idempotencyKey: `${platform} 1` },
    );
    expect(again).toEqual(created);
    expect(await acme.updateListener({ id, body: { name: 'x' } }, { ifRevision: 1 })).toMatchObject({ revision: 2 });
    await expect(acme.updateListener({ id, body: { name: 'y' } }, { ifRevision: 1 })).rejects.toMatchObject({
      name: 'WebhooksApiError',
      status: 412,
      code: 'LISTENER_CHANGED',
    });
    expect(await acme.disableListener({ id })).toMatchObject({ state: 'disabled' });
    expect(await acme.enableListener({ id, body: { held: 'discard' } })).toMatchObject({ state: 'active' });
    await api.dataSource.getRepository(Order).save({ id: 1, customer: 'acme', status: 'new' });
    await api.dispatcher.drain();
    const since = new Date(api.clock.now() - 1_000);
    const { items } = await acme.listDeliveries({ query: { listenerId: id, since } });
    expect(items).toMatchObject([{ type: 'order.created', state: 'succeeded' }]);
    const { id: deliveryId = '', eventId = '' } = items[0] ?? {};
    expect(JSON.parse(await acme.getDeliveryBody({ id: deliveryId }))).toMatchObject({ type: 'order.created' });
    expect(await acme.getEvent({ id: eventId })).toMatchObject({ data: { id: 1 }, deliveries: { succeeded: 1 } });
    expect(await acme.deleteListener({ id })).toBeUndefined();
    await expect(acme.getListener({ id: 'a/../b ?' })).rejects.toBeInstanceOf(WebhooksApiError);
  });

  it('reports answers that are not from the API', async () => {
    const broken = createWebhooksClient({
      url: 'http://127.0.0.1/',
      fetch: () => Promise.resolve(new Response('<html>', { status: 502 })),
    });
    await expect(broken.getMe()).rejects.toMatchObject({ status: 502, message: 'The API answered 502.' });
  });
});
