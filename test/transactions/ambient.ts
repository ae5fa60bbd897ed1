import { inspect } from 'node:util';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { Column, Entity, PrimaryGeneratedColumn, type Logger, type Repository } from 'typeorm';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { generateSecret, LIFECYCLE_EVENTS, Webhook, type Listener } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp, type TestAppOptions } from '../support/webhooks-app.js';

@Webhook({ name: 'note' })
@Entity('ambient_note')
export class Note {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  text: string;
}

/** A library or a pattern that surrounds calls with a transaction, without a manager in their arguments. */
export interface Ambient {
  readonly options?: Partial<TestAppOptions>;
  inTransaction<T>(app: TestApp, work: () => Promise<T>): Promise<T>;
  /** Runs work in a savepoint of the transaction around it. */
  inSavepoint<T>(app: TestApp, work: () => Promise<T>): Promise<T>;
  /** Runs work outside the transaction around it. */
  outside<T>(app: TestApp, work: () => Promise<T>): Promise<T>;
  /** The repository that writes in the transaction. */
  notes(app: TestApp): Repository<Note>;
  cleanUp?(): void;
}

const TYPE = 'note.sent';
const NO = new Error('rolled back on purpose');

/** The text of a logger's argument. The query runner is left out, because it holds the whole application. */
function written(said: unknown): string {
  if (Array.isArray(said)) return said.map(String).join();
  return said instanceof Error ? inspect(said, { depth: 2, maxStringLength: null }) : String(said);
}

