import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import Sqlite from 'better-sqlite3';
import {
  Column,
  DataSource,
  Entity,
  PrimaryColumn,
  type DataSourceOptions,
  type EntitySubscriberInterface,
  type QueryRunner,
} from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { describeDatabases, describeOn, type FreshDatabase } from '../support/databases.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook({ capture: 'trigger' })
@Entity('marks_plain')
class Plain {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

@Webhook({ capture: 'trigger', coalesce: true })
@Entity('marks_merged')
class Merged {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'int', default: 0 })
  n: number;
}

@Webhook({ capture: 'orm' })
@Entity('marks_orm')
class ByOrm {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

const ENTITIES = [Plain, Merged, ByOrm];
const OPTIONS = { publishedTypes: ['x.y'] };

describeDatabases('a transaction that writes images and events', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: ENTITIES, webhooks: OPTIONS });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  /** The events of raw SQL on the connection that the transaction used, and on others. */
  const written = async (): Promise<string[]> => {
    await app.dispatcher.drain();
    await app.dataSource.query('DELETE FROM webhook_events');
    for (let n = 0; n < 6; n++) await app.dataSource.query(`INSERT INTO marks_plain VALUES (${100 + n})`);
    await app.dataSource.query('INSERT INTO marks_merged (id, n) VALUES (100, 0)');
    await app.dataSource.query('UPDATE marks_merged SET n = 1 WHERE id = 100');
    await app.dispatcher.drain();
    const rows: { type: string; context: string | null }[] = await app.dataSource.query(
      'SELECT type, context FROM webhook_events ORDER BY seq',
    );
    return rows.map(({ type, context }) => `${type} ${context}`);
  };
  const all = [
    ...Array.from({ length: 6 }, () => 'plain.created null'),
    ...['merged.created null', 'merged.updated null'],
  ];

  it.each<[string, (app: TestApp) => Promise<unknown>]>([
    [
      'writes without capture and publishes',
      ({ dataSource, webhooks }) =>
        webhooks.withoutCapture(() =>
          dataSource.transaction(async (manager) => {
            await manager.insert(Plain, { id: 1 });
            await webhooks.publish('x.y', {}, { manager });
          }),
        ),
    ],
    [
      'has a context and writes an entity that TypeORM captures',
      ({ dataSource, webhooks }) =>
        webhooks.withContext({ actor: 'ann' }, () =>
          dataSource.transaction(async (manager) => {
            await manager.insert(Plain, { id: 1 });
            await manager.insert(ByOrm, { id: 1 });
          }),
        ),
    ],
    [
      'merges changes and writes an entity that TypeORM captures',
      ({ dataSource }) =>
        dataSource.transaction(async (manager) => {
          await manager.insert(Merged, { id: 1 });
          await manager.insert(ByOrm, { id: 1 });
        }),
    ],
    [
      'writes an entity that TypeORM captures, and then without capture',
      ({ dataSource, webhooks }) =>
        dataSource.transaction(async (manager) => {
          await manager.insert(ByOrm, { id: 1 });
          await webhooks.withoutCapture(() => manager.insert(Plain, { id: 1 }));
        }),
    ],
    [
      'rolls a savepoint back and writes an entity that TypeORM captures',
      ({ dataSource, webhooks }) =>
        webhooks.withoutCapture(() =>
          dataSource.transaction(async (manager) => {
            const nested = manager.transaction(async (inner) => {
              await inner.insert(Plain, { id: 1 });
              throw new Error('undone');
            });
            await nested.catch(() => undefined);
            await webhooks.publish('x.y', {}, { manager });
          }),
        ),
    ],
  ])('leaves no mark when it %s', async (_, write) => {
    await write(app);
    const marks: unknown[] = await app.dataSource.query('SELECT seq FROM webhook_images WHERE seq < 0');
    expect(marks).toEqual([]);
    expect(await written()).toEqual(all);
  });

  it('leaves no mark if a write without capture is not awaited before the COMMIT', async () => {
    const runner: QueryRunner = app.dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query('INSERT INTO marks_plain VALUES (1)');
    const late = app.webhooks.withoutCapture(() => runner.query('INSERT INTO marks_plain VALUES (2)'));
    await Promise.allSettled([runner.commitTransaction(), late]);
    await runner.release();
    const marks: unknown[] = await app.dataSource.query('SELECT seq FROM webhook_images WHERE seq < 0');
    expect(marks).toEqual([]);
    expect(await written()).toEqual(all);
  });

  it('leaves no mark if a hook of the COMMIT writes without capture', async () => {
    let isWritten = false;
    const subscriber: EntitySubscriberInterface = {
      async beforeQuery({ query, queryRunner }) {
        if (isWritten || !/^commit/i.test(query)) return;
        isWritten = true;
        await app.webhooks.withoutCapture(() => queryRunner.query('INSERT INTO marks_plain VALUES (2)'));
      },
    };
    app.dataSource.subscribers.push(subscriber);
    await app.dataSource.transaction((manager) => manager.query('INSERT INTO marks_plain VALUES (1)'));
    expect(isWritten).toBe(true);
    const marks: unknown[] = await app.dataSource.query('SELECT seq FROM webhook_images WHERE seq < 0');
    expect(marks).toEqual([]);
    expect(await written()).toEqual(all);
  });

  it.runIf(database.name === 'sqlite')('shows its marks to no other connection when it has committed', async () => {
    const seen: unknown[] = [];
    const subscriber: EntitySubscriberInterface = {
      // Before the hook of this library, which might remove the marks only now.
      afterQuery({ query }) {
        if (!/^commit/i.test(query)) return;
        const other = new Sqlite(fresh.options.database as string);
        seen.push(other.prepare('SELECT count(*) AS marks FROM webhook_images WHERE seq < 0').get());
        other.close();
      },
    };
    app.dataSource.subscribers.unshift(subscriber);
    await app.webhooks.withoutCapture(() =>
      app.dataSource.transaction(async (manager) => {
        await manager.insert(Plain, { id: 1 });
        await app.webhooks.publish('x.y', {}, { manager });
      }),
    );
    expect(seen).toEqual([{ marks: 0 }]);
  });
});

