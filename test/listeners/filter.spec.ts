// Misspelt on purpose. cspell:ignore usrname ctiy
import vm from 'node:vm';
import { describe, expect, expectTypeOf, it } from 'vitest';
import type { WhereConditions } from 'nestjs-entity-webhooks';
import { BadRequestError } from '../../libs/webhooks/src/errors.js';
import type { JsonObject } from '../../libs/webhooks/src/json.js';
import { compileFilter, MAX_VALUE_BYTES } from '../../libs/webhooks/src/routing/compile-filter.js';
import type { FieldInfo, Filter } from '../../libs/webhooks/src/routing/filter.js';
import { matchesFilter } from '../../libs/webhooks/src/routing/match-filter.js';
import { OPERATORS, type Operator } from '../../libs/webhooks/src/routing/operators.js';

const SCALAR: FieldInfo = { numeric: false, routable: true };
const NUMBER: FieldInfo = { numeric: true, routable: true };
const JSON_COLUMN: FieldInfo = { numeric: false, routable: false };

const FIELDS: Readonly<Record<string, FieldInfo>> = {
  username: SCALAR,
  status: SCALAR,
  active: SCALAR,
  createdAt: SCALAR,
  total: NUMBER,
  'address.city': SCALAR,
  'address.zip': SCALAR,
  'address.tags': { ...JSON_COLUMN, column: 'address.tags' },
  'door.exists': SCALAR,
  meta: JSON_COLUMN,
};

/** A careless lookup that does not check own properties. A filter must be safe with it. */
function fieldOf(path: string): FieldInfo | undefined {
  return FIELDS[path] ?? (path.startsWith('meta.') ? JSON_COLUMN : undefined);
}

const compile = (where: unknown) => compileFilter(where, { find: fieldOf, names: () => Object.keys(FIELDS) });

function matches(where: unknown, data: JsonObject, previous?: JsonObject, dropped?: string[]): boolean {
  const filter = compile(where);
  const event = { data, previous, dropped: dropped && new Set(dropped) };
  const answer = matchesFilter(filter, event);
  // A stored filter must give the same result.
  expect(matchesFilter(JSON.parse(JSON.stringify(filter)) as Filter, event)).toBe(answer);
  expect(JSON.parse(JSON.stringify(filter))).toEqual(filter);
  return answer;
}

function errorOf(where: unknown): BadRequestError {
  try {
    compile(where);
  } catch (error) {
    if (error instanceof BadRequestError) return error;
    throw error;
  }
  throw new Error('the filter was accepted');
}

describe('a filter with a value', () => {
  it('matches this value and no other', () => {
    expect(matches({ username: 'john' }, { username: 'john' })).toBe(true);
    expect(matches({ username: 'john' }, { username: 'jane' })).toBe(false);
    expect(matches({ username: 'john' }, {})).toBe(false);
  });

  it.each(['John', 'jóhn', 'john ', ' john', 'joh\u006e\u0301', 'john\0'])('distinguishes "john" from %j', (other) => {
    expect(matches({ username: 'john' }, { username: other })).toBe(false);
    expect(matches({ username: { ne: 'john' } }, { username: other })).toBe(true);
  });

  it.each([
    ['1', 1],
    ['true', true],
    ['null', null],
    ['', null],
    [0, false],
    [0, null],
    [false, null],
  ])('distinguishes %j from %j', (a, b) => {
    expect(matches({ username: a }, { username: b })).toBe(false);
    expect(matches({ username: b }, { username: a })).toBe(false);
    expect(matches({ username: { in: [a] } }, { username: b })).toBe(false);
    expect(matches({ username: { in: [b] } }, { username: a })).toBe(false);
    expect(matches({ username: a }, { username: a })).toBe(true);
    expect(matches({ username: b }, { username: b })).toBe(true);
  });

  it('with null matches a missing property, too', () => {
    expect(matches({ username: null }, { username: null })).toBe(true);
    expect(matches({ username: null }, {})).toBe(true);
    expect(matches({ username: { ne: null } }, {})).toBe(false);
    expect(matches({ username: { ne: 'john' } }, {})).toBe(true);
    expect(matches({ username: { in: ['john', null] } }, {})).toBe(true);
  });

  it('compares a number by value, whatever its JSON form is', () => {
    for (const value of [10, '10', '10.00', '1e1', 10n]) {
      for (const data of [10, '10', '10.00', '1e1']) expect(matches({ total: value }, { total: data })).toBe(true);
      expect(matches({ total: value }, { total: '10.01' })).toBe(false);
      expect(matches({ total: { in: [3, value] } }, { total: '10.0' })).toBe(true);
    }
    expect(matches({ total: 0 }, { total: '-0.00' })).toBe(true);
    expect(matches({ total: -0 }, { total: 0 })).toBe(true);
    expect(matches({ total: '9007199254740993' }, { total: '9007199254740992' })).toBe(false);
    expect(matches({ total: 9007199254740993n }, { total: '9007199254740993' })).toBe(true);
    expect(matches({ total: 0 }, { total: null })).toBe(false);
    expect(matches({ total: 0 }, { total: 'NaN' })).toBe(false);
    expect(matches({ total: 1 }, { total: true })).toBe(false);
    expect(matches({ total: null }, { total: 'NaN' })).toBe(false);
  });

  it('never equals a list or an object', () => {
    expect(matches({ 'meta.a': 'x' }, { meta: { a: ['x'] } })).toBe(false);
    expect(matches({ 'meta.a': null }, { meta: { a: {} } })).toBe(false);
    expect(matches({ 'meta.a': null }, { meta: { a: [] } })).toBe(false);
    expect(matches({ 'meta.a': { ne: 'x' } }, { meta: { a: ['x'] } })).toBe(true);
    expect(matches({ total: 10 }, { total: [10] })).toBe(false);
  });

  it('uses the ISO text of a date', () => {
    const date = new Date('2024-05-01T10:00:00.000Z');
    expect(matches({ createdAt: date }, { createdAt: '2024-05-01T10:00:00.000Z' })).toBe(true);
    expect(matches({ createdAt: { gt: date } }, { createdAt: '2024-05-01T10:00:00.001Z' })).toBe(true);
  });
});

