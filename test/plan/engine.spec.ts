import { setTimeout as pause } from 'node:timers/promises';
import { beforeEach, expect, it } from 'vitest';
import { StandardRetrySchedule } from '../../libs/webhooks/src/health/retry-schedule.js';
import { resolveOptions } from '../../libs/webhooks/src/options/resolve-options.js';
import { engineCosts } from '../../libs/webhooks/src/plan/engine-costs.js';
import { listenerOutage } from '../../libs/webhooks/src/plan/listener-outage.js';
import { simulate, type Simulation } from '../../libs/webhooks/src/plan/simulation/simulate.js';
import { SystemWebhookClock } from 'nestjs-entity-webhooks';
import { Audit, Line, Order } from '../capture/shop.js';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';

const SECOND = 1_000;
const EVERY_MS = 5 * SECOND;
const OUTAGE_MS = 300 * SECOND;
const ANSWER_MS = 250;
const SLOTS = 4;
const DELIVERIES = 40;

const ONE = {
  processes: 1,
  machine: { databaseCores: 1, isShared: false },
  noticeMs: 0,
  untilMs: 600 * SECOND,
} as const;

describeDatabases('the model of the engine', (database) => {
  const apps = appsOn(database);
  const entities = { entities: [Order, Line], others: [Audit] };
  let options: Simulation['options'];
  beforeEach(() => {
    options = resolveOptions({ dispatcher: { concurrencyPerListener: SLOTS } }).dispatcher;
  });

  it('makes as many failed attempts in an outage as the engine, and ends it when the engine does', async () => {
    const app = await apps.start(entities);
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    app.receiver.respond({ status: 500 });
    const orders = app.dataSource.getRepository(Order);
    let requests = 0;
    for (let at = 0; at < OUTAGE_MS; at += EVERY_MS) {
      await orders.save({ status: `at ${at}` });
      await app.dispatcher.drain();
      requests = app.receiver.requests.length;
      app.clock.advance(EVERY_MS);
    }
    app.receiver.respond({ status: 204 });
    let releasedAt = OUTAGE_MS;
    for (; app.receiver.requests.length === requests; releasedAt += EVERY_MS) {
      app.clock.advance(EVERY_MS);
      await app.dispatcher.drain();
    }
    const found = listenerOutage({
      ...{ perSecond: SECOND / EVERY_MS, firstAt: 0, outageMs: OUTAGE_MS, circuit: options.circuit },
      retrySchedule: new StandardRetrySchedule(),
    });
    expect(Math.abs(found.failed - requests)).toBeLessThanOrEqual(1);
    expect(found.releasedAt / releasedAt).toBeGreaterThan(0.8);
    expect(found.releasedAt / releasedAt).toBeLessThan(1.2);
  });

  it('sends to a slow receiver as fast as the engine, within the noise of a busy machine', async () => {
    const dispatcher = { concurrencyPerListener: SLOTS };
    const app = await apps.start({ ...entities, webhooks: { dispatcher }, ownClock: new SystemWebhookClock() });
    await app.listeners.create({ events: ['order.created'], url: app.receiver.url });
    app.receiver.respond(async () => {
      await pause(ANSWER_MS);
      return { status: 204 };
    });
    await app.dataSource.getRepository(Order).save(Array.from({ length: DELIVERIES }, (_, n) => ({ status: `${n}` })));
    const began = performance.now();
    app.dispatcher.start();
    await app.receiver.waitFor(DELIVERIES);
    const realMs = performance.now() - began;
    await app.dispatcher.stop();
    const { lastSuccessAt } = simulate({
      ...{ ...ONE, costs: engineCosts(), options, retrySchedule: new StandardRetrySchedule() },
      arrivals: { backlog: DELIVERIES, perSecond: 0, forMs: 0 },
      receivers: [{ behavior: { answerMs: ANSWER_MS, status: 204 } }],
      route: () => [0],
    });
    // The last answer comes after the last request. A busy machine can only be slower than the model.
    expect((lastSuccessAt - ANSWER_MS) / realMs).toBeGreaterThan(0.5);
    expect((lastSuccessAt - ANSWER_MS) / realMs).toBeLessThan(1.2);
  });
});