describeOn('sqlite', 'marks that an earlier version has left in a file', (sqlite) => {
  let fresh: FreshDatabase;
  let other: DataSource;
  let log: ReturnType<typeof listenToLog>;
  beforeEach(async () => {
    fresh = await sqlite.reuse();
    const app = await startApp({ database: fresh.options, entities: ENTITIES, webhooks: OPTIONS });
    await app.close();
    other = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
    log = listenToLog();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await other.destroy();
    await fresh.drop();
  });

  const leave = (seq: number, context: string | null = null) =>
    other.query(
      `INSERT INTO webhook_images (seq, table_path, op, context, created_at, reason) VALUES (?, '', 'mark', ?, 0, 'mark')`,
      [seq, context],
    );

  it.each([
    ['write no images', -1, null, /STALE_MARKS.*captured no change/s],
    ['say who makes a change', -2, '{"actor":"ann"}', /STALE_MARKS.*context/s],
  ])('are removed at the start, with a warning, when they %s', async (_, seq, context, warning) => {
    await leave(seq, context);
    const app = await startApp({ database: fresh.options, entities: ENTITIES, webhooks: OPTIONS });
    try {
      expect(log.warnings.join('\n')).toMatch(warning);
      await other.query('INSERT INTO marks_plain VALUES (1)');
      await app.dispatcher.drain();
      expect(await storedEvents(app)).toMatchObject([{ type: 'plain.created', data: { id: 1 } }]);
      expect(await other.query('SELECT context FROM webhook_events')).toEqual([{ context: null }]);
    } finally {
      await app.close();
    }
  });

  it('are removed by the poll of a running process if another process leaves them', async () => {
    const app = await startApp({
      database: fresh.options,
      entities: ENTITIES,
      webhooks: { ...OPTIONS, dispatcher: { autoStart: true, pollIntervalMs: 50 } },
    });
    try {
      expect(log.warnings.join('\n')).not.toContain('STALE_MARKS');
      await leave(-1);
      await vi.waitFor(async () => expect(await other.query('SELECT seq FROM webhook_images')).toEqual([]));
      expect(log.warnings.join('\n')).toContain('STALE_MARKS');
      await other.query('INSERT INTO marks_plain VALUES (1)');
      await vi.waitFor(async () => expect(await storedEvents(app)).toMatchObject([{ data: { id: 1 } }]));
    } finally {
      await app.close();
    }
  });

  it('cause no warning while they belong to an open transaction', async () => {
    const app = await startApp({ database: fresh.options, entities: ENTITIES, webhooks: OPTIONS });
    try {
      await app.webhooks.withoutCapture(() =>
        app.dataSource.transaction(async (manager) => {
          await manager.insert(Plain, { id: 1 });
          // Meanwhile another process starts and waits for this writer.
          const second = new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions);
          await second.initialize();
          expect(await second.query('SELECT seq FROM webhook_images')).toEqual([]);
          await second.destroy();
          await manager.insert(Plain, { id: 2 });
        }),
      );
      await app.dispatcher.drain();
      expect(await storedEvents(app)).toEqual([]);
      expect(log.warnings.join('\n')).not.toContain('STALE_MARKS');
    } finally {
      await app.close();
    }
  });
});
