import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EVERY_OWNER, QuotaError, RetrySchedule } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const MINUTE = 60_000;
const TABLES = ['events', 'listeners', 'routes', 'deliveries', 'attempts', 'listener_state'];

class Once extends RetrySchedule {
  override delayMs(): number | null {
    return null;
  }
}

describeDatabases('an owner', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  /** Another process on the same database. */
  let other: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    const start = () =>
      startApp({
        database: fresh.options,
        entities: [],
        webhooks: {
          publishedTypes: ['tried'],
          parts: { retrySchedule: Once },
          dispatcher: { circuit: { failures: 1_000_000 } },
          limits: { listenersPerOwner: 3, testsPerMinute: 2, resendsPerMinute: 4, attemptsPerDelivery: 3 },
        },
      });
    app = await start();
    other = await start();
  });
  beforeEach(async () => {
    app.clock.advance(MINUTE);
    app.receiver.respond({ status: 204 }).clear();
    for (const table of TABLES) await app.dataSource.query(`DELETE FROM webhook_${table}`);
  });
  afterAll(async () => {
    await other.close();
    await app.close();
    await fresh.drop();
  });

  const input = () => ({ events: ['tried'], url: app.receiver.url });
  const refused = (code: string, details: object, httpStatus: number) =>
    expect.objectContaining({ name: QuotaError.name, code, httpStatus, details: expect.objectContaining(details) });

  describe('with limits', () => {
    it('creates listeners up to the limit, also concurrently, and again after one is removed', async () => {
      const mine = app.listeners.forOwner('acme');
      const { id } = await mine.create(input());
      const made = await Promise.allSettled(Array.from({ length: 8 }, () => mine.create(input())));
      expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
      const tooMany = refused('TOO_MANY_LISTENERS', { limit: 3 }, 409);
      await expect(mine.create(input())).rejects.toEqual(tooMany);
      await app.listeners.forOwner('globex').create(input());
      // A service without an owner has no quota.
      await app.listeners.create({ ...input(), owner: 'acme' });
      await mine.remove(id);
      await expect(mine.create(input())).rejects.toEqual(tooMany);
      await mine.remove((await mine.list()).items[0]?.id ?? '');
      await mine.create(input());
    });

    it(
      'never gets more listeners than the limit, also when two processes create its first listeners at the same time',
      { repeats: 9 },
      async () => {
        const mine = (process: TestApp) => process.listeners.forOwner('acme');
        const alone = (process: TestApp) => mine(process).create(input());
        // The transaction has a snapshot before any listener exists.
        const inTransaction = (process: TestApp) =>
          process.dataSource.transaction(async (manager) => {
            await manager.query('SELECT COUNT(*) FROM webhook_listeners');
            return mine(process).withManager(manager).create(input());
          });
        const creates = [app, other].flatMap((process) => Array.from({ length: 5 }, () => process));
        const made = await Promise.allSettled([...creates.map(alone), ...creates.map(inTransaction)]);
        expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
        const errors = made.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
        expect(errors).toEqual(errors.map(() => refused('TOO_MANY_LISTENERS', { limit: 3 }, 409)));
        for (const { id } of (await mine(app).list()).items) await mine(app).remove(id);
      },
    );

    // SQLite allows one writer, so there is nothing to wait for.
    it.runIf(database.name !== 'sqlite')(
      'does not stop deliveries, although its creates wait for a transaction',
      async () => {
        await app.listeners.create(input());
        const mine = app.listeners.forOwner('acme');
        let created = () => undefined as void;
        let commit = () => undefined as void;
        const isCreated = new Promise<void>((resolve) => (created = resolve));
        const mayCommit = new Promise<void>((resolve) => (commit = resolve));
        const transaction = app.dataSource.transaction(async (manager) => {
          await mine.withManager(manager).create(input());
          created();
          await mayCommit;
        });
        await isCreated;
        const waiting = Promise.allSettled(Array.from({ length: 10 }, () => mine.create(input())));
        await app.webhooks.publish('tried', {});
        await app.dispatcher.drain();
        expect(app.receiver.requests).toHaveLength(1);
        commit();
        await transaction;
        expect((await waiting).filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
      },
    );

    it('sends test events up to the limit per minute', async () => {
      const mine = app.listeners.forOwner('acme');
      const { id } = await mine.create(input());
      const sent = await Promise.allSettled(Array.from({ length: 8 }, () => mine.sendTest(id)));
      expect(sent.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
      const retryAt = expect.any(Number) as number;
      await expect(mine.sendTest(id)).rejects.toEqual(refused('TOO_MANY_TESTS', { limit: 2, retryAt }, 429));
      await app.listeners.sendTest(id);
      const globex = app.listeners.forOwner('globex');
      await globex.sendTest((await globex.create(input())).id);
      app.clock.advance(MINUTE);
      await mine.sendTest(id);
    });

    it('resends, recovers and replays up to the limit per minute', async () => {
      const mine = app.deliveries.forOwner('acme');
      const { id } = await app.listeners.create({ ...input(), owner: 'acme' });
      const { deliveryId } = await app.listeners.sendTest(id);
      await app.dispatcher.drain();
      const since = new Date(0);
      const calls = [
        () => mine.resend(deliveryId),
        () => mine.recover({ since, state: 'exhausted' }),
        () => mine.replay({ listenerId: id, since }),
      ];
      for (const call of [...calls, calls[1] as () => Promise<unknown>]) await call();
      for (const call of calls)
        await expect(call()).rejects.toMatchObject({ code: 'TOO_MANY_RESENDS', httpStatus: 429 });
      await app.deliveries.resend(deliveryId);
      app.clock.advance(MINUTE);
      await mine.recover({ since, state: 'exhausted' });
    });

    it('resends a delivery up to the limit of attempts', async () => {
      const mine = app.deliveries.forOwner('acme');
      const { id } = await app.listeners.create({ ...input(), owner: 'acme' });
      app.receiver.respond({ status: 500 });
      const { deliveryId } = await app.listeners.sendTest(id);
      await app.dispatcher.drain();
      for (let n = 0; n < 2; n++) {
        await mine.resend(deliveryId);
        await app.dispatcher.drain();
      }
      await expect(mine.resend(deliveryId)).rejects.toEqual(refused('TOO_MANY_ATTEMPTS', { limit: 3 }, 409));
      expect(await mine.recover({ since: new Date(0), state: 'exhausted' })).toBe(0);
      expect(await app.deliveries.recover({ since: new Date(0), state: 'exhausted' })).toBe(1);
    });
  });

  it.each([Number.NaN, 7, 7n, Number.POSITIVE_INFINITY, undefined, null, {}, ''])('cannot be %o', (owner) => {
    const invalid = expect.objectContaining({ code: 'INVALID_OWNER' }) as Error;
    expect(() => app.listeners.forOwner(owner as never)).toThrow(invalid);
    expect(() => app.deliveries.forOwner(owner as never)).toThrow(invalid);
  });

  it('cannot be NaN or another number that is not finite', async () => {
    const invalid = { code: 'INVALID_OWNER' };
    await expect(app.listeners.create({ ...input(), owner: Number.NaN })).rejects.toMatchObject(invalid);
    await expect(app.webhooks.publish('tried', {}, { owner: Number.NaN })).rejects.toMatchObject(invalid);
    await expect(app.listeners.eraseOwner(Number.NaN as never)).rejects.toMatchObject(invalid);
  });

  it('keeps a replaced secret for at most 30 days', async () => {
    const { id } = await app.listeners.create(input());
    const month = 30 * 24 * 60 * MINUTE;
    const tooLong = expect.objectContaining({ code: 'INVALID_OVERLAP' }) as Error;
    await expect(app.listeners.rotateSecret(id, { overlapMs: month + 1 })).rejects.toEqual(tooLong);
    await expect(app.listeners.rotateSigningKey(id, { overlapMs: Number.MAX_SAFE_INTEGER })).rejects.toEqual(tooLong);
    await app.listeners.rotateSecret(id, { overlapMs: month });
  });

  it('sees until when a replaced secret and a replaced key sign, and nothing before and after that', async () => {
    const service = app.listeners.forOwner('acme');
    const { id, oldSecretUntil, oldSigningKeyUntil } = await service.create({
      ...{ url: app.receiver.url, events: ['tried'], schemes: ['standard', 'standard-v1a'] },
    });
    expect([oldSecretUntil, oldSigningKeyUntil]).toEqual([null, null]);
    const end = new Date(app.clock.now() + 10 * MINUTE);
    await service.rotateSecret(id, { overlapMs: 10 * MINUTE });
    expect(await service.get(id)).toMatchObject({ oldSecretUntil: end, oldSigningKeyUntil: null });
    await service.rotateSigningKey(id, { overlapMs: 20 * MINUTE });
    const later = new Date(app.clock.now() + 20 * MINUTE);
    expect((await service.list()).items).toMatchObject([{ oldSecretUntil: end, oldSigningKeyUntil: later }]);
    app.clock.advance(10 * MINUTE);
    expect(await service.get(id)).toMatchObject({ oldSecretUntil: null, oldSigningKeyUntil: later });
    app.clock.advance(10 * MINUTE);
    expect(await service.get(id)).toMatchObject({ oldSecretUntil: null, oldSigningKeyUntil: null });
  });

  it('is erased with all rows, and rows of other owners and of the application stay', async () => {
    const publish = async (owner: string | typeof EVERY_OWNER | null) =>
      app.webhooks.publish('tried', { n: 1 }, { owner });
    for (const owner of ['acme', 'globex', null]) {
      const { id } = await app.listeners.create({ ...input(), owner });
      if (owner === 'acme') await app.listeners.remove((await app.listeners.create({ ...input(), owner })).id);
      await app.listeners.sendTest(id);
    }
    for (const owner of ['acme', 'globex', null, EVERY_OWNER] as const) await publish(owner);
    await app.dispatcher.drain();
    // This event is not routed yet.
    await publish('acme');
    await expect(app.listeners.forOwner('acme').eraseOwner('acme')).rejects.toMatchObject({ code: 'INVALID_OWNER' });

    // The event of acme to its own listener and to that of the application; the event for every owner; the test event.
    expect(await app.listeners.eraseOwner('acme')).toEqual({ listeners: 2, deliveries: 4, events: 3 });
    expect(await app.listeners.eraseOwner('acme')).toEqual({ listeners: 0, deliveries: 0, events: 0 });
    for (const table of ['events', 'listeners', 'deliveries']) {
      const rows = await app.dataSource.query<{ owner: string | null }[]>(`SELECT owner FROM webhook_${table}`);
      expect(rows.map(({ owner }) => owner)).not.toContain('acme');
      expect(rows.map(({ owner }) => owner)).toEqual(expect.arrayContaining(['globex', null]));
    }
    const count = async (table: string) =>
      (await app.dataSource.query<unknown[]>(`SELECT 1 FROM webhook_${table}`)).length;
    expect([await count('listeners'), await count('listener_state')]).toEqual([2, 2]);
    // globex: its event, the event for every owner, its test event. The application: its own event, the event for every owner, that of globex, its test event.
    expect([await count('deliveries'), await count('outbox')]).toEqual([7, 0]);
  });

  it('is erased after a request in flight has ended', async () => {
    await app.listeners.create({ ...input(), owner: 'acme' });
    let release = () => undefined as void;
    const held = new Promise<void>((resolve) => (release = resolve));
    app.receiver.respond({ status: 204, delayUntil: held });
    await app.webhooks.publish('tried', {}, { owner: 'acme' });
    const draining = app.dispatcher.drain();
    await app.receiver.waitFor(1);
    const erasing = app.listeners.eraseOwner('acme');
    release();
    await draining;
    expect(await erasing).toEqual({ listeners: 1, deliveries: 1, events: 1 });
    for (const table of TABLES) expect(await app.dataSource.query(`SELECT 1 FROM webhook_${table}`)).toEqual([]);
  });
});
