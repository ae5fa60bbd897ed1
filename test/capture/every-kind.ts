import { Column, Entity, JoinColumn, ManyToOne, PrimaryColumn, PrimaryGeneratedColumn, VersionColumn } from 'typeorm';
import type { ColumnOptions, Relation } from 'typeorm';
import { Webhook, type Json } from 'nestjs-entity-webhooks';
import type { TestDatabase } from '../support/databases.js';

/** The type of a column: one for all databases, or one for each family. */
type ColumnType = ColumnOptions | { sqlite: ColumnOptions; postgres: ColumnOptions; mysql: ColumnOptions };

/** A column with written values and their exact form in the payload, which is the same on every database. */
export interface Kind {
  name: string;
  column: ColumnType;
  /** The values of the insert and of the update. `shown` is their form in the payload. */
  written: readonly [unknown, unknown];
  shown: readonly [Json, Json];
}

const cents = {
  to: (value: { cents: number } | null) => value?.cents ?? null,
  from: (value: number | null) => (value === null ? null : { cents: value }),
};
class Money {
  constructor(
    readonly amount: number,
    readonly currency: string,
  ) {}
  toJSON() {
    return `${this.amount} ${this.currency}`;
  }
}
const money = {
  to: (value: Money | null) => (value ? value.amount : null),
  from: (value: number | null) => (value === null ? null : new Money(value, 'EUR')),
};
const epoch = {
  to: (value: Date | null) => value?.getTime() ?? null,
  from: (value: string | number | null) => (value === null ? null : new Date(Number(value))),
};
const bigints = {
  to: (value: bigint | null) => value?.toString() ?? null,
  from: (value: string | number | null) => (value === null ? null : BigInt(value)),
};
const set = {
  to: (value: Set<string> | null) => (value ? [...value].join(' ') : null),
  from: (value: string | null) => (value === null ? null : new Set(value.split(' '))),
};

const instant = (precision: number): ColumnType => ({
  sqlite: { type: 'datetime' },
  postgres: { type: 'timestamptz', precision },
  mysql: { type: 'datetime', precision },
});
const decimal = (precision: number, scale: number): ColumnOptions => ({ type: 'decimal', precision, scale });