describe('a filter on a nested property', () => {
  it('may be written with dots or as objects', () => {
    expect(compile({ 'address.city': 'X' })).toEqual(compile({ address: { city: 'X' } }));
    expect(compile({ 'address.city': { in: ['X'] } })).toEqual(compile({ address: { city: { in: ['X'] } } }));
    expect(compile({ 'meta.a.b': 1 })).toEqual(compile({ meta: { 'a.b': 1 } }));
    expect(matches({ address: { city: 'X', zip: '1' } }, { address: { city: 'X', zip: '1' } })).toBe(true);
    expect(matches({ address: { city: 'X', zip: '1' } }, { address: { city: 'X', zip: '2' } })).toBe(false);
  });

  it('finds null below null, below a scalar and below a list', () => {
    for (const meta of [null, 'text', 5, [{ a: 1 }]]) {
      expect(matches({ 'meta.a': null }, { meta })).toBe(true);
      expect(matches({ 'meta.length': { exists: true } }, { meta })).toBe(false);
      expect(matches({ 'meta.0': { exists: true } }, { meta })).toBe(false);
    }
  });

  it('reaches a property with the name of an operator if it is written with dots', () => {
    expect(matches({ 'door.exists': 'yes' }, { door: { exists: 'yes' } })).toBe(true);
  });

  it('sees only own properties of the payload', () => {
    expect(matches({ 'meta.toString': { exists: true } }, { meta: {} })).toBe(false);
    expect(matches({ 'meta.toString': 'x' }, { meta: { toString: 'x' } })).toBe(true);
  });
});

