import { Column, Entity, PrimaryColumn, type ColumnOptions } from 'typeorm';
import { Webhook, type Json } from 'nestjs-entity-webhooks';
import type { DatabaseFamily } from './every-kind.js';

/** A column of a type that only one family of databases has, with written values and their form in a payload. */
export interface OwnKind {
  readonly name: string;
  readonly column: ColumnOptions;
  /** The values of the insert and of the update. */
  readonly written: readonly [unknown, unknown];
  readonly shown: readonly [Json, Json];
}

const kind = (
  name: string,
  column: ColumnOptions,
  ...values: readonly (readonly [written: unknown, shown: Json])[]
): OwnKind => {
  const [first, second] = values as [[unknown, Json], [unknown, Json]];
  return { name, column, written: [first[0], second[0]], shown: [first[1], second[1]] };
};
/** A kind whose payload shows the written values unchanged. */
const same = (name: string, column: ColumnOptions, first: Json, second: Json): OwnKind =>
  kind(name, column, [first, first], [second, second]);

// TypeORM 0.3 writes no point and no circle that is an object: it is given their texts.
const isOnTypeorm03 = process.env['TYPEORM'] === '0.3';
const point = (x: number, y: number) => (isOnTypeorm03 ? `(${x},${y})` : { x, y });
const circle = (x: number, y: number, radius: number) => (isOnTypeorm03 ? `<(${x},${y}),${radius}>` : { x, y, radius });

const POSTGRES: readonly OwnKind[] = [
  kind(
    'interval',
    { type: 'interval' },
    ['1 year 2 mons 3 days 104:05:06.789123', 'P1Y2M3DT104H5M6.789123S'],
    ['-1 year +3 days -00:00:01.5', 'P-1Y3DT-1.5S'],
  ),
  kind('noInterval', { type: 'interval' }, ['0', 'PT0S'], ['13 months', 'P1Y1M']),
  kind(
    'intervals',
    { type: 'interval', array: true },
    [
      ['1 day', '-00:00:00.5'],
      ['P1D', 'PT-0.5S'],
    ],
    [[], []],
  ),
  kind('money', { type: 'money' }, ['1234.5', '1234.50'], ['-0.07', '-0.07']),
  kind(
    'moneys',
    { type: 'money', array: true },
    [
      ['1', '-2.5'],
      ['1.00', '-2.50'],
    ],
    [[], []],
  ),
  same('bits', { type: 'bit', length: 3 }, '101', '010'),
  same('varbits', { type: 'varbit' }, '1', '0101010101'),
  same('bitList', { type: 'bit', length: 2, array: true }, ['10', '01'], []),
  kind(
    'hstore',
    { type: 'hstore' },
    ['"b"=>"1", "a"=>NULL, "1"=>"2"', { 1: '2', a: null, b: '1' }],
    [String.raw`"q\"\\=>"=>"x, \"y\""`, { [String.raw`q"\=>`]: 'x, "y"' }],
  ),
  kind(
    'hstoreObject',
    { type: 'hstore', hstoreType: 'object' },
    [
      { b: '1', a: null },
      { a: null, b: '1' },
    ],
    [{}, {}],
  ),
  kind('hstores', { type: 'hstore', array: true }, [String.raw`{"\"a\"=>\"1\"",""}`, [{ a: '1' }, {}]], ['{}', []]),
  kind('timetz', { type: 'timetz' }, ['12:34:56.50+02', '12:34:56.5+02:00'], ['01:02+05:30', '01:02:00+05:30']),
  kind('timetzList', { type: 'timetz', array: true }, [['12:34:56-03'], ['12:34:56-03:00']], [[], []]),
  kind('point', { type: 'point' }, [point(1.5, -2), { x: 1.5, y: -2 }], [point(0.1, 1e300), { x: 0.1, y: 1e300 }]),
  kind(
    'points',
    { type: 'point', array: true },
    [
      '{"(1,2)","(0.5,0)"}',
      [
        { x: 1, y: 2 },
        { x: 0.5, y: 0 },
      ],
    ],
    ['{}', []],
  ),
  kind(
    'circle',
    { type: 'circle' },
    [circle(1, 2, 3.5), { x: 1, y: 2, radius: 3.5 }],
    [circle(0, 0, 0), { x: 0, y: 0, radius: 0 }],
  ),
  kind('circles', { type: 'circle', array: true }, ['{"<(1,2),3>"}', [{ x: 1, y: 2, radius: 3 }]], ['{}', []]),
  same('line', { type: 'line' }, '{1,2,3}', '{0.1,-1,0}'),
  same('lseg', { type: 'lseg' }, '[(0,0),(1,1)]', '[(0.1,0),(1,1)]'),
  same('box', { type: 'box' }, '(1,1),(0,0)', '(2,2),(0.5,0)'),
  kind(
    'boxes',
    { type: 'box', array: true },
    ['{(1,1),(0,0);(3,3),(2,2)}', ['(1,1),(0,0)', '(3,3),(2,2)']],
    ['{}', []],
  ),
  same('path', { type: 'path' }, '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))'),
  same('polygon', { type: 'polygon' }, '((0,0),(1,1),(2,0))', '((0,0),(0.1,1),(2,0))'),
  same('inet', { type: 'inet' }, '10.0.0.1', '2001:db8::1'),
  same('cidr', { type: 'cidr' }, '10.0.0.0/8', '192.168.0.0/16'),
  same('macaddr', { type: 'macaddr' }, '08:00:2b:01:02:03', '08:00:2b:01:02:04'),
  same('int4range', { type: 'int4range' }, '[1,5)', 'empty'),
  same('daterange', { type: 'daterange' }, '[2026-01-01,2026-02-01)', '(,2026-02-01)'),
  same('tsrange', { type: 'tsrange' }, '["2026-01-01 00:00:00","2026-02-01 12:00:00")', '[,)'.replace('[', '(')),
  kind(
    'tstzrange',
    { type: 'tstzrange' },
    ['[2026-01-01 00:00:00+02,2026-02-01 00:00:00.5+00)', '[2025-12-31T22:00:00.000Z,2026-02-01T00:00:00.500Z)'],
    ['[2026-01-01 00:00:00+00,)', '[2026-01-01T00:00:00.000Z,)'],
  ),
  kind(
    'decimals',
    { type: 'numeric', precision: 20, scale: 2, array: true },
    [
      ['1.1', '900719925474099311.25'],
      ['1.10', '900719925474099311.25'],
    ],
    [[], []],
  ),
  same('bigints', { type: 'bigint', array: true }, ['9007199254740993', '-1'], []),
  same('days', { type: 'date', array: true }, ['2024-02-29', '1999-12-31'], []),
  kind(
    'instants',
    { type: 'timestamptz', array: true },
    [['2026-01-01 00:00:00+02'], ['2025-12-31T22:00:00.000Z']],
    [[], []],
  ),
  same('texts', { type: 'text', array: true }, ['a,b', '{"x"}', 'NULL', ''], []),
  same('citexts', { type: 'citext', array: true }, ['a,b', String.raw`"\x`, ''], []),
  kind(
    'grid',
    { type: 'bigint', array: true },
    [
      [
        ['1', '2'],
        ['3', '9007199254740993'],
      ],
      [
        ['1', '2'],
        ['3', '9007199254740993'],
      ],
    ],
    [[['4']], [['4']]],
  ),
  same('enums', { type: 'enum', enum: ['low', 'so so'], array: true }, ['low', 'so so'], []),
  kind('bytes', { type: 'bytea', array: true }, [[Buffer.from([0, 255])], ['AP8=']], [[], []]),
  same('xml', { type: 'xml' }, '<a b="c"/>', '<d/>'),
  same('ltree', { type: 'ltree' }, 'a.b', 'a'),
  same('cube', { type: 'cube' }, [1, 2.5], [0, 0]),
];