export const KINDS: readonly Kind[] = [
  { name: 'int', column: { type: 'int' }, written: [42, -7], shown: [42, -7] },
  { name: 'zero', column: { type: 'int' }, written: [0, 1], shown: [0, 1] },
  { name: 'small', column: { type: 'smallint' }, written: [32767, -32768], shown: [32767, -32768] },
  {
    name: 'bigint',
    column: { type: 'bigint' },
    written: ['9007199254740993', '-9223372036854775808'],
    shown: ['9007199254740993', '-9223372036854775808'],
  },
  { name: 'smallBigint', column: { type: 'bigint' }, written: ['7', 8], shown: ['7', '8'] },
  { name: 'price', column: decimal(10, 2), written: ['10.50', '-0.50'], shown: ['10.50', '-0.50'] },
  { name: 'whole', column: decimal(10, 2), written: ['1000000', '0'], shown: ['1000000.00', '0.00'] },
  {
    name: 'tiny',
    column: decimal(20, 10),
    written: ['0.0000001', '-0.0000000001'],
    shown: ['0.0000001000', '-0.0000000001'],
  },
  { name: 'rounded', column: decimal(10, 2), written: [0.1 + 0.2, '-0.001'], shown: ['0.30', '0.00'] },
  {
    name: 'longDecimal',
    column: decimal(18, 0),
    written: ['900719925474099311', '123'],
    shown: ['900719925474099311', '123'],
  },
  { name: 'float', column: { type: 'float' }, written: [1.25, -0.5], shown: [1.25, -0.5] },
  {
    name: 'double',
    column: { sqlite: { type: 'double' }, postgres: { type: 'double precision' }, mysql: { type: 'double' } },
    written: [0.1, 1.5e300],
    shown: [0.1, 1.5e300],
  },
  { name: 'boolean', column: { type: 'boolean' }, written: [true, false], shown: [true, false] },
  { name: 'varchar', column: { type: 'varchar', length: 50 }, written: ['Grüße 🦜', ''], shown: ['Grüße 🦜', ''] },
  {
    name: 'text',
    column: { type: 'text' },
    written: ['a "quoted"\r\n\tline\\ \u2028', 'x'.repeat(300)],
    shown: ['a "quoted"\r\n\tline\\ \u2028', 'x'.repeat(300)],
  },
  {
    name: 'date',
    column: { type: 'date' },
    written: ['2024-02-29', '1999-12-31'],
    shown: ['2024-02-29', '1999-12-31'],
  },
  {
    name: 'instant',
    column: instant(3),
    written: [new Date('2026-02-03T04:05:06.789Z'), new Date('2026-07-03T00:00:00Z')],
    shown: ['2026-02-03T04:05:06.789Z', '2026-07-03T00:00:00.000Z'],
  },
  {
    name: 'localInstant',
    column: {
      sqlite: { type: 'datetime' },
      postgres: { type: 'timestamp', precision: 3 },
      mysql: { type: 'timestamp', precision: 3 },
    },
    written: [new Date('2026-02-03T04:05:06.007Z'), new Date('2001-01-01T23:59:59.999Z')],
    shown: ['2026-02-03T04:05:06.007Z', '2001-01-01T23:59:59.999Z'],
  },
  { name: 'time', column: { type: 'time' }, written: ['12:34:56', '00:00:00'], shown: ['12:34:56', '00:00:00'] },
  { name: 'shortTime', column: { type: 'time' }, written: ['12:34', '23:59'], shown: ['12:34:00', '23:59:00'] },
  {
    name: 'fineTime',
    column: {
      sqlite: { type: 'time' },
      postgres: { type: 'time', precision: 3 },
      mysql: { type: 'time', precision: 3 },
    },
    written: ['12:34:56.500', '01:02:03'],
    shown: ['12:34:56.5', '01:02:03'],
  },
  {
    name: 'simpleJson',
    column: { type: 'simple-json' },
    written: [{ b: [1, null, { c: '🦜' }], a: true }, 'text'],
    shown: [{ b: [1, null, { c: '🦜' }], a: true }, 'text'],
  },
  {
    name: 'json',
    column: { type: 'json' },
    written: [{ long: 1, b: { z: null, y: [2, 1] }, a: 'x' }, [1, { b: 1, a: 2 }]],
    shown: [{ a: 'x', b: { y: [2, 1], z: null }, long: 1 }, [1, { a: 2, b: 1 }]],
  },
  {
    name: 'jsonb',
    column: { sqlite: { type: 'json' }, postgres: { type: 'jsonb' }, mysql: { type: 'json' } },
    written: [{ long: 1, b: { z: null, y: [2, 1] }, a: 1.5 }, {}],
    shown: [{ a: 1.5, b: { y: [2, 1], z: null }, long: 1 }, {}],
  },
  { name: 'list', column: { type: 'simple-array' }, written: [['x', 'y'], []], shown: [['x', 'y'], []] },
  {
    name: 'level',
    column: {
      sqlite: { type: 'simple-enum', enum: ['low', 'high'] },
      postgres: { type: 'enum', enum: ['low', 'high'] },
      mysql: { type: 'enum', enum: ['low', 'high'] },
    },
    written: ['low', 'high'],
    shown: ['low', 'high'],
  },
  {
    name: 'simpleLevel',
    column: { type: 'simple-enum', enum: ['low', 'high'] },
    written: ['low', 'high'],
    shown: ['low', 'high'],
  },
  {
    name: 'uuid',
    column: {
      sqlite: { type: 'varchar', length: 36 },
      postgres: { type: 'uuid' },
      mysql: { type: 'varchar', length: 36 },
    },
    written: ['0190163d-8694-739b-aea5-966c26f8ad91', '0190163d-8694-739b-aea5-966c26f8ad92'],
    shown: ['0190163d-8694-739b-aea5-966c26f8ad91', '0190163d-8694-739b-aea5-966c26f8ad92'],
  },
  {
    name: 'bytes',
    column: { sqlite: { type: 'blob' }, postgres: { type: 'bytea' }, mysql: { type: 'blob' } },
    written: [Buffer.from([0, 255, 1]), Buffer.alloc(0)],
    shown: ['AP8B', ''],
  },
  {
    name: 'cents',
    column: { type: 'int', transformer: cents },
    written: [{ cents: 250 }, { cents: 1 }],
    shown: [{ cents: 250 }, { cents: 1 }],
  },
  {
    name: 'money',
    column: { type: 'int', transformer: money },
    written: [new Money(5, 'EUR'), new Money(6, 'EUR')],
    shown: ['5 EUR', '6 EUR'],
  },
  {
    name: 'epoch',
    column: { type: 'bigint', transformer: epoch },
    written: [new Date('2026-02-03T04:05:06.789Z'), new Date(0)],
    shown: ['2026-02-03T04:05:06.789Z', '1970-01-01T00:00:00.000Z'],
  },
  {
    name: 'exactBigint',
    column: { type: 'bigint', transformer: bigints },
    written: [9007199254740993n, -1n],
    shown: ['9007199254740993', '-1'],
  },
  {
    name: 'tags',
    column: { type: 'varchar', transformer: set },
    written: [new Set(['a', 'b']), new Set(['c'])],
    shown: [['a', 'b'], ['c']],
  },
];

export type DatabaseFamily = 'sqlite' | 'postgres' | 'mysql';

export function familyOf({ name }: Pick<TestDatabase, 'name'>): DatabaseFamily {
  return name === 'mariadb' || name === 'mysql2' ? 'mysql' : name;
}

function columnOf(type: ColumnType, family: DatabaseFamily): ColumnOptions {
  return 'sqlite' in type ? type[family] : (type as ColumnOptions);
}

/** The entities of these tests, with the column types of a database. */
export function entitiesFor(family: DatabaseFamily) {
  @Webhook()
  @Entity('kind_owner')
  class KindOwner {
    @PrimaryColumn({ type: 'bigint' })
    id: string;
  }

  class Address {
    @Column({ type: 'varchar', length: 20, nullable: true })
    city: string | null;

    @Column({ type: 'decimal', precision: 10, scale: 2, nullable: true })
    fee: string | null;
  }

  @Webhook()
  @Entity('every_kind')
  class EveryKind {
    [key: string]: unknown;

    @PrimaryGeneratedColumn('uuid')
    id: string;

    @Column(() => Address)
    address: Address | null;

    @Column(() => Address)
    second: Address | null;

    @ManyToOne(() => KindOwner)
    @JoinColumn()
    parent: Relation<KindOwner> | null;

    @ManyToOne(() => KindOwner)
    lazy: Promise<KindOwner | null>;

    @VersionColumn()
    version: number;
  }
  for (const { name, column } of KINDS) {
    Column({ ...columnOf(column, family), nullable: true })(EveryKind.prototype, name);
  }
  return { EveryKind, KindOwner };
}
