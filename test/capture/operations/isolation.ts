import { expect } from 'vitest';
import type { QueryRunner } from 'typeorm';

import { waitInTheDatabase } from '../../support/waits-for-lock.js';
import { Item } from '../conformance-entities.js';
import { item, row, THREE, threeItems } from './items.js';
import type { Operation, OperationContext } from './operation.js';
import { created, deleted, updated } from './told.js';

type Level = 'READ UNCOMMITTED' | 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE';

const SERVERS = ['postgres', 'mariadb', 'mysql2'] as const;
const MYSQL = ['mariadb', 'mysql2'] as const;

/** Changes item 2 in a transaction that has looked at it before another writer changed it, too. */
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

/** Two transactions that each read what the other one writes. @returns how each of them ended */
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
  // It waits for the lock of the other's read on MySQL and MariaDB; PostgreSQL lets it go on.
  if (dataSource.options.type === 'postgres') await first;
  else await waitInTheDatabase(dataSource, 1);
  return Promise.allSettled([first, finish(runners[1], false)]);
}

/** What the isolation levels promise holds for events as it does for rows, and what cannot be serialized makes none. */
export const ISOLATION: readonly Operation[] = [
  ...(['READ UNCOMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'] as const).map((level): Operation => ({
    name: `writes of every kind at ${level}`,
    // The two that SQLite has.
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
    name: 'a row that another writer changed since the transaction began, at REPEATABLE READ, which writes it all the same',
    on: MYSQL,
    given: threeItems,
    run: (context) => changeLate(context, 'REPEATABLE READ'),
    // Its snapshot says 5; the row that it changes, and its event, say 6.
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
    name: 'two transactions at SERIALIZABLE that change what the other has read: one fails, and is not told',
    on: ['postgres'],
    given: threeItems,
    async run(context) {
      // Different rows: neither waits, and only the COMMIT can say that they are in no order.
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
    name: 'two transactions at SERIALIZABLE that change what both have read: one is a deadlock, and is not told',
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
