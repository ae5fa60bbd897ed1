import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Column, Entity, PrimaryColumn, type QueryRunner } from 'typeorm';
import { Webhook, type JsonObject } from 'nestjs-entity-webhooks';
import { NO_MARK, type TriggerMark } from '../../libs/webhooks/src/capture/triggers/transaction-marks.js';
import type { EntityCapture, EntityCaptureOptions } from '../../libs/webhooks/src/capture/entity-capture.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ capture: 'trigger' })
@Entity('marked')
class Marked {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

describeDatabases('what triggers are told of a write', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  /** What holds at this moment of the test. */
  let mark: TriggerMark;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Marked] });
    const [capture] = app.dataSource.subscribers.filter(
      (subscriber): subscriber is EntityCapture => subscriber.constructor.name === 'EntityCapture',
    );
    const { options } = capture as unknown as {
      options: { -readonly [K in keyof EntityCaptureOptions]: EntityCaptureOptions[K] };
    };
    options.markOf = () => mark;
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    mark = NO_MARK;
    await app.dataSource.query('DELETE FROM marked');
    await app.dispatcher.drain();
    await app.dataSource.query('DELETE FROM webhook_events');
  });

  const skip: TriggerMark = { skip: true, context: null };
  const by = (context: JsonObject): TriggerMark => ({ skip: false, context });
  const insert = (id: number, runner?: QueryRunner) =>
    app.dataSource.query(`INSERT INTO marked VALUES (${id}, 'a')`, [], runner);
  const told = async () => {
    expect(await marks()).toBe(0);
    await app.dispatcher.drain();
    const rows: { payload: string; context: string | null }[] = await app.dataSource.query(
      'SELECT payload, context FROM webhook_events ORDER BY seq',
    );
    return rows.map(({ payload, context }) => {
      const { data } = JSON.parse(payload) as { data: { id: number } };
      return [data.id, context === null ? null : (JSON.parse(context) as unknown)];
    });
  };
  const marks = async () =>
    Number(
      ((await app.dataSource.query('SELECT count(*) AS n FROM webhook_images WHERE seq < 0')) as { n: unknown }[])[0]
        ?.n,
    );

  it('holds for the writes of its moment alone, in one transaction', async () => {
    await app.dataSource.transaction(async (manager) => {
      await manager.insert(Marked, { id: 1, name: 'a' });
      mark = skip;
      await manager.insert(Marked, { id: 2, name: 'a' });
      mark = by({ actor: 'ann' });
      await manager.insert(Marked, { id: 3, name: 'a' });
      mark = NO_MARK;
      await manager.insert(Marked, { id: 4, name: 'a' });
    });
    expect(await told()).toEqual([
      [1, null],
      [3, { actor: 'ann' }],
      [4, null],
    ]);
  });

  it('ends with the transaction, however that ends', async () => {
    const runner = app.dataSource.createQueryRunner();
    for (const [n, end] of (['commitTransaction', 'rollbackTransaction'] as const).entries()) {
      await runner.startTransaction();
      mark = skip;
      await insert(10 + n, runner);
      await runner[end]();
      mark = NO_MARK;
      await insert(20 + n, runner);
    }
    await runner.release();
    expect(await told()).toEqual([
      [20, null],
      [21, null],
    ]);
  });

  it('holds again after a rollback to a savepoint', async () => {
    mark = skip;
    await app.dataSource.transaction(async (manager) => {
      await manager
        .transaction(async (inner) => {
          await inner.insert(Marked, { id: 1, name: 'a' });
          throw new Error('undone');
        })
        .catch(() => undefined);
      await manager.insert(Marked, { id: 2, name: 'a' });
    });
    mark = NO_MARK;
    await insert(3);
    expect(await told()).toEqual([[3, null]]);
  });

  it('holds for a statement outside a transaction, and for no other', async () => {
    mark = by({ actor: 'ann' });
    await insert(1);
    mark = skip;
    await insert(2);
    await expect(insert(2)).rejects.toThrow();
    mark = NO_MARK;
    await insert(3);
    await Promise.all([4, 5, 6].map((id) => insert(id)));
    expect((await told()).toSorted(([a], [b]) => Number(a) - Number(b))).toEqual([
      [1, { actor: 'ann' }],
      ...[3, 4, 5, 6].map((id) => [id, null]),
    ]);
    expect(await app.dataSource.getRepository(Marked).count()).toBe(6);
  });
});
