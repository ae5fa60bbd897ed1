import { setImmediate } from 'node:timers/promises';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  Column,
  DataSource,
  DeleteDateColumn,
  Entity,
  JoinColumn,
  ManyToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  type DataSourceOptions,
  type Relation,
} from 'typeorm';
import {
  ConfigurationError,
  ownerFromRow,
  Webhook,
  type ImageDamagedLifecycleEvent,
  type WebhookEvent,
} from 'nestjs-entity-webhooks';
import { dropTriggers, installTriggers } from 'nestjs-entity-webhooks/migrations';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents, stories } from './shop.js';

@Webhook({ owner: 'customerId', capture: 'trigger' })
@Entity('tm_order')
class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'varchar', length: 50, default: 'acme', name: "customer's id" })
  customerId: string;

  /** Never in a payload. */
  @Column({ type: 'varchar', length: 50, nullable: true, select: false })
  secret: string | null;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook({ capture: 'trigger', on: ['created', 'deleted'] })
@Entity('tm_line')
class Line {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @ManyToOne(() => Order, { onDelete: 'CASCADE' })
  @JoinColumn()
  order: Relation<Order>;
}

/** Captured by TypeORM, beside the others. */
@Webhook()
@Entity('tm_note')
class Note {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  status: string;
}

const functions: { owner: (row: Guest) => string | null; when: (row: Guest) => boolean } = {
  owner: () => null,
  when: () => true,
};

@Webhook({
  capture: 'trigger',
  owner: ownerFromRow((row: Guest) => functions.owner(row)),
  when: (row: Guest) => functions.when(row),
})
@Entity('tm_guest')
class Guest {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  status: string;
}

const ENTITIES = [Order, Line, Note, Guest];

