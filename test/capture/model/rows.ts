import type { TestDatabase } from '../../support/databases.js';
import type { CaptureModeName } from '../operations/index.js';
import type { EntityName } from './entities.js';
import type { Values } from './program.js';
import type { Random } from './random.js';

/** The values that a program may write to an entity. Keys and values are few, so that writers work on the same rows. */
export interface RowSource {
  /** A whole row, with its key if the writer gives it. */
  row(random: Random): Values;
  /** Some columns of an existing row. */
  patch(random: Random): Values;
  /** The criteria that select rows. */
  where(random: Random): Values;
  /** The key properties, if the writer gives the key. */
  readonly key: readonly string[];
  /** The number property for increment(). */
  readonly counter?: string;
  readonly canSoftDelete?: true;
  /** The columns by which an upsert may conflict: keys and unique columns. */
  readonly targets: readonly (readonly string[])[];
}

const NAMES = ['ann', 'bob', 'cid', 'dot'];
/** The names of rows that select an action of the application hooks: see `model-hooks.ts`. */
export const HOOK_NAMES = ['boom', 'bang', 'echo'];
const PRICES = ['1.5', '1.50', '2.00', '2', '0.10'];
/** Two texts that are equal for a collation that ignores case. */
const CODES = [null, 'x', 'X', 'y', 'z'];
const TICKETS = ['t1', 'T1', 't2', 't3'];

const id = (random: Random) => random.int(1, 4);
const name = (random: Random) => random.pick(random.chance(0.06) ? HOOK_NAMES : NAMES);
const amount = (random: Random) => random.int(0, 5);

type Maker = (random: Random) => unknown;

/** A random selection of at least one property. */
function some(random: Random, makers: Readonly<Record<string, Maker>>): Values {
  const entries = Object.entries(makers);
  const chosen = entries.filter(() => random.chance(0.5));
  const picked = chosen.length ? chosen : [random.pick(entries)];
  return Object.fromEntries(picked.map(([key, make]) => [key, make(random)]));
}

function all(random: Random, makers: Readonly<Record<string, Maker>>): Values {
  return Object.fromEntries(Object.entries(makers).map(([key, make]) => [key, make(random)]));
}

function source(
  keys: Readonly<Record<string, Maker>>,
  columns: Readonly<Record<string, Maker>>,
  more: Pick<RowSource, 'targets'> & Partial<RowSource> & { readonly required?: readonly string[] },
): RowSource {
  const { required = [], ...rest } = more;
  const must = Object.fromEntries(required.map((key) => [key, columns[key] as Maker]));
  return {
    row: (random) => ({ ...all(random, keys), ...some(random, columns), ...all(random, must) }),
    patch: (random) => some(random, columns),
    where: (random) => (Object.keys(keys).length && random.chance(0.7) ? all(random, keys) : { name: name(random) }),
    key: Object.keys(keys),
    ...rest,
  };
}

const reference = (random: Random) => (random.chance(0.3) ? null : { id: random.int(1, 3) });

