import { beforeEach, expect, it } from 'vitest';
import { RetrySchedule } from 'nestjs-entity-webhooks';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import type { TestApp } from '../support/webhooks-app.js';

const MINUTE = 60_000;

class EveryMinute extends RetrySchedule {
  override delayMs(): number {
    return MINUTE;
  }
}

const CIRCUIT = { failures: 3, cooldownMs: 60 * MINUTE, maxCooldownMs: 120 * MINUTE, disableAfterMs: 24 * 60 * MINUTE };

describeDatabases('a listener that is paused', (database) => {
  const apps = appsOn(database);
  let app: TestApp;
  let id: string;

  beforeEach(async () => {
    app = await apps.start({
      entities: [Parcel],
      webhooks: {
        parts: { retrySchedule: EveryMinute },
        dispatcher: { circuit: CIRCUIT, eventsPerBatch: 3, retryAfterCapMs: 120 * MINUTE },
      },
    });
    ({ id } = await app.listeners.create({ events: ['*'], url: app.receiver.url, owner: null }));
  });

  const save = async (count: number) => {
    for (let n = 0; n < count; n++) await app.dataSource.getRepository(Parcel).save({ name: `p${n}` });
  };
  const names = () =>
    app.receiver.requests.map(({ json }) => (json as { data: { name?: string } }).data.name ?? 'test');
  const pauseByReceiver = async () => {
    app.receiver.respond([{ status: 503, headers: { 'retry-after': String(60 * 60) } }]);
    await save(1);
    await app.dispatcher.drain();
    app.receiver.clear();
  };
  const openCircuit = async () => {
    app.receiver.respond({ status: 500 });
    await save(3);
    await app.dispatcher.drain();
    app.receiver.respond({ status: 204 }).clear();
    // Retries are due by then, and are pending behind the open circuit.
    apps.advance(2 * MINUTE);
  };

  it('shows since when it fails, until when it is paused, and when the next attempt is due', async () => {
    expect(await app.listeners.get(id)).toMatchObject({ failuresInARow: 0, failingSince: null, pausedUntil: null });
    const since = app.clock.now();
    await pauseByReceiver();
    const until = new Date(since + 60 * MINUTE);
    const shown = { failuresInARow: 1, failingSince: new Date(since), pausedUntil: until, nextAttemptAt: until };
    expect(await app.listeners.get(id)).toMatchObject(shown);
    expect((await app.listeners.list()).items).toMatchObject([shown]);
    apps.advance(60 * MINUTE);
    expect(await app.listeners.get(id)).toMatchObject({ failuresInARow: 1, pausedUntil: null });
    await app.dispatcher.drain();
    expect(await app.listeners.get(id)).toMatchObject({ failuresInARow: 0, failingSince: null, nextAttemptAt: null });
  });

  it('gets a resend, and the pause that it asked for ends', async () => {
    await pauseByReceiver();
    const [delivery] = (await app.deliveries.list()).items;
    await app.deliveries.resend(delivery!.id);
    await app.dispatcher.drain();
    expect(names()).toEqual(['p0']);
    expect(await app.listeners.get(id)).toMatchObject({ failuresInARow: 0, pausedUntil: null });
  });

  it('gets a test event', async () => {
    await pauseByReceiver();
    await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    expect(names()).toContain('test');
    expect(await app.listeners.get(id)).toMatchObject({ failuresInARow: 0, pausedUntil: null });
  });

  it('with an open circuit gets only the resent delivery, and is paused again when it fails', async () => {
    await openCircuit();
    app.receiver.respond({ status: 500 });
    await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    expect(names()).toEqual(['test']);
    const listener = await app.listeners.get(id);
    expect(listener.failuresInARow).toBe(4);
    expect(Number(listener.pausedUntil)).toBeGreaterThan(app.clock.now() + 60 * MINUTE);
  });

  it('with an open circuit gets the other deliveries when the resent one succeeds', async () => {
    await openCircuit();
    await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    expect(names()[0]).toBe('test');
    expect(names().toSorted()).toEqual(['p0', 'p1', 'p2', 'test']);
  });

  it('starts with a closed circuit at a new URL', async () => {
    await openCircuit();
    await app.listeners.update(id, { description: 'the same URL' });
    expect(await app.listeners.get(id)).toMatchObject({ failuresInARow: 3 });
    await app.listeners.update(id, { url: `${app.receiver.url}/new` });
    expect(await app.listeners.get(id)).toMatchObject({ failuresInARow: 0, failingSince: null, pausedUntil: null });
    await app.dispatcher.drain();
    expect(app.receiver.requests.map(({ url }) => url)).toEqual(Array(3).fill('/hooks/new'));
  });
});