/** Tests `publish()` and the services inside ambient transactions of a library. */
export function describeAmbient(title: string, ambient: Ambient): void {
  describeDatabases(title, (database) => {
    let fresh: FreshDatabase;
    let app: TestApp;
    const logged: string[] = [];
    const logger = new Proxy({} as Logger, {
      get:
        () =>
        (...said: unknown[]) =>
          void logged.push(...said.map(written)),
    });

    beforeEach(async () => {
      fresh = await database.reuse();
      logged.length = 0;
      app = await startApp({
        ...ambient.options,
        // A call that waits for its own transaction fails at the time limit of the test.
        webhooks: { publishedTypes: [TYPE], sqlite: { lockTimeoutMs: 60_000 }, ...ambient.options?.webhooks },
        database: { ...fresh.options, logger, logging: true } as never,
        entities: [Note],
      });
    });
    afterEach(async () => {
      ambient.cleanUp?.();
      await app.close();
      await fresh.drop();
    });

    const inTransaction = <T>(work: () => Promise<T>) => ambient.inTransaction(app, work);
    const rolledBack = async (work: () => Promise<unknown>) => {
      const running = inTransaction(async () => {
        await work();
        throw NO;
      });
      await expect(running).rejects.toBe(NO);
    };
    const create = () => app.listeners.create({ events: ['*'], url: app.receiver.url });
    const stored = async () => {
      const rows: { payload: string }[] = await app.dataSource.query('SELECT payload FROM webhook_events ORDER BY seq');
      return rows.map(({ payload }) => {
        const { type, data } = JSON.parse(payload) as { type: string; data: { n?: number; text?: string } };
        return `${type} ${data.n ?? data.text}`;
      });
    };

    it('stores no event that publish() made before the rollback', async () => {
      await rolledBack(async () => {
        await ambient.notes(app).save({ text: 'a' });
        await app.webhooks.publish(TYPE, { n: 1 });
        await app.webhooks.publish(TYPE, { n: 2 }, { idempotencyKey: 'k' });
      });
      expect(await stored()).toEqual([]);
    });

    it('stores the events of publish() in the order of the program, when the transaction commits', async () => {
      await create();
      await inTransaction(async () => {
        await app.webhooks.publish(TYPE, { n: 1 });
        await ambient.notes(app).save({ text: 'b' });
        await app.webhooks.publish(TYPE, { n: 3 }, { idempotencyKey: 'k' });
      });
      expect(await stored()).toEqual([`${TYPE} 1`, 'note.created b', `${TYPE} 3`]);
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(3);
    });

    it('drops the event of publish() and the change of a listener in a savepoint that is rolled back', async () => {
      const emitted: unknown[] = [];
      app.app.get(EventEmitter2).on(LIFECYCLE_EVENTS.listenerDisabled, (event: unknown) => void emitted.push(event));
      const { id } = await create();
      await inTransaction(async () => {
        const inner = ambient.inSavepoint(app, async () => {
          await app.webhooks.publish(TYPE, { n: 1 });
          await app.listeners.disable(id);
          throw NO;
        });
        await expect(inner).rejects.toBe(NO);
        await app.webhooks.publish(TYPE, { n: 2 });
      });
      expect(await stored()).toEqual([`${TYPE} 2`]);
      expect(await app.listeners.get(id)).toMatchObject({ state: 'active' });
      expect(emitted).toEqual([]);
    });

    it('has no listener whose transaction rolled back, but shows it inside the transaction', async () => {
      await rolledBack(async () => {
        const { id } = await create();
        expect(await app.listeners.get(id)).toMatchObject({ id });
        expect((await app.listeners.list()).items.map((one) => one.id)).toEqual([id]);
        expect((await app.deliveries.list()).items).toEqual([]);
      });
      expect((await app.listeners.list()).items).toEqual([]);
    });

    it('keeps a listener that was created, for later events', async () => {
      await inTransaction(async () => {
        await ambient.notes(app).save({ text: 'before' });
        await create();
        await ambient.notes(app).save({ text: 'after' });
      });
      await app.dispatcher.drain();
      expect(app.receiver.requests.map(({ json }) => (json as { data: Note }).data.text)).toEqual(['after']);
    });

    const changes: [method: string, (id: string) => Promise<unknown>][] = [
      ['update', (id) => app.listeners.update(id, { description: 'changed', events: [TYPE] })],
      ['rotateSecret', (id) => app.listeners.rotateSecret(id)],
      ['rotateSigningKey', (id) => app.listeners.rotateSigningKey(id)],
      ['disable', (id) => app.listeners.disable(id)],
      ['remove', (id) => app.listeners.remove(id)],
    ];
    it.each(changes)('leaves a listener as it was when %s() is rolled back', async (method, change) => {
      const { id } = await create();
      const before = await listenerRow(id);
      await rolledBack(() => change(id));
      expect(await listenerRow(id)).toEqual(before);
      await inTransaction(() => change(id));
      expect(await listenerRow(id), method).not.toEqual(before);
    });

    it.each(['release', 'discard'] as const)(
      'leaves a listener disabled when enable({ held: %s }) is rolled back',
      async (held) => {
        const { id } = await create();
        await app.listeners.disable(id);
        await app.webhooks.publish(TYPE, { n: 1 });
        await app.dispatcher.drain();
        await rolledBack(() => app.listeners.enable(id, { held }));
        expect(await app.listeners.get(id)).toMatchObject({ state: 'disabled' });
        expect(await app.deliveries.counts()).toMatchObject({ held: 1, discarded: 0 });
        await inTransaction(() => app.listeners.enable(id, { held }));
        expect(await app.listeners.get(id)).toMatchObject({ state: 'active' });
        expect(await app.deliveries.counts()).toMatchObject(held === 'release' ? { due: 1 } : { discarded: 1 });
      },
    );

    it('emits after the commit that a listener was disabled, and not before', async () => {
      const emitted: unknown[] = [];
      app.app.get(EventEmitter2).on(LIFECYCLE_EVENTS.listenerDisabled, (event: unknown) => void emitted.push(event));
      const { id } = await create();
      await rolledBack(() => app.listeners.disable(id));
      await inTransaction(async () => {
        await app.listeners.disable(id, 'no answer');
        expect(emitted).toEqual([]);
      });
      expect(emitted).toEqual([
        { listenerId: id, reason: 'no answer', owner: null, url: expect.any(String) as string },
      ]);
    });

    it('sends no resend and no test from a transaction that rolled back', async () => {
      const { id } = await create();
      await app.webhooks.publish(TYPE, { n: 1 });
      await app.dispatcher.drain();
      app.receiver.clear();
      const [delivery] = (await app.deliveries.list()).items;
      const again = async () => {
        await app.deliveries.resend(String(delivery?.id));
        await app.listeners.sendTest(id);
      };
      await rolledBack(again);
      await app.dispatcher.drain();
      expect(app.receiver.requests).toEqual([]);
      await inTransaction(again);
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(2);
    });

    const batches: [method: string, (id: string) => Promise<unknown>][] = [
      ['recover()', () => app.deliveries.recover({ since: new Date(0), state: 'exhausted' })],
      ['replay()', (listenerId) => app.deliveries.replay({ listenerId, since: new Date(0) })],
      ['resealSecrets()', () => app.listeners.resealSecrets()],
    ];
    it.each(batches)('refuses %s, which commits in batches', async (method, call) => {
      const { id } = await create();
      await inTransaction(async () => {
        await expect(call(id)).rejects.toMatchObject({
          name: 'TransactionError',
          code: 'NOT_TRANSACTIONAL',
          message: expect.stringContaining(method) as string,
        });
      });
      await call(id);
    });

    it('shows no secret in the query log of the application, nor in the error of a statement that fails', async () => {
      const secret = generateSecret();
      const auth = { type: 'bearer' as const, token: 'a-token-that-nobody-may-read' };
      await inTransaction(async () => {
        const { id } = await app.listeners.create({ events: ['*'], url: app.receiver.url, secret, auth });
        await app.listeners.rotateSecret(id);
      });
      await app.dataSource.query('ALTER TABLE webhook_listeners RENAME TO elsewhere');
      const error: unknown = await inTransaction(() =>
        app.listeners.create({ events: ['*'], url: app.receiver.url, secret, auth }),
      ).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(Error);
      // Shows that the log is recorded.
      await app.dataSource.query('SELECT count(*) FROM ambient_note');
      const said = [...logged, written(error)].join('\n');
      expect(said).toContain('ambient_note');
      expect(said).not.toContain(secret.slice('whsec_'.length, -4));
      expect(said).not.toContain(auth.token);
    });

    it('joins no transaction that has ended', async () => {
      let late: (() => Promise<unknown>) | undefined;
      await inTransaction(async () => {
        // A later call in this call chain still has the context of the transaction.
        const gate = new Promise<void>((resolve) => (late = () => (resolve(), published)));
        const published = gate.then(() => app.webhooks.publish(TYPE, { n: 1 }));
        await app.webhooks.publish(TYPE, { n: 0 });
      });
      await late?.();
      expect(await stored()).toEqual([`${TYPE} 0`, `${TYPE} 1`]);
    });

    it.runIf(database.name !== 'sqlite')('joins no transaction if the library runs the call outside', async () => {
      let listener: Listener | undefined;
      await rolledBack(() =>
        ambient.outside(app, async () => {
          await app.webhooks.publish(TYPE, { n: 1 });
          listener = await create();
        }),
      );
      expect(await stored()).toEqual([`${TYPE} 1`]);
      expect(await app.listeners.get(String(listener?.id))).toMatchObject({ state: 'active' });
    });

    async function listenerRow(id: string): Promise<unknown> {
      return app.dataSource.query(`SELECT * FROM webhook_listeners WHERE id = '${id}'`);
    }
  });
}
