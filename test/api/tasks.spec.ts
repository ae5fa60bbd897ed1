import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createWebhooksClient, type WebhooksClient } from 'nestjs-entity-webhooks/client';
import { Order, startApiApp, type ApiApp } from './api-app.js';

describe('bulk work by the API', () => {
  let api: ApiApp;
  let operator: WebhooksClient;
  let orderId = 0;
  beforeAll(async () => {
    api = await startApiApp({ api: { limits: { writesPerMinute: 1_000 } } });
    operator = createWebhooksClient({ url: `${api.origin}/webhooks/v1`, headers: { 'x-user': 'operator' } });
  });
  afterEach(async () => {
    for (const table of ['tasks', 'events', 'deliveries', 'attempts', 'listeners', 'listener_state', 'routes'])
      await api.dataSource.query(`DELETE FROM webhook_${table}`);
    api.receiver.respond({ status: 204 }).clear();
  });
  afterAll(() => api.close());

  const since = '2020-01-01T00:00:00Z';
  const as = 'acme operate';
  const listen = (owner = 'acme') => api.listeners.create({ owner, events: ['order.*'], url: api.receiver.url });
  const save = () => api.dataSource.getRepository(Order).save({ id: ++orderId, customer: 'acme', status: 'a secret' });
  const disabled = async () => {
    const { id } = await listen();
    await api.listeners.disable(id);
    await save();
    await api.dispatcher.drain();
    return id;
  };

  it('counts first, then creates a task, which is listed, read and cancelled', async () => {
    const listenerId = await disabled();
    const body = { kind: 'discard', listenerId, ratePerSecond: 5 };
    expect(await api.call('POST', '/tasks', { as, body: { ...body, dryRun: true } })).toMatchObject({
      status: 200,
      body: { count: 1, capped: false, oldest: expect.stringMatching(/Z$/) as string },
    });
    expect((await api.call('GET', '/tasks', { as })).body.items).toEqual([]);
    const created = await api.call('POST', '/tasks', { as, body, headers: { 'idempotency-key': 'once' } });
    expect(created).toMatchObject({
      status: 202,
      body: {
        ...{ kind: 'discard', state: 'queued', done: 0, estimate: 1, owner: 'acme', actor: 'user of acme' },
        ...{ ratePerSecond: 5, filter: { listenerId }, error: null, startedAt: null },
        updatedAt: new Date(api.clock.now()).toJSON(),
      },
    });
    const again = await api.call('POST', '/tasks', { as, body, headers: { 'idempotency-key': 'once' } });
    expect([again.status, again.body.id, again.headers.get('idempotency-replayed')]).toEqual([
      202,
      created.body.id,
      'true',
    ]);
    const { id } = created.body as { id: string };
    expect((await api.call('GET', '/tasks?state=queued&kind=discard', { as })).body.items).toMatchObject([{ id }]);
    expect((await api.call('GET', `/tasks/${id}`, { as })).body).toEqual(created.body);
    await api.tasks.run(id);
    expect((await api.call('GET', `/tasks/${id}`, { as })).body).toMatchObject({ state: 'done', done: 1 });
    expect(await api.call('POST', `/tasks/${id}/cancel`, { as })).toMatchObject({
      status: 409,
      body: { code: 'TASK_ENDED' },
    });
    const other = await api.call('POST', '/tasks', { as, body: { kind: 'recover', since } });
    expect(other.body.filter).toEqual({ since: '2020-01-01T00:00:00.000Z' });
    expect((await api.call('POST', `/tasks/${other.body.id}/cancel`, { as })).body).toMatchObject({
      state: 'cancelled',
    });
  });

  it('repeats a dry run with the same key as a dry run', async () => {
    const call = { as, body: { kind: 'recover', since, dryRun: true }, headers: { 'idempotency-key': 'dry' } };
    const [first, second] = [await api.call('POST', '/tasks', call), await api.call('POST', '/tasks', call)];
    expect([first.status, second.status, second.text]).toEqual([200, 200, first.text]);
  });

  it('says which property is wrong, by its name in the API', async () => {
    const fault = async (body: object, who = as) => {
      const answer = await api.call('POST', '/tasks', { as: who, body });
      return [
        answer.status,
        answer.body.code,
        ...(answer.body.errors ?? []).map((one: { pointer: string }) => one.pointer),
      ];
    };
    expect(await fault({})).toEqual([400, 'INVALID_REQUEST', '/kind']);
    expect(await fault({ kind: 'recover' })).toEqual([400, 'INVALID_TASK', '/since']);
    expect(await fault({ kind: 'replay', since, error: 'TIMEOUT' })).toEqual([400, 'INVALID_TASK', '/error']);
    expect(await fault({ kind: 'recover', since, from: since })).toEqual([400, 'INVALID_REQUEST', '/from']);
    expect(await fault({ kind: 'erase' }, 'operator')).toEqual([400, 'INVALID_TASK', '/eventId', '/entity', '/owner']);
    expect(await fault({ kind: 'recover', since }, 'acme view')).toEqual([403, 'CAPABILITY_MISSING']);
    const listenerId = await disabled();
    for (let n = 0; n < 2; n++) await api.call('POST', '/tasks', { as, body: { kind: 'discard', listenerId } });
    expect(await fault({ kind: 'discard', listenerId })).toEqual([409, 'TOO_MANY_TASKS']);
  });

  it('discards one delivery, and sends one event to one listener', async () => {
    await disabled();
    const [delivery] = (await api.call('GET', '/deliveries', { as })).body.items;
    const discard = () => api.call('POST', `/deliveries/${delivery.id}/discard`, { as });
    expect(await discard()).toMatchObject({ status: 200, body: { id: delivery.id, state: 'discarded' } });
    expect(await discard()).toMatchObject({ status: 409, body: { code: 'DELIVERY_FINISHED' } });
    const { id: listenerId } = await listen();
    const send = () => api.call('POST', `/events/${delivery.eventId}/deliveries`, { as, body: { listenerId } });
    expect(await send()).toMatchObject({ status: 202, body: { listenerId, eventId: delivery.eventId, state: 'due' } });
    expect(await send()).toMatchObject({ status: 409, body: { code: 'DELIVERY_EXISTS' } });
    await api.dispatcher.drain();
    expect(api.receiver.requests).toHaveLength(1);
  });

  it('erases the content of an event, and of the events of a row', async () => {
    await listen();
    const { id } = await save();
    await api.dispatcher.drain();
    const [{ id: eventId } = { id: '' }] = (await operator.listEvents({ query: { owner: 'acme' } })).items;
    const [{ id: deliveryId } = { id: '' }] = (await operator.listDeliveries()).items;
    expect(await api.call('DELETE', `/events/${eventId}/content`, { as: 'acme' })).toMatchObject({ status: 403 });
    await operator.eraseEvent({ id: eventId });
    expect(await operator.getEvent({ id: eventId })).toMatchObject({
      data: null,
      erasedAt: expect.any(String) as string,
    });
    expect(await api.call('GET', `/deliveries/${deliveryId}/body`, { as })).toMatchObject({
      status: 410,
      body: { code: 'CONTENT_ERASED' },
    });
    await save();
    const row = { entity: 'Order', entityId: String(id + 1) };
    const task = await operator.createTask({ body: { kind: 'erase', ...row } });
    expect(task).toMatchObject({ kind: 'erase', estimate: 1, filter: row });
    expect(await api.tasks.run((task as { id: string }).id)).toMatchObject({ state: 'done', done: 1 });
  });
});