describe('a filter with operators', () => {
  it('has a type with every operator', () => {
    expectTypeOf<keyof WhereConditions>().toEqualTypeOf<Operator>();
  });

  it('combines several operators and several properties with "and"', () => {
    const where = { total: { gt: 5, lte: 10 }, status: 'open' };
    expect(matches(where, { total: '10.00', status: 'open' })).toBe(true);
    expect(matches(where, { total: 5, status: 'open' })).toBe(false);
    expect(matches(where, { total: '10.001', status: 'open' })).toBe(false);
    expect(matches(where, { total: 7, status: 'paid' })).toBe(false);
  });

  it('is no condition if it is empty', () => {
    expect(compile({})).toEqual([]);
    expect(matches({}, {})).toBe(true);
  });

  it('orders numbers exactly', () => {
    expect(matches({ total: { gt: '9007199254740992' } }, { total: '9007199254740993' })).toBe(true);
    expect(matches({ total: { gt: 9 } }, { total: '10' })).toBe(true);
    expect(matches({ total: { lt: 1e21 } }, { total: '999999999999999999999' })).toBe(true);
    expect(matches({ total: { gte: 1e-7 } }, { total: '0.0000001' })).toBe(true);
    expect(matches({ total: { lt: -1 } }, { total: '-1.5' })).toBe(true);
  });

  it('orders texts by code point', () => {
    expect(matches({ status: { gt: 'a' } }, { status: 'b' })).toBe(true);
    expect(matches({ status: { gt: 'a' } }, { status: 'a' })).toBe(false);
    expect(matches({ status: { gte: 'a' } }, { status: 'a' })).toBe(true);
    expect(matches({ status: { gt: 'a' } }, { status: 'aa' })).toBe(true);
    expect(matches({ status: { lt: 'a' } }, { status: 'B' })).toBe(true);
    // U+1F600 is above U+FB01, although its first UTF-16 unit is below.
    expect(matches({ status: { gt: '\uFB01' } }, { status: '\u{1F600}' })).toBe(true);
    expect(matches({ status: { lt: '\u{1F600}' } }, { status: '\uFB01' })).toBe(true);
    expect(matches({ status: { lt: '\u{1F601}' } }, { status: '\u{1F600}' })).toBe(true);
  });

  it('orders plain numbers of a JSON column', () => {
    expect(matches({ 'meta.n': { gt: 9 } }, { meta: { n: 10 } })).toBe(true);
    expect(matches({ 'meta.n': { lte: 9 } }, { meta: { n: 10 } })).toBe(false);
  });

  it.each(['gt', 'gte', 'lt', 'lte'])('never matches null or another type with %s', (operator) => {
    expect(matches({ total: { [operator]: 0 } }, { total: null })).toBe(false);
    expect(matches({ total: { [operator]: 0 } }, {})).toBe(false);
    expect(matches({ total: { [operator]: 0 } }, { total: false })).toBe(false);
    expect(matches({ 'meta.n': { [operator]: 5 } }, { meta: { n: '5' } })).toBe(false);
    expect(matches({ 'meta.n': { [operator]: '5' } }, { meta: { n: 5 } })).toBe(false);
    expect(matches({ 'meta.n': { [operator]: '' } }, { meta: { n: null } })).toBe(false);
    expect(matches({ 'meta.n': { [operator]: '' } }, { meta: { n: [] } })).toBe(false);
  });

  it('treats "exists" as present and not null', () => {
    expect(matches({ status: { exists: true } }, { status: '' })).toBe(true);
    expect(matches({ status: { exists: true } }, { status: null })).toBe(false);
    expect(matches({ status: { exists: true } }, {})).toBe(false);
    expect(matches({ status: { exists: false } }, {})).toBe(true);
    expect(matches({ meta: { exists: true } }, { meta: {} })).toBe(true);
  });

  it('matches any of the values of "in"', () => {
    expect(matches({ status: { in: ['open', 'paid'] } }, { status: 'paid' })).toBe(true);
    expect(matches({ status: { in: ['open', 'paid'] } }, { status: 'PAID' })).toBe(false);
    expect(matches({ active: { in: [true] } }, { active: true })).toBe(true);
    expect(matches({ active: { in: [true] } }, {})).toBe(false);
    expect(matches({ total: { in: [1, 2] } }, { total: ['1'] })).toBe(false);
  });
});

