import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type CreateListenerInput,
  type Delivery,
  type DeliveryFilter,
  type DeliveryState,
} from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { HOUR, MINUTE, Order, ShortFormat, ThreeAttempts } from '../support/logged-orders.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

describeDatabases('the log of deliveries', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order],
      webhooks: {
        publishedTypes: ['invoice.overdue'],
        parts: { retrySchedule: ThreeAttempts, payloadFormats: [ShortFormat] },
      },
    });
  });
  afterEach(async () => {
    ShortFormat.isBroken = false;
    app.clock.set(Date.now());
    app.receiver.respond({ status: 204 }).clear();
    for (const table of ['events', 'listeners', 'routes', 'route_paths', 'deliveries', 'attempts', 'listener_state']) {
      await app.dataSource.query(`DELETE FROM webhook_${table}`);
    }
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });
  const save = (customerId = 'acme') => app.dataSource.manager.save(Order, { customerId });
  /** The only delivery. */
  const only = async (): Promise<Delivery> => {
    const { items } = await app.deliveries.list();
    expect(items).toHaveLength(1);
    return items[0] as Delivery;
  };
  const requests = () => {
    const { requests } = app.receiver;
    const all = [...requests];
    app.receiver.clear();
    return all;
  };

  describe('list and counts', () => {
    it('have the total duration of a delivery that has finished', async () => {
      app.receiver.respond({ status: 500 });
      await listen();
      await save();
      await app.dispatcher.drain();
      expect(await only()).toMatchObject({ state: 'due', totalDurationMs: null });

      app.receiver.respond({ status: 204 });
      app.clock.advance(MINUTE);
      await app.dispatcher.drain();
      const { state, createdAt, finishedAt, totalDurationMs } = await only();
      expect(state).toBe('succeeded');
      expect(totalDurationMs).toBeGreaterThanOrEqual(MINUTE);
      expect(totalDurationMs).toBe(Number(finishedAt) - Number(createdAt));
    });

    it('filter by listener, event, type, state, owner and time, and by all of these together', async () => {
      const start = app.clock.now();
      const acme = await listen({ owner: 'acme', events: ['order.*'] });
      const globex = await listen({ owner: 'globex' });
      const own = await listen();
      await save('acme'); // to acme and own
      app.clock.advance(MINUTE);
      await save('globex'); // to globex and own
      await app.dispatcher.drain();
      app.clock.advance(MINUTE);
      app.receiver.respond({ status: 500 });
      const { id: eventId } = await app.webhooks.publish('invoice.overdue', {}, { owner: 'globex' }); // to globex and own
      await app.dispatcher.drain();

      const labels: Record<string, string> = { [acme.id]: 'acme', [globex.id]: 'globex', [own.id]: 'own' };
      const answer = async (filter: DeliveryFilter) => {
        const { items, next } = await app.deliveries.list(filter);
        expect(next).toBeNull();
        const counts = await app.deliveries.counts(filter);
        expect(Object.values(counts).reduce((sum, count) => sum + count, 0)).toBe(items.length);
        for (const { state } of items) expect(counts[state]).toBeGreaterThan(0);
        return items.map(({ type, listenerId }) => `${type} ${labels[listenerId]}`).toSorted();
      };
      const at = (minutes: number) => new Date(start + minutes * MINUTE);
      expect(await answer({})).toHaveLength(6);
      expect(await answer({ listenerId: acme.id })).toEqual(['order.created acme']);
      expect(await answer({ listenerId: own.id })).toEqual([
        'invoice.overdue own',
        'order.created own',
        'order.created own',
      ]);
      expect(await answer({ eventId })).toEqual(['invoice.overdue globex', 'invoice.overdue own']);
      expect(await answer({ type: 'invoice.overdue' })).toEqual(['invoice.overdue globex', 'invoice.overdue own']);
      expect(await answer({ state: 'due' })).toEqual(['invoice.overdue globex', 'invoice.overdue own']);
      expect(await answer({ state: 'succeeded' })).toHaveLength(4);
      expect(await answer({ state: 'exhausted' })).toEqual([]);
      expect(await answer({ owner: 'globex' })).toEqual(['invoice.overdue globex', 'order.created globex']);
      expect(await answer({ since: at(2) })).toEqual(['invoice.overdue globex', 'invoice.overdue own']);
      expect(await answer({ until: at(1) })).toHaveLength(4 - 2 * Number(database.name === undefined) - 4);
      expect(await answer({ since: at(0), until: at(2) })).toHaveLength(4);
      expect(await answer({ since: at(3) })).toEqual([]);
      const all = { listenerId: globex.id, eventId, type: 'invoice.overdue', state: 'due', owner: 'globex' } as const;
      expect(await answer({ ...all, since: at(2), until: at(3) })).toEqual(['invoice.overdue globex']);
      expect(await answer({ ...all, listenerId: own.id })).toEqual([]);
      expect(await app.deliveries.forOwner('acme').counts()).toEqual({
        ...{ due: 0, leased: 0, held: 0, succeeded: 1, exhausted: 0, discarded: 0 },
      });
    });

    it('page through all deliveries, newest first, without gaps or duplicates even if many have the same time', async () => {
      await listen({ events: ['order.created'] });
      const { manager } = app.dataSource;
      for (let batch = 0; batch < 3; batch++) {
        await manager.save(
          Order,
          Array.from({ length: 9 }, () => ({ customerId: 'acme' })),
        );
        await app.dispatcher.drain();
        app.clock.advance(1);
      }
      const whole = (await app.deliveries.list({ limit: 500 })).items;
      expect(whole).toHaveLength(27);
      expect(new Set(whole.map(({ createdAt }) => createdAt.getTime())).size).toBe(3);
      const times = whole.map(({ createdAt }) => createdAt.getTime());
      expect(times).toEqual(times.toSorted((a, b) => b - a));
      for (const limit of [1, 4, 9, 26, 27]) {
        const ids: string[] = [];
        let cursor: string | null | undefined;
        do {
          const page = await app.deliveries.list({ limit, ...(cursor ? { cursor } : {}) });
          expect(page.items.length).toBe(Math.min(limit, 27 - ids.length));
          ids.push(...page.items.map(({ id }) => id));
          cursor = page.next;
        } while (cursor !== null);
        expect(ids).toEqual(whole.map(({ id }) => id));
      }
    });

    it('continue at the same place within their filter when newer deliveries arrive between two pages', async () => {
      await listen({ owner: 'acme' });
      await listen({ owner: 'globex' });
      for (let n = 0; n < 4; n++) await save(n % 2 ? 'acme' : 'globex');
      await app.dispatcher.drain();
      const mine = app.deliveries.forOwner('acme');
      const first = await mine.list({ limit: 1 });
      await save('acme');
      await app.dispatcher.drain();
      const second = await mine.list({ limit: 1, cursor: first.next as string });
      expect(second.next).toBeNull();
      expect(new Set([...first.items, ...second.items].map(({ id }) => id)).size).toBe(2);
      expect([...first.items, ...second.items].every(({ owner }) => owner === 'acme')).toBe(true);
    });

    it('the list of listeners pages in the same way', async () => {
      const ids: string[] = [];
      for (let n = 0; n < 7; n++) ids.unshift((await listen({ owner: n % 2 ? 'acme' : null })).id);
      const seen: string[] = [];
      let cursor: string | null | undefined;
      do {
        const page = await app.listeners.list({ limit: 3, ...(cursor ? { cursor } : {}) });
        seen.push(...page.items.map(({ id }) => id));
        cursor = page.next;
      } while (cursor !== null);
      expect(seen).toEqual(ids);
      await app.listeners.disable(ids[0] as string);
      expect((await app.listeners.list({ state: 'disabled' })).items.map(({ id }) => id)).toEqual([ids[0]]);
      expect((await app.listeners.forOwner('acme').list({ limit: 2 })).items).toHaveLength(2);
    });
  });

  describe('get', () => {
    it('shows every attempt: status, duration, the first 4 KB of the answer, error code and outcome', async () => {
      await listen();
      app.receiver.respond([
        { status: 500, body: 'x'.repeat(5_000) },
        { status: 302, headers: { location: 'http://127.0.0.1/' }, body: 'elsewhere' },
        { status: 200, body: 'thanks \0 ä😀' },
      ]);
      await save();
      const startedAt: Date[] = [];
      for (let n = 0; n < 3; n++) {
        startedAt.push(new Date(app.clock.now()));
        await app.dispatcher.drain();
        app.clock.advance(MINUTE);
      }
      const delivery = await app.deliveries.get((await only()).id);
      expect(delivery).toMatchObject({
        state: 'succeeded',
        attemptCount: 3,
        lastStatus: 200,
        lastErrorCode: null,
        nextAttemptAt: null,
      });
      expect(delivery.finishedAt).toEqual(startedAt[2]);
      expect(delivery.attempts).toMatchObject([
        {
          ...{ number: 1, outcome: 'rejected', status: 500, errorCode: 'HTTP_STATUS', errorDetail: null },
          ...{ response: 'x'.repeat(4_096), superseded: false, startedAt: startedAt[0] },
        },
        {
          ...{ number: 2, outcome: 'rejected', status: 302, errorCode: 'REDIRECT', errorDetail: null },
          ...{ response: 'elsewhere', superseded: false, startedAt: startedAt[1] },
        },
        {
          ...{ number: 3, outcome: 'accepted', status: 200, errorCode: null, errorDetail: null },
          ...{ response: 'thanks  ä😀', superseded: false, startedAt: startedAt[2] },
        },
      ]);
      for (const { durationMs } of delivery.attempts)
        expect(durationMs).toSatisfy((ms: number) => Number.isInteger(ms) && ms >= 0);
    });

    it('hides from an owner the fields for operators', async () => {
      await listen({ owner: 'acme', url: 'http://127.0.0.1:1/' });
      await save();
      await app.dispatcher.drain();
      const { id } = await only();
      const [forOperator] = (await app.deliveries.get(id)).attempts;
      expect(forOperator).toMatchObject({
        outcome: 'unreachable',
        status: null,
        response: null,
        errorCode: 'CONNECTION_REFUSED',
      });
      expect(forOperator?.errorDetail).toContain('127.0.0.1');
      const [forCustomer] = (await app.deliveries.forOwner('acme').get(id)).attempts;
      expect(forCustomer).toEqual({ ...forOperator, errorDetail: null });
      expect(forCustomer?.phases).toMatchObject({ connection: 'none', connectMs: null });
    });

    it('shows no secrets', async () => {
      const { secret } = await listen({ headers: { authorization: 'Bearer s3cr3t' } });
      await save();
      await app.dispatcher.drain();
      const shown = JSON.stringify([await app.deliveries.get((await only()).id), await app.deliveries.list()]);
      expect(shown).not.toContain('s3cr3t');
      expect(shown).not.toContain(secret);
    });

    it('shows when the next attempt is due, if there is one', async () => {
      await listen();
      app.receiver.respond({ status: 500 });
      await save();
      for (const state of ['due', 'due', 'exhausted'] as const) {
        await app.dispatcher.drain();
        const delivery = await only();
        expect(delivery).toMatchObject({ state, lastStatus: 500, lastErrorCode: 'HTTP_STATUS' });
        const now = app.clock.now();
        expect(delivery.nextAttemptAt).toEqual(state === 'due' ? new Date(now + MINUTE) : null);
        expect(delivery.finishedAt).toEqual(state === 'due' ? null : new Date(now));
        app.clock.advance(MINUTE);
      }
    });
  });

  describe('resend', () => {
    const sameBytes = (again: ReceivedRequest | undefined, first: ReceivedRequest | undefined) => {
      expect(again?.rawBody.equals(first?.rawBody as Buffer)).toBe(true);
      expect(again?.headers['webhook-id']).toBe(first?.headers['webhook-id']);
    };

    it('sends a succeeded delivery again: the same id and bytes, with a new signature, as one more attempt', async () => {
      const { secret } = await listen();
      await save();
      await app.dispatcher.drain();
      const [first] = requests();
      app.clock.advance(HOUR);
      expect(await app.deliveries.resend((await only()).id)).toMatchObject({ state: 'due', finishedAt: null });
      await app.dispatcher.drain();
      const [again, ...more] = requests();
      expect(more).toEqual([]);
      sameBytes(again, first);
      expect(Number(again?.headers['webhook-timestamp'])).toBe(Math.floor(app.clock.now() / 1_000));
      app.receiver.verify(again as ReceivedRequest, secret);
      expect(await app.deliveries.get((await only()).id)).toMatchObject({
        ...{ state: 'succeeded', attemptCount: 2 },
        attempts: [{ number: 1 }, { number: 2 }],
      });
    });

    it('sends an exhausted delivery again, with a new retry schedule', async () => {
      await listen();
      app.receiver.respond({ status: 500 });
      await save();
      const attempts = async () => {
        for (let n = 0; n < 5; n++) {
          await app.dispatcher.drain();
          app.clock.advance(MINUTE);
        }
        return (await only()).attemptCount;
      };
      expect(await attempts()).toBe(3);
      expect(await only()).toMatchObject({ state: 'exhausted' });
      await app.deliveries.resend((await only()).id);
      expect(await attempts()).toBe(6);
      expect(await only()).toMatchObject({ state: 'exhausted', attemptCount: 6 });
    });

    it('immediately sends a delivery that is due for a later retry', async () => {
      await listen();
      app.receiver.respond([{ status: 500 }]);
      await save();
      await app.dispatcher.drain();
      const [first] = requests();
      await app.dispatcher.drain();
      expect(requests()).toEqual([]);
      await app.deliveries.resend((await only()).id);
      await app.dispatcher.drain();
      sameBytes(requests()[0], first);
      expect(await only()).toMatchObject({ state: 'succeeded' });
    });

    it('rejects a delivery that is in flight, and does not disturb it', async () => {
      await listen();
      let answer: () => void = () => undefined;
      app.receiver.respond({ status: 204, delayUntil: new Promise<void>((resolve) => (answer = resolve)) });
      await save();
      const draining = app.dispatcher.drain();
      await app.receiver.waitFor(1);
      const eventId = String(app.receiver.requests[0]?.headers['webhook-id']);
      const [{ id, state }] = (await app.deliveries.list({ eventId })).items as [Delivery];
      expect(state).toBe('leased');
      expect(await app.deliveries.get(id)).toMatchObject({ id, eventId, state: 'leased', attempts: [] });
      await expect(app.deliveries.resend(id)).rejects.toMatchObject({ code: 'DELIVERY_IN_FLIGHT', httpStatus: 409 });
      answer();
      await draining;
      expect(await only()).toMatchObject({ id, state: 'succeeded', attemptCount: 1 });
    });

    it('rejects the delivery of a disabled or removed listener', async () => {
      const { id: listenerId } = await listen();
      app.receiver.respond({ status: 500 });
      await save();
      await app.dispatcher.drain();
      const { id } = await only();
      await app.listeners.disable(listenerId);
      expect(await only()).toMatchObject({ state: 'held', nextAttemptAt: null });
      await expect(app.deliveries.resend(id)).rejects.toMatchObject({ code: 'LISTENER_DISABLED', httpStatus: 409 });
      await app.listeners.remove(listenerId);
      expect(await only()).toMatchObject({ state: 'discarded', finishedAt: new Date(app.clock.now()) });
      await expect(app.deliveries.resend(id)).rejects.toMatchObject({ code: 'LISTENER_REMOVED', httpStatus: 409 });
      expect(await app.deliveries.get(id)).toMatchObject({ attemptCount: 1, attempts: [{ number: 1 }] });
    });

    it('renders again after a format failed, and rejects the delivery while the format fails', async () => {
      await listen({ format: 'short' });
      ShortFormat.isBroken = true;
      await save();
      await app.dispatcher.drain();
      const { id, state, lastErrorCode } = await only();
      expect([state, lastErrorCode]).toEqual(['discarded', 'FORMAT_FAILED']);
      await expect(app.deliveries.resend(id)).rejects.toMatchObject({
        ...{ code: 'FORMAT_FAILED', httpStatus: 409 },
        cause: expect.objectContaining({ message: 'a bug in the format' }) as unknown,
      });
      expect(await only()).toMatchObject({ state: 'discarded', lastErrorCode: 'FORMAT_FAILED' });
      ShortFormat.isBroken = false;
      await app.deliveries.resend(id);
      await app.dispatcher.drain();
      expect(requests().map((request) => request.rawBody.toString())).toEqual(['it happened: order.created']);
      expect(await only()).toMatchObject({ state: 'succeeded', lastErrorCode: null });
    });
  });

  describe('a listener that is disabled or removed while a request is in flight', () => {
    const failInFlight = async (stop: (listenerId: string) => Promise<unknown>) => {
      const { id } = await listen();
      let answer: () => void = () => undefined;
      app.receiver.respond([{ status: 500, delayUntil: new Promise<void>((resolve) => (answer = resolve)) }]);
      await save();
      const draining = app.dispatcher.drain();
      await app.receiver.waitFor(1);
      await stop(id);
      answer();
      await draining;
      app.receiver.clear();
      app.clock.advance(HOUR);
      await app.dispatcher.drain();
      expect(requests()).toEqual([]);
      return id;
    };

    it('gets no retry while it is disabled, and gets the retry after it is enabled', async () => {
      const id = await failInFlight((listenerId) => app.listeners.disable(listenerId));
      expect(await only()).toMatchObject({ state: 'held', attemptCount: 1 });
      await app.listeners.enable(id);
      await app.dispatcher.drain();
      expect(requests()).toHaveLength(1);
      expect(await only()).toMatchObject({ state: 'succeeded', attemptCount: 2 });
    });

    it('gets no retry after it is removed', async () => {
      await failInFlight((listenerId) => app.listeners.remove(listenerId));
      expect(await only()).toMatchObject({ state: 'discarded', attemptCount: 1 });
    });
  });

  it('counts each state separately', async () => {
    const states: DeliveryState[] = ['due', 'leased', 'held', 'succeeded', 'exhausted', 'discarded'];
    const nothing = Object.fromEntries(states.map((state) => [state, 0]));
    expect(await app.deliveries.counts()).toEqual(nothing);
    const due = await listen({ url: `${app.receiver.url}/500` });
    const held = await listen({ url: `${app.receiver.url}/500` });
    await listen({ url: `${app.receiver.url}/204` });
    await listen({ url: `${app.receiver.url}/410` });
    const removed = await listen({ url: `${app.receiver.url}/500` });
    app.receiver.respond(({ url }) => ({ status: Number(url.split('/').at(-1)) }));
    await save();
    await app.dispatcher.drain();
    await app.listeners.disable(held.id);
    await app.listeners.remove(removed.id);
    expect(await app.deliveries.counts()).toEqual({
      ...nothing,
      due: 1,
      held: 1,
      succeeded: 1,
      exhausted: 1,
      discarded: 1,
    });
    expect(await app.deliveries.counts({ listenerId: due.id })).toEqual({ ...nothing, due: 1 });
  });
});
