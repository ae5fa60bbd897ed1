import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  Column,
  DeleteDateColumn,
  Entity,
  PrimaryColumn,
  UpdateDateColumn,
  VersionColumn,
  type EntityManager,
} from 'typeorm';
import { Webhook, type JsonObject } from 'nestjs-entity-webhooks';
import { databases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook()
@Entity('soft')
class Soft {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  status: string;

  @DeleteDateColumn()
  deletedAt: Date | null;

  @UpdateDateColumn()
  updatedAt: Date;

  @VersionColumn()
  version: number;
}

const matrix = databases.flatMap((database) =>
  (['orm', 'trigger'] as const).map((capture) => ({ database, name: database.name, capture })),
);

describe.each(matrix)('a row that is soft-deleted, captured by $capture on $name', ({ database, capture }) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Soft], webhooks: { capture } });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    await app.webhooks.withoutCapture(async () => {
      await app.dataSource.query('DELETE FROM soft');
      await app.dataSource.getRepository(Soft).insert({ id: 1, status: 'a' });
    });
    await app.dispatcher.drain();
    await app.dataSource.query('DELETE FROM webhook_events');
  });
  const INSTANT = expect.stringMatching(/^20\d\d-\d\d-\d\dT[\d:.]+Z$/) as unknown as string;
  const after = async (write: (manager: EntityManager) => Promise<unknown>) => {
    await write(app.dataSource.manager);
    await app.dispatcher.drain();
    return storedEvents(app);
  };
  const shown = (deletedAt: string | null, version: unknown): JsonObject => ({
    id: 1,
    status: 'a',
    deletedAt,
    updatedAt: INSTANT,
    version: version as number,
  });
  const one = async (manager: EntityManager) => manager.findOneOrFail(Soft, { where: { id: 1 }, withDeleted: true });

  it.each<[string, (manager: EntityManager) => Promise<unknown>]>([
    ['softRemove()', async (manager) => manager.softRemove(await one(manager))],
    ['softDelete()', (manager) => manager.softDelete(Soft, 1)],
    ['a builder', (manager) => manager.createQueryBuilder().softDelete().from(Soft).where('id = 1').execute()],
  ])('by %s is shown as it is then: with its delete date, update date and version', async (_, write) => {
    const events = await after(write);
    const row = await one(app.dataSource.manager);
    expect(events).toEqual([
      {
        type: 'soft.deleted',
        data: { ...shown(row.deletedAt?.toISOString() ?? null, row.version), updatedAt: row.updatedAt.toISOString() },
      },
    ]);
    expect(row.version).toBe(2);
    expect(row.deletedAt).not.toBeNull();
  });

  it('and restored is shown as it is after the restore: without a delete date', async () => {
    await after((manager) => manager.softDelete(Soft, 1));
    const events = await after(async (manager) => {
      await manager.recover(await one(manager));
      await manager.softDelete(Soft, 1);
      await manager.restore(Soft, 1);
    });
    expect(events.map(({ type, data }) => [type, data])).toEqual([
      ['soft.deleted', shown(INSTANT, 2)],
      ['soft.restored', shown(null, 3)],
      ['soft.deleted', shown(INSTANT, 4)],
      ['soft.restored', shown(null, 5)],
    ]);
  });

  it('and then removed is shown as it was before the removal: with its delete date, unlike a live row', async () => {
    const events = await after(async (manager) => {
      await manager.insert(Soft, { id: 2, status: 'a' });
      await manager.softDelete(Soft, 1);
      await manager.remove(await one(manager));
      await manager.delete(Soft, 2);
    });
    expect(events.filter(({ type }) => type === 'soft.deleted').map(({ data }) => [data.id, data.deletedAt])).toEqual([
      [1, INSTANT],
      [1, INSTANT],
      [2, null],
    ]);
  });
});
