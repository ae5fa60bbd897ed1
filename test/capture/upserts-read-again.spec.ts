import { Column, Entity, JoinTable, ManyToMany, PrimaryColumn, VirtualColumn, type ColumnOptions } from 'typeorm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';

import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { familyOf } from './every-kind.js';
import { storedEvents } from './shop.js';

describeDatabases('an upsert of rows that no statement returns as a whole', (database) => {
  const family = familyOf(database);
  const isMysql = family === 'mysql';
  const spot: ColumnOptions = isMysql ? { type: 'point', nullable: true } : { type: 'varchar', nullable: true };

  @Entity('upr_label')
  class Label {
    @PrimaryColumn({ type: 'varchar', length: 20 })
    name: string;
  }

  @Webhook({ fields: ['id', 'title', 'spot', 'labels', 'shout'] })
  @Entity('upr_task')
  class Task {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'varchar', length: 20 })
    title: string;

    @Column(spot)
    spot: string | null;

    @ManyToMany(() => Label)
    @JoinTable({ name: 'upr_task_label' })
    labels: Label[];

    @VirtualColumn({ type: 'varchar', query: (alias) => `UPPER(${alias}.title)` })
    shout: string;
  }

  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Task], others: [Label] });
  });

  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  it('has its links in data, and in previous the old values of all columns except virtual ones', async () => {
    const { manager } = app.dataSource;
    await manager.insert(Label, { name: 'urgent' });
    await manager.save(Task, { id: 1, title: 'a', spot: 'POINT(1 2)', labels: [{ name: 'urgent' }] });
    await manager.query('DELETE FROM webhook_events');
    const rows = [
      { id: 1, title: 'b', spot: 'POINT(3 4)' },
      { id: 2, title: 'c', spot: null },
    ];
    await manager.upsert(Task, rows, ['id']);
    await manager.upsert(Task, { id: 1, title: 'b', spot: 'POINT(5 6)' }, ['id']);
    await manager.upsert(Task, { id: 1, title: 'b', spot: 'POINT(5 6)' }, ['id']);
    expect(await storedEvents(app)).toEqual([
      {
        type: 'task.updated',
        data: { id: 1, title: 'b', spot: 'POINT(3 4)', labels: ['urgent'], shout: 'B' },
        previous: { title: 'a', spot: 'POINT(1 2)' },
      },
      { type: 'task.created', data: { id: 2, title: 'c', spot: null, labels: [], shout: 'C' } },
      {
        type: 'task.updated',
        data: { id: 1, title: 'b', spot: 'POINT(5 6)', labels: ['urgent'], shout: 'B' },
        previous: { spot: 'POINT(3 4)' },
      },
    ]);
  });
});
