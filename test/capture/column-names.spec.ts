import { Column, Entity, PrimaryColumn, type EntityManager } from 'typeorm';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook()
@Entity('named_row')
class Row {
  @PrimaryColumn({ type: 'int', name: 'x:id' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'a', name: 'x:y' })
  odd: string;

  @Column({ type: 'varchar', length: 50, default: 'a' })
  name: string;
}

/** TypeORM replaces the parameter `y` also in the name of the column. Such a statement works if it does not name the column. */
describeDatabases('a column whose name contains the name of a parameter', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Row] });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    const { manager } = app.dataSource;
    await manager.query('DELETE FROM named_row');
    await manager.insert(Row, { id: 1 });
    await manager.query('DELETE FROM webhook_events');
  });

  const row = { id: 1, odd: 'a', name: 'a' };
  it.each<[string, (manager: EntityManager) => Promise<unknown>, object]>([
    [
      'an update',
      (m) => m.createQueryBuilder().update(Row).set({ name: 'b' }).where('name = :y', { y: 'a', id: 1 }).execute(),
      { type: 'row.updated', data: { ...row, name: 'b' }, previous: { name: 'a' } },
    ],
    [
      'a delete',
      (m) => m.createQueryBuilder().delete().from(Row).where('name = :y', { y: 'a', id: 1 }).execute(),
      { type: 'row.deleted', data: row },
    ],
  ])('is in the event of %s with this parameter', async (_, write, event) => {
    await write(app.dataSource.manager);
    expect(await storedEvents(app)).toEqual([event]);
  });
});