describe('a filter on what changed', () => {
  const paid = { status: 'paid', total: '10.00' };

  it('sees the old and the new value', () => {
    const previous = { status: 'open' };
    expect(matches({ status: { changed: true } }, paid, previous)).toBe(true);
    expect(matches({ status: { changed: false } }, paid, previous)).toBe(false);
    expect(matches({ status: { changedFrom: 'open' } }, paid, previous)).toBe(true);
    expect(matches({ status: { changedFrom: 'paid' } }, paid, previous)).toBe(false);
    expect(matches({ status: { changedTo: 'paid' } }, paid, previous)).toBe(true);
    expect(matches({ status: { changedTo: 'open' } }, paid, previous)).toBe(false);
    expect(matches({ status: { changedFrom: 'open', changedTo: 'paid' } }, paid, previous)).toBe(true);
  });

  it('treats a property as unchanged if previous does not contain it', () => {
    const previous = { total: '9.00' };
    expect(matches({ status: { changed: true } }, paid, previous)).toBe(false);
    expect(matches({ status: { changed: false } }, paid, previous)).toBe(true);
    expect(matches({ status: { changedTo: 'paid' } }, paid, previous)).toBe(false);
    expect(matches({ status: { changedFrom: null } }, paid, previous)).toBe(false);
  });

  it('treats every property as unchanged if the event is not an update', () => {
    expect(matches({ status: { changed: true } }, paid)).toBe(false);
    expect(matches({ status: { changed: false } }, paid)).toBe(true);
    expect(matches({ status: { changedTo: 'paid' } }, paid)).toBe(false);
  });

  it('knows changes from and to null', () => {
    expect(matches({ status: { changedFrom: null } }, { status: 'open' }, { status: null })).toBe(true);
    expect(matches({ status: { changedTo: null } }, { status: null }, { status: 'open' })).toBe(true);
    expect(matches({ status: { changedFrom: '' } }, { status: 'open' }, { status: null })).toBe(false);
  });

  it('compares numbers by value', () => {
    expect(matches({ total: { changedTo: 10 } }, paid, { total: '9.00' })).toBe(true);
    expect(matches({ total: { changedFrom: 9 } }, paid, { total: '9.00' })).toBe(true);
    expect(matches({ total: { changed: true } }, paid, { total: '10.0' })).toBe(false);
  });

  it('follows an embedded entity property by property', () => {
    const data = { address: { city: 'B', zip: '1', tags: ['x'] } };
    const previous = { address: { city: 'A' } };
    expect(matches({ 'address.city': { changed: true } }, data, previous)).toBe(true);
    expect(matches({ 'address.zip': { changed: true } }, data, previous)).toBe(false);
    expect(matches({ 'address.tags': { changed: true } }, data, previous)).toBe(false);
    expect(matches({ 'address.city': { changedFrom: 'A' } }, data, previous)).toBe(true);
    expect(matches({ 'address.zip': { changedFrom: null } }, data, { address: null })).toBe(true);
    expect(matches({ 'address.zip': { changedTo: null } }, { address: null }, { address: { zip: '1' } })).toBe(true);
  });

  it('compares inside a JSON column, whose old value is complete', () => {
    const previous = { meta: { a: 1, list: [1, { x: 1, y: 2 }], gone: 'g' } };
    const data = { meta: { a: 2, list: [1, { y: 2, x: 1 }], fresh: 'f' } };
    expect(matches({ meta: { changed: true } }, data, previous)).toBe(true);
    expect(matches({ 'meta.a': { changed: true } }, data, previous)).toBe(true);
    expect(matches({ 'meta.a': { changedFrom: 1, changedTo: 2 } }, data, previous)).toBe(true);
    expect(matches({ 'meta.list': { changed: true } }, data, previous)).toBe(false);
    expect(matches({ 'meta.gone': { changedTo: null } }, data, previous)).toBe(true);
    expect(matches({ 'meta.fresh': { changedFrom: null } }, data, previous)).toBe(true);
    expect(matches({ 'meta.never': { changed: true } }, data, previous)).toBe(false);
    expect(matches({ 'meta.a': { changed: true } }, data, { status: 'open' })).toBe(false);
    expect(matches({ 'meta.a': { changedFrom: null } }, data, { meta: null })).toBe(true);
    expect(matches({ 'meta.list': { changed: true } }, { meta: { list: [1] } }, { meta: { list: [1, 2] } })).toBe(true);
    expect(matches({ 'meta.list': { changed: true } }, { meta: { list: {} } }, { meta: { list: [] } })).toBe(true);
    const [less, more] = [{ meta: { inner: { a: 1 } } }, { meta: { inner: { a: 1, b: 2 } } }];
    expect(matches({ 'meta.inner': { changed: true } }, less, more)).toBe(true);
    expect(matches({ 'meta.inner': { changed: true } }, more, less)).toBe(true);
    expect(matches({ 'meta.inner': { changed: true } }, more, more)).toBe(false);
  });

  it('survives a JSON column nested deeper than the stack', () => {
    const deep = (leaf: number): JsonObject => {
      let value: JsonObject = { leaf };
      for (let i = 0; i < 100_000; i++) value = { a: value };
      return value;
    };
    const filter = compile({ meta: { changed: true } });
    expect(matchesFilter(filter, { data: { meta: deep(1) }, previous: { meta: deep(2) } })).toBe(true);
  });
});