/** How the rows of each entity are generated. */
export const ROW_SOURCES: Readonly<Record<EntityName, RowSource>> = {
  Item: source(
    { id },
    {
      name,
      amount,
      price: (random) => random.pick(PRICES),
      code: (random) => random.pick(CODES),
      customer: (random) => random.pick(['acme', 'acme', 'globex']),
      secret: (random) => random.pick(['s1', 's2']),
    },
    { counter: 'amount', canSoftDelete: true, targets: [['id'], ['code']] },
  ),
  Numbered: source({}, { name, amount }, { counter: 'amount', targets: [], required: ['name'] }),
  Ticket: source(
    {},
    { title: name, amount, code: (random) => random.pick(TICKETS) },
    {
      counter: 'amount',
      targets: [['code']],
      required: ['title', 'code'],
      where: (random) => ({ code: random.pick(TICKETS) }),
    },
  ),
  Booking: source(
    { room: (random) => random.pick(['red', 'blue']), day: (random) => random.int(1, 2) },
    { amount },
    {
      counter: 'amount',
      targets: [['room', 'day']],
      where: (random) => ({ room: random.pick(['red', 'blue']), day: random.int(1, 2) }),
    },
  ),
  Cart: source(
    { id: (random) => random.int(1, 3) },
    {
      name,
      lines: (random) =>
        random.list(0, 2, () => ({
          id: id(random),
          ...(random.chance(0.5) ? { name: name(random) } : {}),
          ...(random.chance(0.3) ? { code: random.pick(CODES) } : {}),
        })),
      slip: (random) =>
        random.chance(0.3) ? null : { id: random.int(1, 3), ...(random.chance(0.4) ? { name: name(random) } : {}) },
    },
    { targets: [] },
  ),
  Line: source(
    { id },
    { name, code: (random) => random.pick(CODES), cart: reference },
    { targets: [['id'], ['code']] },
  ),
  Slip: source({ id: (random) => random.int(1, 3) }, { name, cart: reference }, { targets: [['id']] }),
  Vault: source(
    { id },
    { name, iban: (random) => random.pick(['de1', 'de2']) },
    { targets: [['id']], required: ['iban'] },
  ),
  Invoice: source(
    { id },
    { name, buyer: (random) => (random.chance(0.2) ? null : { tenant: 1, id: random.int(1, 2) }) },
    { targets: [['id']] },
  ),
  Node: source(
    { id },
    {
      name,
      parent: (random) => (random.chance(0.3) ? null : { id: id(random) }),
      children: (random) =>
        random.list(0, 2, () => ({ id: id(random), ...(random.chance(0.5) ? { name: name(random) } : {}) })),
    },
    { targets: [['id']] },
  ),
  Animal: source({ id }, { name }, { targets: [['id']] }),
  Dog: source({ id }, { name, trick: (random) => random.pick([null, 'sit', 'roll']) }, { targets: [['id']] }),
  Setting: source({}, { name, amount }, { counter: 'amount', canSoftDelete: true, targets: [], required: ['name'] }),
};

/** Relations that a relation builder can change, from both sides. */
export const RELATIONS: readonly {
  readonly entity: EntityName;
  readonly relation: string;
  readonly isMany: boolean;
}[] = [
  { entity: 'Cart', relation: 'lines', isMany: true },
  { entity: 'Line', relation: 'cart', isMany: false },
  { entity: 'Slip', relation: 'cart', isMany: false },
  { entity: 'Cart', relation: 'slip', isMany: false },
  { entity: 'Node', relation: 'parent', isMany: false },
  { entity: 'Node', relation: 'children', isMany: true },
];

/** Raw statements of the writer, which only triggers capture. */
export const STATEMENTS: readonly ((random: Random) => string)[] = [
  (random) => `UPDATE model_item SET amount = amount + ${random.int(0, 1)} WHERE id = ${id(random)}`,
  (random) => `UPDATE model_item SET id = id + 10 WHERE id = ${id(random)}`,
  () => `UPDATE model_item SET customer = 'raw', price = price * 2`,
  (random) => `INSERT INTO model_booking (room, day, amount) VALUES ('red', ${random.int(1, 2)}, 3)`,
  (random) => `DELETE FROM model_line WHERE id = ${id(random)}`,
  () => `UPDATE model_numbered SET name = 'raw'`,
];

/** The features of programs that only some databases support. */
export interface Abilities {
  readonly levels: readonly ('READ UNCOMMITTED' | 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE')[];
  readonly hasPartialIndexes: boolean;
  readonly hasSkipUnchanged: boolean;
  /** `clear()` makes events, and no foreign key prevents it. */
  readonly canClear: boolean;
  readonly hasAutocommit: boolean;
  /** Several statements in one text. */
  readonly hasScripts: boolean;
  /** Another writer can write while a transaction is open. */
  readonly hasRowLocks: boolean;
  /** Whether writes without TypeORM are captured, too. */
  readonly capturesSql: boolean;
}

export function abilitiesOf(database: TestDatabase['name'], mode: CaptureModeName): Abilities {
  const isServer = database !== 'sqlite';
  return {
    levels: isServer
      ? ['READ UNCOMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE']
      : ['READ UNCOMMITTED', 'SERIALIZABLE'],
    hasPartialIndexes: database === 'sqlite' || database === 'postgres',
    hasSkipUnchanged: database === 'postgres',
    canClear: database === 'sqlite' || database === 'postgres',
    hasAutocommit: database === 'mariadb' || database === 'mysql2',
    hasScripts: database === 'postgres',
    hasRowLocks: isServer,
    capturesSql: mode === 'trigger',
  };
}
