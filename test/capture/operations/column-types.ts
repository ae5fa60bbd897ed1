import { expect } from 'vitest';
import type { JsonObject } from 'nestjs-entity-webhooks';

import type { Typed } from '../conformance-entities.js';
import type { Operation, OperationContext } from './operation.js';
import { created, deleted, TIME, updated } from './expected-events.js';

const AT = new Date('2026-02-03T04:05:06.789Z');

/** A new object for each write, because TypeORM adds the values that it read to the inserted object. */
const typedRow = (): Partial<Typed> => ({
  id: '9007199254740993',
  price: '10.50',
  day: '2024-02-29',
  instant: AT,
  json: { b: 1, a: [true, null] },
  bytes: Buffer.from([0, 255, 1]),
  level: 'low',
  list: ['x', 'y'],
  cost: { cents: 250 },
  address: { city: 'Bern', zip: null },
  base: 21,
});

const TYPED_DATA: JsonObject = {
  id: '9007199254740993',
  price: '10.50',
  day: '2024-02-29',
  instant: AT.toISOString(),
  json: { b: 1, a: [true, null] },
  bytes: 'AP8B',
  level: 'low',
  list: ['x', 'y'],
  cost: { cents: 250 },
  address: { city: 'Bern', zip: null },
  doubled: 42,
  base: 21,
  version: 1,
  createdAt: TIME,
  updatedAt: TIME,
};

const TYPED_CHANGE: Partial<Typed> = {
  price: '11.00',
  day: '2024-03-01',
  instant: new Date('2026-07-03T00:00:00Z'),
  json: [1],
  bytes: Buffer.from('b'),
  level: 'high',
  list: [],
  cost: null,
  address: { city: null, zip: '3000' },
  base: 2,
};

const TYPED_CHANGED: JsonObject = {
  ...TYPED_DATA,
  price: '11.00',
  day: '2024-03-01',
  instant: '2026-07-03T00:00:00.000Z',
  json: [1],
  bytes: 'Yg==',
  level: 'high',
  list: [],
  cost: null,
  address: { city: null, zip: '3000' },
  doubled: 4,
  base: 2,
  version: 2,
};

/** `updatedAt` is in `previous` only if it changed, and within one tick of the database clock it does not change. */
function typedPrevious(previous: JsonObject): JsonObject {
  return expect.toSatisfy((data: JsonObject) => {
    const { updatedAt: _, ...rest } = data;
    expect(rest).toEqual(previous);
    return true;
  }) as unknown as JsonObject;
}

const insertTyped = ({ manager, typed }: OperationContext) => manager.insert(typed, typedRow());

export const COLUMN_TYPES: readonly Operation[] = [
  {
    name: 'insert() of a row with a column of every type',
    run: insertTyped,
    expects: [created('typed', TYPED_DATA)],
  },
  {
    name: 'insert() of a row whose columns the database fills',
    run: ({ manager, typed }) =>
      manager.insert(typed, { ...typedRow(), price: undefined, base: undefined, cost: undefined, address: undefined }),
    expects: [
      created('typed', {
        ...TYPED_DATA,
        price: '1.50',
        base: 1,
        doubled: 2,
        cost: null,
        address: { city: null, zip: null },
      }),
    ],
  },
  {
    name: 'update() of a column of every type',
    given: insertTyped,
    run: ({ manager, typed }) => manager.update(typed, { id: '9007199254740993' }, TYPED_CHANGE),
    expects: [
      updated(
        'typed',
        TYPED_CHANGED,
        typedPrevious({
          ...Object.fromEntries(
            Object.entries(TYPED_DATA).filter(([key]) => !['id', 'createdAt', 'updatedAt'].includes(key)),
          ),
        }),
      ),
    ],
  },
  {
    name: 'update() of a column from which another is generated',
    given: insertTyped,
    run: ({ manager, typed }) => manager.update(typed, { id: '9007199254740993' }, { base: 5 }),
    expects: [
      updated(
        'typed',
        { ...TYPED_DATA, base: 5, doubled: 10, version: 2 },
        typedPrevious({ base: 21, doubled: 42, version: 1 }),
      ),
    ],
  },
  {
    name: 'update() of one column of an embedded',
    given: insertTyped,
    run: ({ manager, typed }) => manager.update(typed, { id: '9007199254740993' }, { address: { zip: '3000' } }),
    expects: [
      updated(
        'typed',
        { ...TYPED_DATA, address: { city: 'Bern', zip: '3000' }, version: 2 },
        typedPrevious({ address: { zip: null }, version: 1 }),
      ),
    ],
  },
  {
    name: 'update() that changes the version and the update date only',
    given: insertTyped,
    run: ({ manager, typed }) => manager.update(typed, { id: '9007199254740993' }, { level: 'low' }),
    expects: [],
  },
  {
    name: 'delete() of a row with a column of every type',
    given: insertTyped,
    run: ({ manager, typed }) => manager.delete(typed, { id: '9007199254740993' }),
    expects: [deleted('typed', TYPED_DATA)],
  },
];