describeDatabases('an entity that is captured by triggers', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let other: DataSource;
  const quote = (name: string) =>
    fresh.options.type === 'postgres' || database.name === 'sqlite' ? `"${name}"` : `\`${name}\``;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: ENTITIES });
    // Another program, which does not know the entities.
    other = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
  });
  afterAll(async () => {
    await other.destroy();
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    for (const table of ['tm_line', 'tm_order', 'tm_guest', 'webhook_images', 'webhook_events', 'webhook_deliveries']) {
      await app.dataSource.query(`DELETE FROM ${table}`);
    }
    await app.dataSource.query('DELETE FROM webhook_images');
    app.receiver.clear();
    functions.owner = () => null;
    functions.when = () => true;
  });
  afterEach(() => vi.restoreAllMocks());

  const orders = () => app.dataSource.getRepository(Order);
  const capturedEvents = async () => {
    await app.dispatcher.drain();
    return storedEvents(app);
  };
  const images = async () =>
    Number(((await app.dataSource.query('SELECT count(*) AS n FROM webhook_images')) as { n: unknown }[])[0]?.n);

  it('makes events of writes by SQL of another program', async () => {
    const listener = await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    await other.query(`INSERT INTO tm_order (id, status) VALUES (7, 'raw')`);
    await other.query(`UPDATE tm_order SET status = 'paid' WHERE id = 7`);
    await other.query(`DELETE FROM tm_order WHERE id = 7`);
    await app.dispatcher.drain();
    expect(app.receiver.requests.map(({ json }) => json)).toMatchObject([
      { type: 'order.created', data: { id: 7, status: 'raw', customerId: 'acme', deletedAt: null } },
      { type: 'order.updated', data: { id: 7, status: 'paid' }, previous: { status: 'raw' } },
      { type: 'order.deleted', data: { id: 7, status: 'paid' } },
    ]);
    await app.listeners.remove(listener.id);
  });

  it('makes one event of a write by TypeORM, even beside an entity that is captured by TypeORM', async () => {
    const order = await orders().save({ status: 'a' });
    await app.dataSource.getRepository(Note).save({ status: 'n' });
    await orders().save({ ...order, status: 'b' });
    await capturedEvents();
    expect((await stories(app)).toSorted()).toEqual(['note.created n', 'order.created a', 'order.updated b']);
  });

  it('leaves no image of a write that was rolled back', async () => {
    const runner = app.dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.manager.save(Order, { status: 'gone' });
    await runner.manager.query(`UPDATE tm_order SET status = 'also gone'`);
    await runner.rollbackTransaction();
    await runner.startTransaction();
    await runner.manager.save(Order, { status: 'stays' });
    await runner.startTransaction();
    await runner.manager.query(`UPDATE tm_order SET status = 'undone'`);
    await runner.rollbackTransaction();
    await runner.commitTransaction();
    await runner.release();
    expect(await images()).toBe(1);
    await capturedEvents();
    expect(await stories(app)).toEqual(['order.created stays']);
  });

  it('is deleted if its delete date is set and restored if it is cleared, by any program', async () => {
    const { id } = await orders().save({ status: 'a' });
    await orders().softDelete(id);
    await orders().restore(id);
    await other.query(`UPDATE tm_order SET ${quote('deletedAt')} = '2026-02-03 00:00:00'`);
    await other.query(`UPDATE tm_order SET ${quote('deletedAt')} = NULL`);
    expect((await capturedEvents()).map(({ type }) => type)).toEqual([
      'order.created',
      ...['order.deleted', 'order.restored', 'order.deleted', 'order.restored'],
    ]);
  });

  it('writes no image of an update that changes no column', async () => {
    await orders().save({ status: 'a' });
    await app.dispatcher.drain();
    await other.query(`UPDATE tm_order SET status = 'a'`);
    expect(await images()).toBe(0);
    await other.query(`UPDATE tm_order SET status = 'A'`);
    await other.query(`UPDATE tm_order SET status = 'Á'`);
    await other.query(`UPDATE tm_order SET status = 'Á '`);
    expect(await images()).toBe(3);
  });

  it('makes no event of a change of columns outside the payload', async () => {
    await orders().save({ status: 'a' });
    await other.query(`UPDATE tm_order SET secret = 'x'`);
    expect((await capturedEvents()).map(({ type }) => type)).toEqual(['order.created']);
    expect(await images()).toBe(0);
  });

  it('makes an event with its new key, and the old key as previous, if its key changes', async () => {
    await other.query(`INSERT INTO tm_order (id, status) VALUES (1, 'a'), (2, 'b')`);
    await other.query(
      `UPDATE tm_order SET id = id + 10 ${database.name === 'sqlite' || fresh.options.type === 'postgres' ? '' : 'ORDER BY id DESC'}`,
    );
    const updates = (await capturedEvents()).filter(({ type }) => type === 'order.updated');
    expect(updates.toSorted((a, b) => Number(a.data.id) - Number(b.data.id))).toMatchObject([
      { data: { id: 11, status: 'a' }, previous: { id: 1 } },
      { data: { id: 12, status: 'b' }, previous: { id: 2 } },
    ]);
  });

  it('makes a deleted for its previous owner, and for no other listener, if the owner changes', async () => {
    await other.query(`INSERT INTO tm_order (id, status) VALUES (1, 'a')`);
    await app.dispatcher.drain();
    await other.query(`UPDATE tm_order SET ${quote("customer's id")} = 'bolt'`);
    await app.dispatcher.drain();
    const rows: { type: string; owner: string; audience: string }[] = await app.dataSource.query(
      'SELECT type, owner, audience FROM webhook_events ORDER BY seq',
    );
    expect(rows.map(({ type, owner, audience }) => [type, owner, audience])).toEqual([
      ['order.created', 'acme', 'owner'],
      ['order.updated', 'bolt', 'owner'],
      ['order.deleted', 'acme', 'owner_only'],
    ]);
  });

  it('emits its events in the process that converts them, after the commit', async () => {
    const received: WebhookEvent[] = [];
    const emitter = app.app.get(EventEmitter2);
    const onEvent = (event: WebhookEvent) => received.push(event);
    // By then the events of earlier tests have been emitted.
    await setImmediate();
    emitter.on('webhooks.event.order.created', onEvent);
    await other.query(`INSERT INTO tm_order (id, status) VALUES (1, 'a')`);
    await app.dispatcher.drain();
    await vi.waitFor(() => expect(received).toMatchObject([{ type: 'order.created', data: { id: 1 }, owner: 'acme' }]));
    emitter.off('webhooks.event.order.created', onEvent);
  });

  it('calls its functions at conversion, with rows as TypeORM loads them', async () => {
    functions.owner = (row) => (row instanceof Guest ? `of ${row.status}` : 'nobody');
    functions.when = (row) => row.status !== 'quiet';
    await other.query(`INSERT INTO tm_guest VALUES (1, 'loud'), (2, 'quiet')`);
    await app.dispatcher.drain();
    const rows: { owner: string }[] = await app.dataSource.query('SELECT owner FROM webhook_events');
    expect(rows).toEqual([{ owner: 'of loud' }]);
    expect(await images()).toBe(0);
  });

  it('marks only the image as damaged of which no event can be made, and converts it once the cause is removed', async () => {
    const log = listenToLog();
    const events: ImageDamagedLifecycleEvent[] = [];
    const onEvent = (event: ImageDamagedLifecycleEvent) => events.push(event);
    app.app.get(EventEmitter2).on('webhooks.image.damaged', onEvent);
    functions.when = ({ id }) => {
      if (id === 2) throw new Error('no guest 2');
      return true;
    };
    await other.query(`INSERT INTO tm_guest VALUES (1, 'a'), (2, 'b'), (3, 'c')`);
    await other.query(
      `INSERT INTO webhook_images (table_path, op, new_row, created_at) VALUES ('tm_guest', 'insert', 'no JSON', 0)`,
    );
    await other.query(
      `INSERT INTO webhook_images (table_path, op, new_row, created_at) VALUES ('tm_guest', 'insert', '{"id": 4}', 0)`,
    );
    await other.query(`INSERT INTO tm_guest VALUES (5, 'e')`);
    await capturedEvents();
    expect(await stories(app)).toEqual(['guest.created a', 'guest.created c', 'guest.created e']);
    expect(events.map(({ tablePath }) => tablePath)).toEqual(['tm_guest', 'tm_guest', 'tm_guest']);
    expect(log.errors.join('\n')).toMatch(/`when` function of Guest threw/);
    expect(log.errors.join('\n')).toMatch(/no column status/);
    const kept: { reason: string }[] = await app.dataSource.query('SELECT reason FROM webhook_images ORDER BY seq');
    expect(kept.every(({ reason }) => reason !== '')).toBe(true);

    functions.when = () => true;
    await other.query(`UPDATE webhook_images SET reason = NULL WHERE reason LIKE '%\`when\`%'`);
    await capturedEvents();
    expect((await stories(app)).at(-1)).toBe('guest.created b');
    expect(await images()).toBe(2);
    app.app.get(EventEmitter2).off('webhooks.image.damaged', onEvent);
  });

  it('leaves images of an unknown table to processes that know the table', async () => {
    await other.query(
      `INSERT INTO webhook_images (table_path, op, new_row, created_at) VALUES ('of_tomorrow', 'insert', '{}', 0)`,
    );
    await other.query(`INSERT INTO tm_guest VALUES (1, 'a')`);
    await capturedEvents();
    expect(await stories(app)).toEqual(['guest.created a']);
    expect(await images()).toBe(1);
  });

  it('is converted once, and each row in order, by any number of processes', async () => {
    const second = await startApp({ database: fresh.options, entities: ENTITIES });
    try {
      const write = async () => {
        for (let n = 1; n <= 60; n++) {
          await other.query(`INSERT INTO tm_guest VALUES (${n}, 'new')`);
          await other.query(`UPDATE tm_guest SET status = 'v1' WHERE id = ${n}`);
          await other.query(`UPDATE tm_guest SET status = 'v2' WHERE id = ${n}`);
        }
      };
      const writer = { isWriting: true };
      const drain = async ({ dispatcher }: TestApp) => {
        while (writer.isWriting) await dispatcher.drain();
      };
      await Promise.all([write().finally(() => (writer.isWriting = false)), drain(app), drain(second)]);
      await Promise.all([app.dispatcher.drain(), second.dispatcher.drain()]);
    } finally {
      await second.close();
    }
    const ofRow: Record<string, unknown[]> = {};
    for (const { data } of await storedEvents(app)) (ofRow[String(data.id)] ??= []).push(data.status);
    expect(Object.keys(ofRow)).toHaveLength(60);
    for (const statuses of Object.values(ofRow)) expect(statuses).toEqual(['new', 'v1', 'v2']);
    expect(await images()).toBe(0);
  });

  it('is found by a running dispatcher: immediately if this process commits it, otherwise by the poll', async () => {
    const listener = await app.listeners.create({ events: ['guest.*'], url: app.receiver.url });
    const running = await startApp({
      database: fresh.options,
      entities: ENTITIES,
      // There is no poll within this test, so only a wake-up can find the image.
      webhooks: { dispatcher: { autoStart: true, pollIntervalMs: 60 * 60_000 } },
    });
    try {
      await vi.waitFor(() => expect(running.dispatcher.isRunning).toBe(true));
      await running.dataSource.getRepository(Guest).insert({ id: 1, status: 'inserted' });
      await app.receiver.waitFor(1);
      await running.dataSource.query(`UPDATE tm_guest SET status = 'raw'`);
      await app.receiver.waitFor(2);
      await running.dataSource.transaction((manager) => manager.delete(Guest, { id: 1 }));
      await app.receiver.waitFor(3);
    } finally {
      await running.close();
    }
    const polling = await startApp({
      database: fresh.options,
      entities: ENTITIES,
      webhooks: { dispatcher: { autoStart: true, pollIntervalMs: 100 } },
    });
    try {
      await other.query(`INSERT INTO tm_guest VALUES (2, 'polled')`);
      await app.receiver.waitFor(4);
    } finally {
      await polling.close();
    }
    expect(app.receiver.requests.map(({ json }) => (json as { type: string }).type)).toEqual([
      ...['guest.created', 'guest.updated', 'guest.deleted', 'guest.created'],
    ]);
    await app.listeners.remove(listener.id);
  });
});