describe('a filter on a property that was dropped for size', () => {
  it('matches, whatever the condition is', () => {
    for (const condition of ['x', null, { ne: 'x' }, { gt: 'x' }, { in: ['x'] }, { exists: true }, { exists: false }]) {
      expect(matches({ status: condition }, {}, undefined, ['status'])).toBe(true);
    }
    for (const condition of [{ changed: true }, { changed: false }, { changedFrom: 'x' }, { changedTo: 'x' }]) {
      expect(matches({ status: condition }, {}, undefined, ['status'])).toBe(true);
    }
  });

  it('matches on a path inside or around the dropped property', () => {
    expect(matches({ 'meta.a': 'x' }, {}, undefined, ['meta'])).toBe(true);
    expect(matches({ meta: { changed: true } }, {}, {}, ['meta.a'])).toBe(true);
    expect(matches({ 'meta.ab': 'x' }, {}, undefined, ['meta.a'])).toBe(false);
  });

  it('still checks the other conditions', () => {
    expect(matches({ status: 'x', username: 'john' }, { username: 'jane' }, undefined, ['status'])).toBe(false);
  });
});

describe('an invalid filter', () => {
  class Custom {
    a = 1;
  }

  it.each([
    ['undefined', { username: undefined }],
    ['undefined in a list', { username: { in: ['a', undefined] } }],
    ['undefined for an operator', { total: { gt: undefined } }],
    ['a hole in a list', { username: { in: [, 'a'] } }], // oxlint-disable-line no-sparse-arrays -- the hole is what this case is about
    ['NaN', { total: NaN }],
    ['Infinity', { 'meta.n': Infinity }],
    ['an invalid date', { createdAt: new Date('nonsense') }],
    ['a date for a number', { total: new Date(0) }],
    ['a text for a number', { total: 'ten' }],
    ['a boolean for a number', { total: true }],
    ['a function', { username: () => 'john' }],
    ['a symbol', { username: Symbol('john') }],
    ['a symbol as a key', { [Symbol('username')]: 'john' }],
    ['an instance of a class', { username: new Custom() }],
    ['a boxed text', { username: Object('john') }],
    ['a map', { username: new Map() }],
    ['a buffer', { username: Buffer.from('x') }],
    ['an empty object', { username: {} }],
    ['an object in a list', { username: { in: [{}] } }],
    ['a list in a list', { username: { in: [['a']] } }],
    ['no list for in', { username: { in: 'john' } }],
    ['an empty list', { username: { in: [] } }],
    ['101 values', { username: { in: Array.from({ length: 101 }, (_, i) => i) } }],
    ['a list to order by', { total: { gt: [1] } }],
    ['null to order by', { total: { gt: null } }],
    ['a boolean to order by', { status: { gt: true } }],
    ['a text for exists', { status: { exists: 'true' } }],
    ['a text for changed', { status: { changed: 'paid' } }],
    ['operators beside properties', { meta: { gt: 1, a: 2 } }],
    ['21 conditions', { meta: Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`p${i}`, i])) }],
    ['a path too deep', { [`meta${'.a'.repeat(10)}`]: 1 }],
    ['a path too long', { [`meta.${'a'.repeat(600)}`]: 1 }],
    ['values over 64 KB together', { username: { in: Array(5).fill('x'.repeat(MAX_VALUE_BYTES)) } }],
    [
      'conditions over 64 KB together',
      {
        username: {
          gt: 'x'.repeat(MAX_VALUE_BYTES),
          ne: 'y'.repeat(MAX_VALUE_BYTES),
          in: Array(2).fill('z'.repeat(MAX_VALUE_BYTES)),
        },
      },
    ],
    ['a value over 16 KB', { username: 'x'.repeat(MAX_VALUE_BYTES + 1) }],
    ['a value over 16 KB of UTF-8', { username: { in: ['é'.repeat(MAX_VALUE_BYTES / 2 + 1)] } }],
  ])('is refused: %s', (_what, where) => {
    expect(errorOf(where)).toMatchObject({ code: 'INVALID_FILTER', httpStatus: 400 });
  });

  it.each([
    [undefined],
    [null],
    ['username'],
    [5],
    [[]],
    [[{ username: 'john' }]],
    [new Map()],
    [() => ({})],
    [new Proxy([], {})],
  ])('is refused as a whole: %o', (where) => {
    expect(errorOf(where)).toMatchObject({ code: 'INVALID_FILTER' });
  });

  it('is valid up to the limits', () => {
    expect(compile({ meta: Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`p${i}`, i])) })).toHaveLength(20);
    const values = Array.from({ length: 100 }, (_, i) => i);
    expect(matches({ total: { in: values } }, { total: '99.0' })).toBe(true);
    const long = 'x'.repeat(MAX_VALUE_BYTES);
    expect(matches({ username: long }, { username: long })).toBe(true);
    expect(compile({ [`meta${'.a'.repeat(9)}`]: 1 })).toHaveLength(1);
  });

  it('gets an error that suggests "in" for a list', () => {
    expect(errorOf({ username: ['john', 'jane'] })).toMatchObject({ code: 'INVALID_FILTER' });
    expect(errorOf({ username: ['john', 'jane'] }).message).toContain('in: [');
  });

  it('survives cycles and deep nesting', () => {
    const cycle: Record<string, unknown> = {};
    cycle['a'] = cycle;
    expect(errorOf({ meta: cycle }).code).toBe('INVALID_FILTER');
    const deep: unknown = JSON.parse(`${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`);
    expect(errorOf({ meta: deep }).code).toBe('INVALID_FILTER');
  });

  it.each([
    [{ total: { greaterThan: 5 } }, 'greaterThan'],
    [{ total: { $gt: 5 } }, '$gt'],
    [{ total: { GT: 5 } }, 'GT'],
    [{ total: { gt: 5, below: 6 } }, 'below'],
    [{ status: { changed_to: 'paid' } }, 'changed_to'],
    [{ address: { city: { like: 'X%' } } }, 'like'],
    [{ nowhere: { changed_to: 'paid' } }, 'changed_to'],
    [{ $or: [{ username: 'john' }] }, '$or'],
  ])('is refused for an unknown operator, and the error lists the known operators: %j', (where, operator) => {
    const error = errorOf(where);
    expect(error.code).toBe('UNKNOWN_OPERATOR');
    expect(error.details).toMatchObject({ operator, known: OPERATORS });
    expect(error.message).toContain(operator);
    for (const known of OPERATORS) expect(error.message).toContain(known);
  });

  it.each([
    [{ usrname: 'john' }, 'usrname'],
    [{ address: { ctiy: 'X' } }, 'address.ctiy'],
    [{ 'address..city': 'X' }, 'address..city'],
    [{ '': 'X' }, ''],
    [{ nowhere: { gt: 5 } }, 'nowhere'],
    [{ gt: 5 }, 'gt'],
    [{ nowhere: undefined }, 'nowhere'],
  ])('is refused for an unknown property: %j', (where, path) => {
    const error = errorOf(where);
    const known = Object.keys(FIELDS);
    expect(error).toMatchObject({ code: 'UNKNOWN_PROPERTY', details: { path, known } });
    expect(error.message).toContain(`Known: ${known.join(', ')}.`);
  });

  it.each(['constructor', '__proto__', 'prototype', 'meta.__proto__', 'meta.constructor.prototype', 'toString.name'])(
    'is refused for %s, also when the lookup inherits it',
    (path) => {
      // `fromEntries` makes an own property even for `__proto__`.
      expect(errorOf(Object.fromEntries([[path, 1]])).code).toBe('UNKNOWN_PROPERTY');
    },
  );

  it('is refused for prototypes nested in JSON, and for a prototype with properties', () => {
    expect(errorOf(JSON.parse('{"__proto__":{"polluted":true}}')).code).toBe('UNKNOWN_PROPERTY');
    expect(errorOf(JSON.parse('{"meta":{"__proto__":{"polluted":true}}}')).code).toBe('UNKNOWN_PROPERTY');
    expect(errorOf({ username: Object.create({ ne: 'x' }) as unknown }).code).toBe('INVALID_FILTER');
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('may have no prototype, or a prototype of another realm', () => {
    const bare = Object.assign(Object.create(null) as object, { username: 'john' });
    expect(compile(bare)).toHaveLength(1);
    expect(compile(vm.runInNewContext(`({ total: { gt: 5 }, createdAt: new Date(0) })`))).toHaveLength(2);
  });
});

describe('a compiled filter', () => {
  it('cannot be changed, because it is prepared once', () => {
    const filter = compile({ status: { in: ['a'] } });
    expect(Object.isFrozen(filter)).toBe(true);
    expect(Object.isFrozen(filter[0])).toBe(true);
    expect(Object.isFrozen(filter[0]?.value)).toBe(true);
  });

  it('does not reference the object from which it was compiled', () => {
    const list = ['a'];
    const filter = compile({ status: { in: list } });
    list.push('b');
    expect(matchesFilter(filter, { data: { status: 'b' } })).toBe(false);
  });
});
