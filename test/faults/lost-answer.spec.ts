import { EventEmitter2 } from '@nestjs/event-emitter';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DeliveryLifecycleEvent, ListenerDisabledLifecycleEvent } from 'nestjs-entity-webhooks';
import { Parcel } from '../support/dispatching-process.js';
import { createProxied, networked, type ProxiedDatabase } from '../support/proxied-database.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const WAIT = { timeout: 15_000, interval: 20 };

describe.each(networked)('a record that was stored, but whose answer was lost ($name)', (target) => {
  let database: ProxiedDatabase;
  let app: TestApp;
  let writer: TestApp;
  let emitted: DeliveryLifecycleEvent[];
  let disabled: ListenerDisabledLifecycleEvent[];

  beforeEach(async () => {
    database = await createProxied(target);
    writer = await startApp({ database: database.options, entities: [Parcel] });
    app = await startApp({
      database: database.proxied,
      entities: [Parcel],
      webhooks: { dispatcher: { pollIntervalMs: 100 } },
    });
    await writer.listeners.create({ events: ['*'], url: app.receiver.url });
    listenToLog();
    emitted = [];
    disabled = [];
    const emitter = app.app.get(EventEmitter2);
    for (const name of ['succeeded', 'failed']) {
      emitter.on(`webhooks.delivery.${name}`, (event: DeliveryLifecycleEvent) => emitted.push(event));
    }
    emitter.on('webhooks.listener.disabled', (event: ListenerDisabledLifecycleEvent) => disabled.push(event));
    app.dispatcher.start();
  });
  afterEach(async () => {
    await app.close();
    await writer.close();
    await database.drop();
    vi.restoreAllMocks();
  });

  /** The statements that store it: one statement, or the COMMIT after it. */
  const isRecord = (said: string) =>
    /insert into \S*webhook_deliveries/i.test(said) && (target.name === 'postgres' || /commit/i.test(said));
  const attempts = async () => {
    const { items } = await writer.deliveries.list();
    const details = await Promise.all(items.map(({ id }) => writer.deliveries.get(id)));
    return details.flatMap((one) => one.attempts.map(({ superseded }) => ({ superseded })));
  };

  it('is found and not stored again, and its lifecycle event is emitted', async () => {
    await writer.dataSource.getRepository(Parcel).save({ name: 'first' });
    await vi.waitFor(() => expect(emitted).toHaveLength(1), WAIT);
    database.proxy.loseAnswerTo(isRecord);
    await writer.dataSource.getRepository(Parcel).save({ name: 'lost' });
    await vi.waitFor(() => expect(emitted).toHaveLength(2), WAIT);
    expect(await attempts()).toEqual([{ superseded: false }, { superseded: false }]);
    expect(app.receiver.requests).toHaveLength(2);
    expect(await writer.deliveries.counts()).toMatchObject({ succeeded: 2, leased: 0 });
  });

  it('also emits that it has disabled a listener', async () => {
    app.receiver.respond({ status: 410 });
    // The whole record is one transaction, which ends with a COMMIT on PostgreSQL, too.
    database.proxy.loseAnswerTo((said) => /insert into \S*webhook_deliveries/i.test(said) && /commit/i.test(said));
    await writer.dataSource.getRepository(Parcel).save({ name: 'gone' });
    await vi.waitFor(() => expect(emitted).toHaveLength(1), WAIT);
    expect(await attempts()).toEqual([{ superseded: false }]);
    expect(disabled).toMatchObject([{ reason: 'the endpoint answered 410 Gone' }]);
  });
});
