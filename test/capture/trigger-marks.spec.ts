import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Column, Entity, PrimaryColumn, type QueryRunner } from 'typeorm';
import { CaptureError, Webhook } from 'nestjs-entity-webhooks';
import { runCausedBy } from '../../libs/webhooks/src/cause.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

/** A write that waits for an end that does not come would take ten seconds. */
/** A write that waits for itself waits for ever. Shorter than every time-out of the library and of the servers, and long on a busy machine. */
const HANG_MS = 8_000;

@Webhook({ capture: 'trigger' })
@Entity('marked')
class Marked {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

describeDatabases('the transaction mark of a write', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Marked] });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    await app.dataSource.query('DELETE FROM marked');
    await app.dispatcher.drain();
    await app.dataSource.query('DELETE FROM webhook_events');
  });

  const silently = <T>(work: () => Promise<T>) => app.webhooks.withoutCapture(work);
  const byAnn = <T>(work: () => Promise<T>) => app.webhooks.withContext({ actor: 'ann' }, work);
  const insert = (id: number, runner?: QueryRunner) =>
    app.dataSource.query(`INSERT INTO marked VALUES (${id}, 'a')`, [], runner);
  const capturedEvents = async () => {
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

  it('applies only to the writes of its context within one transaction', async () => {
    await app.dataSource.transaction(async (manager) => {
      const write = (id: number) => manager.insert(Marked, { id, name: 'a' });
      await write(1);
      await silently(() => write(2));
      await byAnn(() => write(3));
      await write(4);
      await manager.save(Marked, { id: 5, name: 'a' }, { data: { webhooks: false } });
      await manager.save(Marked, { id: 6, name: 'a' }, { data: {} });
    });
    expect(await capturedEvents()).toEqual([
      [1, null],
      [3, { actor: 'ann' }],
      [4, null],
      [6, null],
    ]);
  });

  it('ends with the transaction, by COMMIT or ROLLBACK', async () => {
    const runner = app.dataSource.createQueryRunner();
    for (const [n, end] of (['commitTransaction', 'rollbackTransaction'] as const).entries()) {
      await runner.startTransaction();
      await silently(() => insert(10 + n, runner));
      await runner[end]();
      await insert(20 + n, runner);
    }
    await runner.release();
    expect(await capturedEvents()).toEqual([
      [20, null],
      [21, null],
    ]);
  });

  it.runIf(database.name === 'mariadb' || database.name === 'mysql2')(
    'ends with a transaction that the server rolls back because of a deadlock',
    async () => {
      for (const id of [1, 2]) await silently(() => insert(id));
      const [victim, other] = [app.dataSource.createQueryRunner(), app.dataSource.createQueryRunner()];
      await victim.startTransaction();
      await other.startTransaction();
      await victim.query('SELECT id FROM marked WHERE id = 1 FOR UPDATE');
      // The server rolls back the transaction that has changed fewer rows.
      for (const id of [11, 12, 13, 14]) await other.manager.insert(Marked, { id, name: 'a' });
      await other.manager.update(Marked, 2, { name: 'b' });
      const results = await Promise.allSettled([
        silently(() => victim.manager.update(Marked, 2, { name: 'c' })),
        other.manager.update(Marked, 1, { name: 'b' }),
      ]);
      expect(results).toMatchObject([{ status: 'rejected', reason: { errno: 1213 } }, { status: 'fulfilled' }]);
      await other.commitTransaction();
      await victim.manager.insert(Marked, { id: 3, name: 'a' });
      await victim.rollbackTransaction();
      await Promise.all([victim.release(), other.release()]);
      expect((await capturedEvents()).map(([id]) => id)).toEqual([11, 12, 13, 14, 2, 1, 3]);
    },
  );

  it('applies again after a rollback to a savepoint', async () => {
    await silently(() =>
      app.dataSource.transaction(async (manager) => {
        await manager
          .transaction(async (inner) => {
            await inner.insert(Marked, { id: 1, name: 'a' });
            throw new Error('undone');
          })
          .catch(() => undefined);
        await manager.insert(Marked, { id: 2, name: 'a' });
      }),
    );
    await insert(3);
    expect(await capturedEvents()).toEqual([[3, null]]);
  });

  it('applies to each of several concurrent writes in one transaction', async () => {
    const manyAtOnce = () =>
      app.dataSource.transaction(async (manager) => {
        const write = (id: number) => manager.insert(Marked, { id, name: 'a' });
        await Promise.all([
          silently(() => write(1)),
          write(2),
          byAnn(() => write(3)),
          silently(() => write(4)),
          write(5),
          write(6),
          byAnn(() => manager.query(`INSERT INTO marked VALUES (7, 'a')`)),
          silently(() => manager.query(`INSERT INTO marked VALUES (8, 'a')`)),
          manager.query(`INSERT INTO marked VALUES (9, 'a')`),
        ]);
      });
    await manyAtOnce();
    expect((await capturedEvents()).toSorted(([a], [b]) => Number(a) - Number(b))).toEqual([
      ...[
        [2, null],
        [3, { actor: 'ann' }],
        [5, null],
        [6, null],
      ],
      ...[
        [7, { actor: 'ann' }],
        [9, null],
      ],
    ]);
  });

  it('applies to the others if one of several concurrent writes fails', { timeout: HANG_MS }, async () => {
    const runner = app.dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query('SAVEPOINT first');
    await Promise.allSettled([
      silently(() => insert(1, runner)),
      silently(() => runner.query(`INSERT INTO marked VALUES (2, NULL)`)),
      insert(3, runner),
    ]);
    await runner.query('ROLLBACK TO SAVEPOINT first');
    await Promise.all([insert(4, runner), silently(() => insert(5, runner)), insert(6, runner)]);
    await runner.commitTransaction();
    await runner.release();
    expect((await capturedEvents()).toSorted(([a], [b]) => Number(a) - Number(b))).toEqual([
      [4, null],
      [6, null],
    ]);
  });

  it('applies to a statement outside a transaction, and to no other statement', async () => {
    await byAnn(() => insert(1));
    await silently(() => insert(2));
    await expect(silently(() => insert(2))).rejects.toThrow();
    await insert(3);
    await Promise.all([4, 5, 6].map((id) => insert(id)));
    expect((await capturedEvents()).toSorted(([a], [b]) => Number(a) - Number(b))).toEqual([
      [1, { actor: 'ann' }],
      ...[3, 4, 5, 6].map((id) => [id, null]),
    ]);
    expect(await app.dataSource.getRepository(Marked).count()).toBe(6);
  });

  it('contains the causation depth, and too deep a chain is refused', async () => {
    await runCausedBy({ context: null, depth: 2 }, () => insert(1));
    expect(await capturedEvents()).toEqual([[1, { webhookDepth: 3 }]]);
    const refused = runCausedBy({ context: null, depth: 1_000 }, () => insert(2));
    await expect(refused).rejects.toMatchObject({ code: 'WEBHOOK_LOOP' });
    await expect(refused).rejects.toBeInstanceOf(CaptureError);
    expect(await app.dataSource.getRepository(Marked).count()).toBe(1);
  });
});
