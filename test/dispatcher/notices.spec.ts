import { Logger } from '@nestjs/common';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  RetrySchedule,
  LIFECYCLE_EVENTS,
  type CircuitOpenedLifecycleEvent,
  type DeliveryLifecycleEvent,
} from 'nestjs-entity-webhooks';
import { databases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const OWNER = 'acme\nWARN nothing is wrong';

class ThreeAttempts extends RetrySchedule {
  override delayMs(failures: number): number | null {
    return failures < 3 ? 1_000 : null;
  }
}

describe('the log warns', () => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let warned: string[];
  let opened: CircuitOpenedLifecycleEvent[];
  let exhausted: DeliveryLifecycleEvent[];
  let id: string;

  beforeEach(async () => {
    fresh = await databases[0]!.reuse();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: ['thing.happened'],
        parts: { retrySchedule: ThreeAttempts },
        dispatcher: { circuit: { failures: 3, cooldownMs: 1_000, maxCooldownMs: 1_000 } },
      },
    });
    ({ id } = await app.listeners.create({ events: ['*'], url: `${app.receiver.url}?token=hidden`, owner: OWNER }));
    app.receiver.respond({ status: 500 });
    warned = [];
    vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warned.push(String(text)));
    [opened, exhausted] = [[], []];
    const emitter = app.app.get(EventEmitter2);
    emitter.on(LIFECYCLE_EVENTS.circuitOpened, (event: CircuitOpenedLifecycleEvent) => opened.push(event));
    emitter.on(LIFECYCLE_EVENTS.exhausted, (event: DeliveryLifecycleEvent) => exhausted.push(event));
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
    await fresh.drop();
  });

  const publish = () => app.webhooks.publish('thing.happened', {}, { owner: OWNER });
  async function attempts(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      await app.dispatcher.drain();
      app.clock.advance(60_000);
    }
  }
  const named = () => `${id} (${app.receiver.url}, owner ${JSON.stringify(OWNER)})`;
  const url = () => `${app.receiver.url}?token=hidden`;

  it('that a circuit has opened, once, and that a delivery is exhausted', async () => {
    await publish();
    await attempts(3);
    expect(warned).toEqual([
      expect.stringContaining(`Delivery ${exhausted[0]?.deliveryId} to ${named()} is exhausted after 3 attempts: 500.`),
      expect.stringContaining(`The circuit of listener ${named()} is open: 3 consecutive attempts failed.`),
    ]);
    expect(opened).toMatchObject([{ listenerId: id, url: url(), owner: OWNER, failuresInARow: 3 }]);
    expect(exhausted).toMatchObject([{ listenerId: id, url: url(), owner: OWNER }]);
    expect(warned.join()).not.toContain('hidden');
  });

  it('once a minute about a listener with many exhausted deliveries, with their number', async () => {
    for (let n = 0; n < 4; n++) await publish();
    await attempts(20);
    expect(exhausted).toHaveLength(4);
    const ofExhausted = () => warned.filter((text) => text.includes('is exhausted'));
    expect(ofExhausted()).toHaveLength(1);
    const later = performance.now() + 60_000;
    vi.spyOn(performance, 'now').mockImplementation(() => later);
    await publish();
    await attempts(4);
    expect(ofExhausted()).toHaveLength(2);
    expect(ofExhausted()[1]).toContain('3 more deliveries of this listener are exhausted.');
  });

  it('that a listener is disabled, by the application or by the library', async () => {
    await app.listeners.disable(id, 'no more');
    await app.listeners.enable(id);
    app.receiver.respond({ status: 410 });
    await publish();
    await attempts(1);
    const ofDisabled = warned.filter((text) => text.includes('is disabled'));
    expect(ofDisabled).toEqual([
      `Listener ${named()} is disabled: "no more". Deliveries to this listener are held.`,
      `Listener ${named()} is disabled: "the endpoint answered 410 Gone". Deliveries to this listener are held.`,
    ]);
  });
});
