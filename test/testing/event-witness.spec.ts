import { AssertionError } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { drain, EventWitness } from 'nestjs-entity-webhooks/testing';
import { In, type EntityManager } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { entitiesFor, familyOf, KINDS } from '../capture/every-kind.js';
import { Audit, Line, Order } from '../capture/shop.js';
import { Draft, Item } from '../capture/conformance-entities.js';
import { databases, describeDatabases, describeOn, type FreshDatabase } from '../support/databases.js';
import { codeBlock, WORKSPACE } from '../support/scratch-project.js';
import { startApp, type TestApp, type TestAppOptions } from '../support/webhooks-app.js';

const COPIED = 'type, audience, owner, owner_key, order_key, ordered, payload, created_at';

describeDatabases('a witness', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let witness: EventWitness;

  const start = async (options: Omit<TestAppOptions, 'database'>) => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, ...options });
    witness = await EventWitness.install(app.app);
  };
  const failure = async (): Promise<string> => {
    const error: unknown = await witness.expectEveryEvent().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(AssertionError);
    return (error as AssertionError).message;
  };
  const orders = () => app.dataSource.getRepository(Order);
  const alterEvent = (from: string, to: string) =>
    app.dataSource.query(`UPDATE webhook_events SET payload = REPLACE(payload, '${from}', '${to}')`);

  const stop = async () => {
    await app.close();
    await fresh.drop();
  };

  describe('of changes that TypeORM captures', () => {
    beforeAll(() => start({ entities: [Order, Line, Item, Draft], others: [Audit] }));
    beforeEach(async () => {
      for (const table of ['shop_line', 'shop_order', 'conf_item', 'conf_draft', 'webhook_events'])
        await app.dataSource.query(`DELETE FROM ${table}`);
      await witness.forget();
    });
    afterAll(stop);

    it('counts the changes if each has its event', async () => {
      const order = await orders().save({ status: 'new', lines: [{ article: 'pen' }] });
      await orders().update(order.id, { status: 'paid', customerId: 'globex' });
      await orders().softDelete(order.id);
      await orders().restore(order.id);
      await app.dataSource.transaction(async (manager) => {
        await manager.deleteAll(Line);
        await manager.delete(Order, order.id);
      });
      expect(await witness.expectEveryEvent()).toBe(7);
    });

    it('accepts updates that set and clear the delete date', async () => {
      const { id } = await orders().save({ status: 'new' });
      await orders().update(id, { deletedAt: new Date('2026-01-01T00:00:00Z'), status: 'gone' });
      await orders().update(id, { deletedAt: null, status: 'back' });
      await orders().softDelete(id);
      await orders().restore(id);
      expect(await witness.expectEveryEvent()).toBe(5);
    });

    it('counts no change of a transaction that was rolled back, or of an entity without webhooks', async () => {
      const work = app.dataSource.transaction(async (manager) => {
        await manager.save(Order, { status: 'new' });
        throw new Error('roll back');
      });
      await expect(work).rejects.toThrow('roll back');
      await app.dataSource.manager.insert(Audit, { text: 'a' });
      expect(await witness.expectEveryEvent()).toBe(0);
    });

    it('accepts one event for all changes of a row in a transaction, if the entity coalesces', async () => {
      await app.dataSource.transaction(async (manager) => {
        await manager.insert(Draft, { id: 1, name: 'a' });
        await manager.update(Draft, 1, { pages: 2 });
        await manager.insert(Draft, { id: 2, name: 'b' });
        await manager.delete(Draft, 2);
      });
      await app.dataSource.manager.update(Draft, 1, { pages: 3 });
      expect(await witness.expectEveryEvent()).toBe(5);
    });

    describe('that move a row to another key', () => {
      const move = (id: number, to: number) => app.dataSource.manager.update(Draft, { id }, { id: to });
      const inOneTransaction = (work: (manager: EntityManager) => Promise<unknown>) => app.dataSource.transaction(work);
      const mayMerge = true;

      beforeEach(async () => {
        await app.dataSource.manager.insert(Draft, { id: 2, name: 'old' });
        await app.dataSource.query('DELETE FROM webhook_events');
        await witness.forget();
      });

      it('accepts the events of the moved row and of a new row with its old key', async () => {
        await inOneTransaction(async (manager) => {
          await manager.update(Draft, { id: 2 }, { id: 3 });
          await manager.insert(Draft, { id: 2, name: 'new' });
          await manager.delete(Draft, { id: 3 });
        });
        await move(2, 4);
        expect(await witness.expectEveryEvent({ mayMerge })).toBe(4);
      });

      it('accepts the events of two rows that swap their keys', async () => {
        await app.dataSource.manager.insert(Draft, { id: 1, name: 'one' });
        await move(1, 9);
        await move(2, 1);
        await move(9, 2);
        expect(await witness.expectEveryEvent({ mayMerge })).toBe(4);
      });

      it('reports a missing event of the new row', async () => {
        await inOneTransaction(async (manager) => {
          await manager.update(Draft, { id: 2 }, { id: 3 });
          await app.webhooks.withoutCapture(() => manager.insert(Draft, { id: 2, name: 'new' }));
          await manager.update(Draft, { id: 3 }, { pages: 5 });
        });
        await expect(witness.expectEveryEvent({ mayMerge })).rejects.toThrow(/missing: draft\.created of row \["2"\]/);
      });

      it('accepts many changes and several moves', async () => {
        for (let pages = 1; pages <= 20; pages++) await app.dataSource.manager.update(Draft, { id: 2 }, { pages });
        for (let id = 2; id < 8; id++) await move(id, id + 1);
        expect(await witness.expectEveryEvent({ mayMerge })).toBe(26);
      });
    });

    it('reports which event of which row is missing, and its expected values', async () => {
      const order = await orders().save({ status: 'new' });
      await app.webhooks.withoutCapture(() => orders().update(order.id, { status: 'paid' }));
      expect(await failure()).toBe(
        `1 event does not match what the database committed:
  1. missing: order.updated of row ["${order.id}"] of shop_order. The database committed an UPDATE, and no event is stored.
     Expected {"data":{"id":${order.id},"status":"paid","total":0,"note":null,"customerId":"acme","deletedAt":null},"previous":{"status":"new"}}.`,
      );
    });

    it('reports which event has no change', async () => {
      await orders().save({ status: 'new' });
      await app.dataSource.query(
        `INSERT INTO webhook_events (id, ${COPIED}) SELECT 'evt_copy', ${COPIED} FROM webhook_events`,
      );
      expect(await failure()).toMatch(
        /^1 event does not .*\n  1\. extra: order\.created \(evt_\w+\)\. No committed change explains it\.\n     Stored \{"data":\{"id":\d+,/,
      );
    });

    it('reports which column of which row differs, with the expected and the stored value', async () => {
      const { id } = await orders().save({ status: 'new' });
      await orders().update(id, { status: 'paid' });
      await alterEvent('paid', 'lost');
      const text = (await failure()).replace(/evt_[\w-]+/, 'evt_…');
      expect(text).toContain(
        `different: order.updated (evt_…) of row ["${id}"] of shop_order, after an UPDATE.\n     data.status: expected "paid", stored "lost"`,
      );
    });

    it('reports which old value differs', async () => {
      const { id } = await orders().save({ status: 'new' });
      await orders().update(id, { status: 'paid' });
      await alterEvent('"previous":{"status":"new"}', '"previous":{"total":1}');
      expect(await failure()).toContain(
        'previous.status: expected "new", stored nothing\n     previous.total: expected nothing, stored 1',
      );
    });

    it('reports an event with the wrong owner', async () => {
      await orders().save({ status: 'new' });
      await app.dataSource.query(`UPDATE webhook_events SET owner = 'globex'`);
      expect(await failure()).toContain('owner: expected "acme", stored "globex"');
    });

    it('reports events of one row that are in the wrong order', async () => {
      const { id } = await orders().save({ status: 'new' });
      await orders().update(id, { status: 'paid' });
      await orders().update(id, { status: 'sent' });
      const last = `(SELECT seq FROM (SELECT MAX(seq) AS seq FROM webhook_events) e)`;
      await app.dataSource.query(`UPDATE webhook_events SET seq = seq + 10 WHERE seq = ${last} - 1`);
      expect(await failure()).toMatch(/expected "paid", stored "sent"[^]*expected "sent", stored "paid"/);
    });

    it('ignores earlier changes and events after forget()', async () => {
      await app.webhooks.withoutCapture(() => orders().save({ status: 'seed' }));
      await orders().save({ status: 'new' });
      await witness.forget();
      await orders().save({ status: 'new' });
      expect(await witness.expectEveryEvent()).toBe(1);
    });

    it('replaces a witness that was not removed', async () => {
      witness = await EventWitness.install(app.app);
      await orders().save({ status: 'new' });
      expect(await witness.expectEveryEvent()).toBe(1);
    });
  });

  describe('that was removed', () => {
    afterEach(stop);

    it('leaves neither triggers nor tables', async () => {
      await start({ entities: [Order, Line] });
      await witness.remove();
      await orders().save({ status: 'new' });
      const catalog = {
        sqlite: `SELECT name FROM sqlite_master WHERE name LIKE '%webhook_witness%'`,
        postgres: `SELECT proname FROM pg_proc WHERE proname LIKE '%webhook_witness%' UNION SELECT relname FROM pg_class WHERE relname LIKE '%webhook_witness%'`,
        mysql: `SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '%webhook_witness%'`,
      };
      expect(await app.dataSource.query(catalog[familyOf(database)])).toEqual([]);
    });
  });

  describe('of changes that triggers capture', () => {
    afterEach(stop);
    const triggered = { entities: [Order, Line], others: [Audit], webhooks: { capture: 'trigger' as const } };

    it('works beside the capture triggers, even if another application starts', async () => {
      await start(triggered);
      const second = await startApp({ database: fresh.options, ...triggered });
      await second.close();
      await orders().save({ status: 'new', lines: [{ article: 'pen' }] });
      await app.dataSource.query(`UPDATE shop_order SET status = 'raw'`);
      await drain(app.app);
      expect(await witness.expectEveryEvent()).toBe(3);
    });

    it('asks for drain() before events are compared', async () => {
      await start(triggered);
      await orders().save({ status: 'new' });
      expect(await failure()).toBe(
        '1 change that triggers have captured has no event yet. Call drain(app) before expectEveryEvent().',
      );
    });

    it('reports why an image made no event', async () => {
      await start(triggered);
      await orders().save({ status: 'new' });
      await app.dataSource.query(`UPDATE webhook_images SET new_row = '{}'`);
      await drain(app.app);
      expect(await failure()).toMatch(/missing: order\.created[^]*An image is damaged[^]*it has no column id/);
    });
  });

  describe.each(['orm', 'trigger'] as const)('of an entity that coalesces and is soft-deleted (%s)', (capture) => {
    afterEach(stop);
    it('expects the last row of a deletion, and the last row of its owner if the owner changed afterwards', async () => {
      await start({ entities: [{ entity: Order, coalesce: true, owner: 'customerId' }, Line], webhooks: { capture } });
      const [kept, given] = await orders().save([{ status: 'new' }, { status: 'new' }]);
      await app.dataSource.transaction(async (manager) => {
        await manager.softDelete(Order, { status: 'new' });
        await manager.update(Order, { id: kept?.id }, { status: 'void' });
        await manager.update(Order, { id: given?.id }, { status: 'void', customerId: 'globex' });
      });
      if (capture === 'trigger') await drain(app.app);
      expect(await witness.expectEveryEvent()).toBe(6);
    });

    it('expects a deletion for the last owner of a row, and a deletion with the id for the owner before', async () => {
      await start({ entities: [{ entity: Order, coalesce: true, owner: 'customerId' }, Line], webhooks: { capture } });
      await orders().save([{ status: 'soft' }, { status: 'hard' }]);
      await app.dataSource.transaction(async (manager) => {
        await manager.update(Order, { status: In(['soft', 'hard']) }, { customerId: 'globex' });
        await manager.softDelete(Order, { status: 'soft' });
        await manager.delete(Order, { status: 'hard' });
      });
      if (capture === 'trigger') await drain(app.app);
      expect(await witness.expectEveryEvent()).toBe(6);
      await app.dataSource.query(`DELETE FROM webhook_events WHERE audience = 'owner_only'`);
      expect(await failure()).toMatch(/^[24] events do not match/);
    });
  });

  describe.each(['orm', 'trigger'] as const)('of an entity with a column of every kind (%s)', (capture) => {
    afterEach(stop);
    it('expects the same values as the payload', async () => {
      const { EveryKind, KindOwner } = entitiesFor(familyOf(database));
      await start({ entities: [EveryKind, KindOwner], webhooks: { capture } });
      const { manager } = app.dataSource;
      const written = (at: 0 | 1) => Object.fromEntries(KINDS.map((kind) => [kind.name, kind.written[at]]));
      await manager.insert(KindOwner, { id: '9007199254740993' });
      const parent = { id: '9007199254740993' };
      const { id } = await manager.save(EveryKind, { ...written(0), parent, address: { city: 'Ulm', fee: '1.5' } });
      await manager.update(EveryKind, { id }, { ...written(1), parent: null } as never);
      await manager.delete(EveryKind, { id });
      if (capture === 'trigger') await drain(app.app);
      expect(await witness.expectEveryEvent()).toBe(4);
    });
  });
});

