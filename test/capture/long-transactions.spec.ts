import { Column, DeleteDateColumn, Entity, PrimaryColumn, type EntityManager } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ exactPrevious: false })
@Entity('crate')
class Crate {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'int', default: 0 })
  weight: number;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

/** For each pending change that capture looks at to find earlier changes of a row, it reads the table of the change. */
function countTableReads(app: TestApp): { reads: number } {
  const metadata = app.dataSource.getMetadata(Crate);
  const { tablePath } = metadata;
  const counted = { reads: 0 };
  Object.defineProperty(metadata, 'tablePath', {
    configurable: true,
    get: () => {
      counted.reads++;
      return tablePath;
    },
  });
  return counted;
}

type Work = (manager: EntityManager, crates: Crate[]) => Promise<unknown>;

const WORKS: Record<string, Work> = {
  'one softRemove() of all rows': (manager, crates) => manager.softRemove(crates),
  'one recover() of all rows': async (manager, crates) => {
    await manager.getRepository(Crate).softDelete(crates.map(({ id }) => id));
    await manager.recover(crates);
  },
  'one save() of all rows': (manager, crates) =>
    manager.save(
      crates.map((crate) => Object.assign(crate, { weight: 1 })),
      { chunk: 100 },
    ),
  'a save() for each row': async (manager, crates) => {
    for (const crate of crates) await manager.save(Object.assign(crate, { weight: 2 }));
  },
};

describeDatabases('the work of a transaction grows with its rows, not with their square', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeEach(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Crate] });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  it.each(Object.keys(WORKS))('in %s', async (name) => {
    const counted = countTableReads(app);
    const few = await readsOf(100);
    const many = await readsOf(300);
    // A search of all pending changes for each row would read nine times as often.
    expect(many / few).toBeLessThan(3.3);

    async function readsOf(count: number): Promise<number> {
      const crates = app.dataSource.getRepository(Crate);
      await crates.insert(Array.from({ length: count }, (_, id) => ({ id })));
      const all = await crates.find();
      counted.reads = 0;
      await app.dataSource.transaction((manager) => (WORKS[name] as Work)(manager, all));
      const { reads } = counted;
      await crates.deleteAll();
      return reads;
    }
  });
});