const MYSQL: readonly OwnKind[] = [
  same('year', { type: 'year' }, 2026, 1999),
  same('set', { type: 'set', enum: ['a', 'b', 'c'] }, ['a', 'c'], []),
  kind('bit', { type: 'bit' }, [1, '1'], [0, '0']),
  same('point', { type: 'point' }, 'POINT(1.5 -2)', 'POINT(0.1 0)'),
  same('linestring', { type: 'linestring' }, 'LINESTRING(0 0,1 1)', 'LINESTRING(0 0,2 2)'),
  same('polygon', { type: 'polygon' }, 'POLYGON((0 0,0 1,1 1,0 0))', 'POLYGON((0 0,0 2,2 2,0 0))'),
  same('geometry', { type: 'geometry' }, 'POINT(1 1)', 'LINESTRING(0 0,1 1)'),
  kind('binary', { type: 'binary', length: 3 }, [Buffer.from('abc'), 'YWJj'], [Buffer.from([0, 255, 1]), 'AP8B']),
  same('unsigned', { type: 'bigint', unsigned: true }, '18446744073709551615', '0'),
  same('longTime', { type: 'time' }, '838:59:59', '-01:00:00'),
  same('tiny', { type: 'tinyint' }, -128, 127),
];

const SQLITE: readonly OwnKind[] = [
  kind('big', { type: 'unsigned big int' }, ['9007199254740993', '9007199254740993'], ['1', '1']),
  same('character', { type: 'native character', length: 3 }, 'abc', 'd'),
];

/** The kinds that only this family of databases has. */
export const OWN_KINDS: Readonly<Record<DatabaseFamily, readonly OwnKind[]>> = {
  postgres: POSTGRES,
  mysql: MYSQL,
  sqlite: SQLITE,
};

/** An entity with one column of each kind. */
export function ownEntity(family: DatabaseFamily) {
  @Webhook()
  @Entity('own_kind')
  class OwnKinds {
    [key: string]: unknown;

    @PrimaryColumn({ type: 'int' })
    id: number;
  }
  for (const { name, column } of OWN_KINDS[family]) Column({ ...column, nullable: true })(OwnKinds.prototype, name);
  return OwnKinds;
}