describeOn('postgres', 'PostgreSQL', (postgres) => {
  it('has an event for each row that TRUNCATE deletes', async () => {
    const fresh = await postgres.create();
    const app = await startApp({ database: fresh.options, entities: [Item], webhooks: { capture: 'trigger' } });
    const witness = await EventWitness.install(app.app);
    await app.dataSource.manager.insert(Item, [
      { id: 1, name: 'a' },
      { id: 2, name: 'b' },
    ]);
    await app.dataSource.query('TRUNCATE conf_item');
    await drain(app.app);
    expect(await witness.expectEveryEvent()).toBe(4);
    await app.close();
    await fresh.drop();
  });
});

/** The example of `docs/testing.md`. */
export async function everyPaymentMakesItsEvent(
  app: TestApp['app'],
  pay: (id: number) => Promise<void>,
  id: number,
): Promise<void> {
  await using witness = await EventWitness.install(app);
  await pay(id);
  await drain(app); // events of entities with capture: 'trigger' are made after the commit
  const changes = await witness.expectEveryEvent();
  if (changes === 0) throw new Error('pay() has written nothing');
}

describe('the example of docs/testing.md', () => {
  it('passes if each payment has its event, and fails if one has none', async () => {
    const fresh = await (databases[0] as (typeof databases)[number]).create();
    const app = await startApp({ database: fresh.options, entities: [Order, Line], others: [Audit] });
    const repository = app.dataSource.getRepository(Order);
    const { id } = await repository.save({ status: 'new' });
    const pay = async (of: number) => void (await repository.update(of, { status: 'paid' }));
    await everyPaymentMakesItsEvent(app.app, pay, id);
    const silently = (of: number) =>
      app.webhooks.withoutCapture(async () => void (await repository.update(of, { status: 'free' })));
    await expect(everyPaymentMakesItsEvent(app.app, silently, id)).rejects.toThrow(/missing: order\.updated/);
    await app.close();
    await fresh.drop();
  });

  it('is the same code as in this test', async () => {
    const shown = await codeBlock('docs/testing.md', 'witness');
    const body = shown.slice(shown.indexOf('  await using')).trim();
    const own = await readFile(join(WORKSPACE, 'test/testing/event-witness.spec.ts'), 'utf8');
    expect(own).toContain(body);
  });
});
