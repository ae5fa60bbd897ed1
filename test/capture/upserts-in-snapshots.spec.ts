import { Column, Entity, PrimaryColumn, type EntityManager } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook()
@Entity('snapshot_item')
class Item {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'none' })
  name: string;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  code: string | null;
}

/** SQLite has one writer at a time. Without a snapshot there is nothing to test. */
describeDatabases('an upsert in a transaction whose snapshot is older than a change of another writer', (database) => {
  describe.runIf(database.name !== 'sqlite')('and whose values match the row in the snapshot', () => {
    let fresh: FreshDatabase;
    let app: TestApp;
    beforeAll(async () => {
      fresh = await database.create();
      app = await startApp({ database: fresh.options, entities: [Item] });
    });
    afterAll(async () => {
      await app.close();
      await fresh.drop();
    });
    beforeEach(async () => {
      const { manager } = app.dataSource;
      await manager.query('DELETE FROM snapshot_item');
      await manager.insert(Item, { id: 4, code: 'x' });
    });

    type Write = (manager: EntityManager) => Promise<unknown>;
    /** Reads the rows in a transaction, lets another writer write, and then writes in the transaction. */
    const writeAfter = async (other: Write, write: Write) => {
      await app.dataSource.transaction('REPEATABLE READ', async (manager) => {
        await manager.find(Item);
        await other(app.dataSource.manager);
        await app.dataSource.query('DELETE FROM webhook_events');
        await write(manager);
      });
      return storedEvents(app);
    };
    const created = (id: number, code: string | null) => ({
      type: 'item.created',
      data: { id, name: 'none', code },
    });
    /** PostgreSQL refuses a statement that names a row twice. Elsewhere the second values give the code its default. */
    const isTwice = database.name !== 'postgres';
    const upsertTwice: Write = (m) => m.upsert(Item, [{ id: 3, code: 'x' }, ...(isTwice ? [{ id: 3 }] : [])], ['id']);

    it.each<[string, Write]>([
      ['got another value', (m) => m.update(Item, { id: 4 }, { code: 'z' })],
      ['was deleted', (m) => m.delete(Item, { id: 4 })],
    ])('makes no event of that row if the row %s', async (_, other) => {
      expect(await writeAfter(other, upsertTwice)).toEqual([created(3, isTwice ? null : 'x')]);
    });

    it('makes the event of a new row with the key of the deleted row', async () => {
      const upsert: Write = (m) =>
        m.upsert(
          Item,
          [
            { id: 4, code: 'x' },
            { id: 5, code: 'y' },
          ],
          ['id'],
        );
      const events = await writeAfter((m) => m.delete(Item, { id: 4 }), upsert);
      expect(events).toEqual([created(4, 'x'), created(5, 'y')]);
    });

    it('makes the event of a row that an insert with orIgnore() has written', async () => {
      const ignore: Write = (m) =>
        m.createQueryBuilder().insert().into(Item).values({ id: 3, code: 'x' }).orIgnore().execute();
      expect(await writeAfter((m) => m.update(Item, { id: 4 }, { code: 'z' }), ignore)).toEqual([created(3, 'x')]);
    });
  });
});