describeDatabases('the triggers of entities', (database) => {
  let fresh: FreshDatabase;
  beforeEach(async () => {
    fresh = await database.reuse();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await fresh.drop();
  });

  /** Creates the tables without triggers. */
  async function withoutTriggers(work: (source: DataSource) => Promise<void>): Promise<void> {
    const app = await startApp({ database: fresh.options, entities: ENTITIES });
    await app.close();
    const source = await new DataSource({ ...fresh.options, entities: ENTITIES }).initialize();
    const runner = source.createQueryRunner();
    await dropTriggers(runner);
    await runner.release();
    try {
      await work(source);
    } finally {
      await source.destroy();
    }
  }
  const start = () =>
    startApp({ database: { ...fresh.options, synchronize: false } as DataSourceOptions, entities: ENTITIES });

  it('stop the bootstrap if they are missing or outdated, with the command to run', async () => {
    await withoutTriggers(async (source) => {
      await expect(start()).rejects.toMatchObject({
        code: 'TRIGGERS_MISSING',
        message: expect.stringMatching(/tm_order.*npx nestjs-entity-webhooks triggers --install/s) as string,
      });
      const runner = source.createQueryRunner();
      expect((await installTriggers(runner)).length).toBeGreaterThan(0);
      expect(await installTriggers(runner)).toEqual([]);
      const app = await start();
      await app.close();

      await damageOne(source);
      await expect(start()).rejects.toMatchObject({ code: 'TRIGGERS_OUTDATED' });
      expect((await installTriggers(runner)).length).toBeGreaterThan(0);
      const again = await start();
      await runner.query(`INSERT INTO tm_order (status) VALUES ('a')`);
      await runner.release();
      await again.dispatcher.drain();
      expect(await stories(again)).toEqual(['order.created a']);
      await again.close();
    });
  });

  /** A trigger was changed or disabled by hand. */
  async function damageOne(source: DataSource): Promise<void> {
    if (fresh.options.type === 'postgres') {
      await source.query('ALTER TABLE tm_order DISABLE TRIGGER "0_webhook_images_update"');
      return;
    }
    const sqlite = `SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'tm_order' AND name LIKE '%update%'`;
    const mysql = `SELECT trigger_name AS name FROM information_schema.triggers WHERE event_object_table = 'tm_order' AND event_manipulation = 'UPDATE' AND trigger_schema = DATABASE()`;
    const [row] = (await source.query(database.name === 'sqlite' ? sqlite : mysql)) as { name: string }[];
    const name = row?.name ?? '';
    await source.query(`DROP TRIGGER ${name}`);
    const images = database.name === 'sqlite' ? '"webhook_images"' : '`webhook_images`';
    await source.query(
      `CREATE TRIGGER ${name} AFTER UPDATE ON tm_order FOR EACH ROW BEGIN /* nestjs-entity-webhooks ${'0'.repeat(32)} */ INSERT INTO ${images} (table_path, op, created_at) VALUES ('tm_order', 'update', 0); END`,
    );
  }

  it('are dropped if no entity needs them, and named in a warning until then', async () => {
    await withoutTriggers(async (source) => {
      const runner = source.createQueryRunner();
      await installTriggers(runner);
      const warnings: string[] = [];
      const { Logger } = await import('@nestjs/common');
      vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warnings.push(String(text)));
      const app = await startApp({
        database: { ...fresh.options, synchronize: false } as DataSourceOptions,
        entities: [Note],
        others: [Order, Line, Guest],
      });
      await app.close();
      expect(warnings.join('\n')).toMatch(/have webhook triggers, but no entity with capture: .trigger.: .*tm_order/);
      expect((await dropTriggers(runner)).length).toBeGreaterThan(0);
      expect(await dropTriggers(runner)).toEqual([]);
      await runner.release();
    });
  });
});

describe('an entity that triggers cannot capture', () => {
  const [sqlite] = databases;
  const refused = async (...entities: Parameters<typeof startApp>[0]['entities']) => {
    const fresh = await sqlite!.create();
    try {
      await startApp({ database: fresh.options, entities });
      throw new Error('it started');
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigurationError);
      return error as ConfigurationError;
    } finally {
      await fresh.drop();
    }
  };

  it('stops the bootstrap if its owner is a function and not ownerFromRow()', async () => {
    expect(
      await refused({ entity: Guest, capture: 'trigger', owner: (row: Guest) => row.status } as never),
    ).toMatchObject({
      code: 'OWNER_NOT_PURE',
      message: expect.stringMatching(/owner: ownerFromRow\(/) as string,
    });
  });

  it('stops the bootstrap if it has an unknown mode', async () => {
    expect(await refused({ entity: Guest, capture: 'magic' } as never)).toMatchObject({
      code: 'INVALID_WEBHOOK_OPTIONS',
    });
  });
});
