import { expect } from 'vitest';
import type { QueryRunner } from 'typeorm';

import { waitInTheDatabase } from '../../support/waits-for-lock.js';
import { Item } from '../conformance-entities.js';
import { item, row, THREE, threeItems } from './items.js';
import type { Operation, OperationContext } from './operation.js';
import { created, deleted, updated } from './expected-events.js';

type Level = 'READ UNCOMMITTED' | 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE';

const SERVERS = ['postgres', 'mariadb', 'mysql2'] as const;
const MYSQL = ['mariadb', 'mysql2'] as const;

/** Changes item 2 in a transaction that has read it before another writer changed it. */
async function changeLate({ dataSource }: OperationContext, level: Level): Promise<void> {
  const late = dataSource.createQueryRunner();
  try {
    await late.startTransaction(level);
    expect(await late.manager.findOneByOrFail(Item, { id: 2 })).toMatchObject({ amount: 5 });
    await dataSource.manager.update(Item, { id: 2 }, { amount: 6 });
    await late.manager.insert(Item, row(4));
    await late.manager.update(Item, { id: 2 }, { name: 'late' });
    await late.commitTransaction();
  } catch (error) {
    await late.rollbackTransaction();
    throw error;
  } finally {
    await late.release();
  }
}

const OTHERS = updated('item', item(2, { amount: 6 }), { amount: 5 });
const LATE = updated('item', item(2, { name: 'late', amount: 6 }), { name: 'item 2' });

/** Runs two transactions that each read the row that the other one writes. @returns the result of each */
async function crossed(
  { dataSource }: OperationContext,
  work: (own: QueryRunner, isFirst: boolean) => Promise<unknown>,
): Promise<PromiseSettledResult<unknown>[]> {
  const runners = [dataSource.createQueryRunner(), dataSource.createQueryRunner()] as const;
  for (const runner of runners) {
    await runner.startTransaction('SERIALIZABLE');
    await runner.manager.find(Item);
  }
  const finish = async (runner: QueryRunner, isFirst: boolean) => {
    try {
      await work(runner, isFirst);
      await runner.commitTransaction();
    } catch (error) {
      await runner.rollbackTransaction();
      throw error;
    } finally {
      await runner.release();
    }
  };
  const first = finish(runners[0], true);
  // On MySQL and MariaDB it waits for the lock of the read of the other transaction. On PostgreSQL it does not wait.
  if (dataSource.options.type === 'postgres') await first;
  else await waitInTheDatabase(dataSource, 1);
  return Promise.allSettled([first, finish(runners[1], false)]);
}

/** The promises of the isolation levels apply to events as to rows. A transaction that cannot be serialized makes no event. */
export const ISOLATION: readonly Operation[] = [
  ...(['READ UNCOMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'] as const).map((level): Operation => ({
    name: `every type of write at ${level}`,
    // SQLite has only these two levels.
    ...(level === 'READ UNCOMMITTED' || level === 'SERIALIZABLE' ? {} : { on: SERVERS }),
    given: threeItems,
    run: ({ dataSource }) =>
      dataSource.transaction(level, async (manager) => {
        await manager.count(Item);
        await manager.save(Item, { id: 1, name: 'saved' });
        await manager.insert(Item, row(4));
        await manager.update(Item, { id: 2 }, { name: 'changed' });
        await manager.upsert(Item, row(4, { name: 'met' }), ['id']);
        await manager.delete(Item, { id: 3 });
      }),
    expects: [
      updated('item', item(1, { name: 'saved' }), { name: 'item 1' }),
      created('item', item(4)),
      updated('item', item(2, { name: 'changed', amount: 5 }), { name: 'item 2' }),
      updated('item', item(4, { name: 'met' }), { name: 'item 4' }),
      deleted('item', THREE),
    ],
    rows: [[Item, [{ name: 'saved' }, { name: 'changed' }, { id: 4, name: 'met' }]]],
  })),
  {
    name: 'a row that another writer changed since the transaction began, at READ COMMITTED',
    on: SERVERS,
    given: threeItems,
    run: (context) => changeLate(context, 'READ COMMITTED'),
    expects: [OTHERS, created('item', item(4)), LATE],
    rows: [[Item, [{}, { name: 'late', amount: 6 }, {}, { id: 4 }]]],
  },
  {
    name: 'a row that another writer changed since the transaction began, at REPEATABLE READ, which succeeds',
    on: MYSQL,
    given: threeItems,
    run: (context) => changeLate(context, 'REPEATABLE READ'),
    // Its snapshot shows 5. The row that it changes, and its event, have 6.
    expects: [OTHERS, created('item', item(4)), LATE],
    rows: [[Item, [{}, { name: 'late', amount: 6 }, {}, { id: 4 }]]],
  },
  ...(['REPEATABLE READ', 'SERIALIZABLE'] as const).map((level): Operation => ({
    name: `a row that another writer changed since the transaction began, at ${level}, which fails`,
    on: ['postgres'],
    given: threeItems,
    run: async (context) => {
      await expect(changeLate(context, level)).rejects.toMatchObject({ driverError: { code: '40001' } });
    },
    expects: [OTHERS],
    rows: [[Item, [{}, { name: 'item 2', amount: 6 }, {}]]],
  })),
  {
    name: 'two transactions at SERIALIZABLE that change the row that the other has read: one fails and makes no event',
    on: ['postgres'],
    given: threeItems,
    async run(context) {
      // They write different rows, so neither waits. Only at the COMMIT does the database find that they cannot be serialized.
      const [first, second] = await crossed(context, (own, isFirst) =>
        own.manager.update(Item, { id: isFirst ? 1 : 2 }, { name: isFirst ? 'first' : 'second' }),
      );
      expect(first?.status).toBe('fulfilled');
      expect(second).toMatchObject({ status: 'rejected', reason: { driverError: { code: '40001' } } });
    },
    expects: [updated('item', item(1, { name: 'first' }), { name: 'item 1' })],
    rows: [[Item, [{ name: 'first' }, { name: 'item 2' }, {}]]],
  },
  {
    name: 'two transactions at SERIALIZABLE that change a row that both have read: one fails with a deadlock and makes no event',
    on: MYSQL,
    given: threeItems,
    async run(context) {
      // The server chooses which of them fails.
      const ends = await crossed(context, (own) => own.manager.increment(Item, { id: 1 }, 'amount', 7));
      const failed = ends.filter((end) => end.status === 'rejected');
      expect(failed).toMatchObject([{ reason: { driverError: { errno: 1213 } } }]);
    },
    expects: [updated('item', item(1, { amount: 7 }), { amount: 0 })],
    rows: [[Item, [{ amount: 7 }, { amount: 5 }, {}]]],
  },
  {
    name: 'two transactions at SERIALIZABLE that change one row, one after the other',
    on: ['sqlite'],
    given: threeItems,
    run: ({ dataSource }) =>
      Promise.all(
        [1, 2].map(() =>
          dataSource.transaction('SERIALIZABLE', async (manager) => {
            const { amount } = await manager.findOneByOrFail(Item, { id: 1 });
            await manager.update(Item, { id: 1 }, { amount: amount + 7 });
          }),
        ),
      ),
    expects: [
      updated('item', item(1, { amount: 7 }), { amount: 0 }),
      updated('item', item(1, { amount: 14 }), { amount: 7 }),
    ],
    rows: [[Item, [{ amount: 14 }, { amount: 5 }, {}]]],
  },
];
