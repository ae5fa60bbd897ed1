import { types } from 'node:util';
import { BadRequestError } from '../errors.js';
import { type Json, type JsonObject, isPlainObject } from '../json.js';
import { knownNames, listedNames } from '../known-names.js';
import { compareDecimals, normaliseDecimal, parseDecimal } from './decimal.js';
import { MAX_CONDITIONS, OPERATORS, type Operator } from './operators.js';
import { isDropped, isJsonObject, segmentsOf, valueAt } from './payload-path.js';
import { kindOf } from '../show.js';

/** The information that a filter needs about a property of the payload. */
export interface FieldInfo {
  /**
   * Whether the property is a number, or a number that is sent as text (bigint, decimal). Such a property is
   * compared by value, so `10` equals `'10.00'`.
   */
  readonly numeric: boolean;
  /** Whether the property is a scalar column. The value of a scalar column can route events to listeners. */
  readonly routable: boolean;
  /**
   * For a path inside a JSON column: the path of that column. If `column` is missing and the path is not routable, the
   * first property of the path counts as the column. Then `changed` is wrong only for a list inside an embedded
   * entity.
   */
  readonly column?: string;
}

/**
 * Looks up a path. Returns `undefined` for an unknown property and also for a hidden property, because a filter must not reveal that a
 * hidden property exists.
 */
export type FieldLookup = (path: string) => FieldInfo | undefined;

/** The properties that a filter may name. */
export interface FilterFields {
  readonly find: FieldLookup;
  /** The names that an error lists. The list does not include properties inside a JSON column. */
  readonly names: () => readonly string[];
}

/** One compiled condition. */
export interface Condition {
  /** The path in `data` (and in `previous`), with dots for nested properties. */
  readonly path: string;
  readonly operator: Operator;
  /** A list for `in`, a boolean for `exists` and `changed`, a scalar otherwise. */
  readonly value: Json;
  /** {@link FieldInfo.numeric} */
  readonly numeric: boolean;
  /** {@link FieldInfo.routable} */
  readonly routable: boolean;
  /** {@link FieldInfo.column} */
  readonly column?: string;
}

/** A compiled `where`. All conditions must hold. A filter is plain JSON, and listeners store their filter in this form. */
export type Filter = readonly Condition[];

/** The part of an event that a filter reads. */
export interface Filterable {
  readonly data: JsonObject;
  /** Old values of the changed properties. Only updates have old values. */
  readonly previous?: JsonObject;
  /**
   * Paths that were dropped because the payload was too large to store. A condition on a dropped path counts as
   * matching.
   */
  readonly dropped?: ReadonlySet<string>;
}

/** Maximum number of values of one `in`. Each value can become a row of the routes table for each pattern. */
const MAX_IN_VALUES = 100;
/** Maximum length of one value, in UTF-8 bytes. */
export const MAX_VALUE_BYTES = 16 * 1024;
/**
 * Maximum length of a filter, in UTF-8 bytes of its JSON form. The filter is read and parsed for each candidate event.
 */
const MAX_FILTER_BYTES = 64 * 1024;
/** Maximum number of properties in one path (`a.b` has two). */
const MAX_PATH_DEPTH = 10;
/** Maximum length of a path, in characters. */
const MAX_PATH_LENGTH = 512;

const OPERATOR_NAMES: ReadonlySet<string> = new Set(OPERATORS);
const FOLDED_OPERATORS: ReadonlySet<string> = new Set(OPERATORS.map((name) => name.toLowerCase()));
const NEVER_PROPERTIES: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);

/**
 * Checks a `where` and compiles it to a {@link Filter}.
 *
 * `{ 'address.city': 'X' }` and `{ address: { city: 'X' } }` mean the same. An object whose keys are operators gives conditions: `{ total:
 * { gt: 5, lte: 10 } }`. So a property with the name of an operator must be written with dots: `{ 'door.exists': true }`. `{}` has no
 * conditions and matches every event. `undefined` is refused as the whole `where` and as a value. If `undefined` were accepted, a variable
 * that was not set would match everything.
 *
 * @throws {BadRequestError} `INVALID_FILTER`, `UNKNOWN_PROPERTY` or `UNKNOWN_OPERATOR`. `details` has the `path`. For
 * `UNKNOWN_PROPERTY` and `UNKNOWN_OPERATOR`, `details` also has the `known` names.
 * @example compileFilter({ username: 'john', total: { gte: '10.50' } }, { find: fieldOf, names: () => ['username', 'total'] })
 */
export function compileFilter(where: unknown, fields: FilterFields): Filter {
  if (!isPlainObject(where)) {
    throw invalid('', `the filter must be an object of properties and values, not ${kindOf(where)}`);
  }
  const conditions: Condition[] = [];
  compileObject(where, { parent: '', depth: 0 }, fields, conditions);
  if (Buffer.byteLength(JSON.stringify(conditions), 'utf8') > MAX_FILTER_BYTES) throw tooLong();
  return Object.freeze(conditions);
}

function compileObject(
  where: Record<string, unknown>,
  { parent, depth: parentDepth }: { readonly parent: string; readonly depth: number },
  fields: FilterFields,
  conditions: Condition[],
): void {
  const unknownProperty = (path: string) => unknownPropertyOf(path, fields.names());
  for (const key of ownKeys(where, parent)) {
    const path = parent === '' ? key : `${parent}.${key}`;
    const segments = segmentsOf(key);
    const depth = parentDepth + segments.length;
    if (depth > MAX_PATH_DEPTH || path.length > MAX_PATH_LENGTH) {
      throw invalid(
        path,
        `is too deep or too long; allowed are at most ${MAX_PATH_DEPTH} properties and ${MAX_PATH_LENGTH} characters`,
      );
    }
    if (segments.some((segment) => segment === '' || NEVER_PROPERTIES.has(segment))) throw unknownProperty(path);

    const value = where[key];
    const field = fields.find(path);
    if (field === undefined && looksLikeOperator(key, parent)) throw unknownOperator(parent, key);
    if (!isPlainObject(value)) {
      if (field === undefined) throw unknownProperty(path);
      addCondition(conditions, path, 'equals', value, field);
      continue;
    }

    const keys = ownKeys(value, path);
    const operators = keys.filter((name) => OPERATOR_NAMES.has(name));
    if (keys.length === 0) throw invalid(path, 'is an empty object; it must contain operators or properties');
    if (operators.length === keys.length) {
      if (field === undefined) throw unknownProperty(path);
      for (const name of operators) addCondition(conditions, path, name as Operator, value[name], field);
      continue;
    }
    const other = keys.find((name) => !OPERATOR_NAMES.has(name)) ?? '';
    if (field !== undefined && (field.routable || field.numeric)) throw unknownOperator(path, other);
    if (operators.length > 0) {
      throw invalid(
        path,
        `mixes the operator ${quote(operators[0] ?? '')} with ${quote(other)}, which is not an operator`,
      );
    }
    compileObject(value, { parent: path, depth }, fields, conditions);
  }
}

function addCondition(
  conditions: Condition[],
  path: string,
  operator: Operator,
  given: unknown,
  field: FieldInfo,
): void {
  if (conditions.length === MAX_CONDITIONS) {
    throw invalid(path, `exceeds the limit of ${MAX_CONDITIONS} conditions in a filter`);
  }
  const value = compileValue(path, operator, given, field.numeric);
  Object.freeze(value);
  const { numeric, routable, column } = field;
  const condition: Condition = { path, operator, value, numeric, routable };
  conditions.push(Object.freeze(column === undefined ? condition : { ...condition, column }));
}

function compileValue(path: string, operator: Operator, given: unknown, numeric: boolean): Json {
  if (given === undefined) {
    throw invalid(path, 'has an undefined value; leave the property out, or use null');
  }
  switch (operator) {
    case 'in':
      if (!Array.isArray(given)) throw invalid(path, `must have a list for "in", not ${kindOf(given)}`);
      if (given.length === 0)
        throw invalid(path, 'has an empty list for "in", which matches nothing; give at least one value');
      if (given.length > MAX_IN_VALUES) {
        throw invalid(path, `has ${given.length} values for "in"; allowed are at most ${MAX_IN_VALUES}`);
      }
      return compileList(path, given, numeric);
    case 'exists':
    case 'changed':
      if (typeof given !== 'boolean')
        throw invalid(path, `must have true or false for "${operator}", not ${kindOf(given)}`);
      return given;
    case 'gt':
    case 'gte':
    case 'lt':
    case 'lte':
      if (given === null || typeof given === 'boolean') {
        throw invalid(path, `must have a number, a string or a date for "${operator}", not ${kindOf(given)}`);
      }
      return compileScalar(path, given, numeric);
    default:
      return compileScalar(path, given, numeric);
  }
}

/** Compiles the values of a list. The length is checked after each value, because all values together may have megabytes. */
function compileList(path: string, given: readonly unknown[], numeric: boolean): Json[] {
  let length = 0;
  // `Array.from` also visits the holes of a sparse list. `map` would skip the holes.
  return Array.from(given, (item: unknown) => {
    const value = compileScalar(path, item, numeric);
    length += typeof value === 'string' ? value.length : 0;
    if (length > MAX_FILTER_BYTES) throw tooLong();
    return value;
  });
}

function tooLong(): BadRequestError {
  return invalid('', `the filter must have at most ${MAX_FILTER_BYTES} bytes`);
}

function compileScalar(path: string, given: unknown, numeric: boolean): Json {
  if (given === null) return null;
  const value = typeof given === 'bigint' ? given.toString() : types.isDate(given) ? isoText(path, given) : given;
  switch (typeof value) {
    case 'string':
      if (value.length > MAX_VALUE_BYTES || Buffer.byteLength(value, 'utf8') > MAX_VALUE_BYTES) {
        throw invalid(path, `must have a value of at most ${MAX_VALUE_BYTES} bytes`);
      }
      if (numeric && parseDecimal(value) === undefined) {
        throw invalid(path, `is a numeric property, but ${quote(value)} is not a number`);
      }
      return value;
    case 'number':
      if (!Number.isFinite(value))
        throw invalid(path, `has the value ${value}, which JSON cannot represent; use a finite number`);
      // JSON has no -0, and a stored filter must equal the compiled filter.
      return value === 0 ? 0 : value;
    case 'boolean':
      if (numeric) throw invalid(path, `is a numeric property, but ${value} is not a number`);
      return value;
    case 'undefined':
      throw invalid(path, 'has an undefined value; leave the value out, or use null');
    default:
      if (Array.isArray(value)) {
        throw invalid(
          path,
          'is compared with a list, which equals nothing; use { in: [...] } to match one of several values',
        );
      }
      throw invalid(path, `is compared with ${kindOf(value)}; use a string, a number, a boolean, a date or null`);
  }
}

function isoText(path: string, date: Date): string {
  if (Number.isNaN(date.getTime())) throw invalid(path, 'has an invalid date; use a valid Date or an ISO string');
  return date.toISOString();
}

function ownKeys(object: Record<string, unknown>, path: string): string[] {
  if (Object.getOwnPropertySymbols(object).length > 0)
    throw invalid(path, 'has a symbol as a key; use only string keys');
  return Object.keys(object);
}

function looksLikeOperator(key: string, parent: string): boolean {
  if (key.startsWith('$')) return true;
  return parent !== '' && FOLDED_OPERATORS.has(key.replaceAll('_', '').toLowerCase());
}

function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}

function invalid(path: string, problem: string): BadRequestError {
  const message = path === '' ? `Invalid filter: ${problem}` : `Invalid filter: ${quote(path)} ${problem}`;
  return new BadRequestError('INVALID_FILTER', message, { details: { path } });
}

function unknownPropertyOf(path: string, known: readonly string[]): BadRequestError {
  return new BadRequestError(
    'UNKNOWN_PROPERTY',
    `Invalid filter: there is no property ${quote(path)} in the payload.${knownNames(path, known)}`,
    { details: { path, known: listedNames(known) } },
  );
}

function unknownOperator(path: string, operator: string): BadRequestError {
  const where = path === '' ? '' : ` on ${quote(path)}`;
  return new BadRequestError(
    'UNKNOWN_OPERATOR',
    `Invalid filter: there is no operator ${quote(operator)}${where}.${knownNames(operator, OPERATORS)}`,
    { details: { path, operator, known: OPERATORS } },
  );
}

type Check = (event: Filterable) => boolean;
type ValueCheck = (value: Json | undefined) => boolean;

// A filter is evaluated for many events. So split paths, sets and parsed decimals are prepared once for each filter.
const prepared = new WeakMap<Filter, readonly Check[]>();

/**
 * Whether all conditions of a filter hold for an event. A condition on a dropped path counts as matching.
 *
 * Pass the same `Filter` object again where possible, because the first call prepares the filter. Do not change the
 * filter after the first call.
 */
export function matchesFilter(filter: Filter, event: Filterable): boolean {
  let checks = prepared.get(filter);
  if (checks === undefined) {
    checks = filter.map(prepare);
    prepared.set(filter, checks);
  }
  for (const check of checks) {
    if (!check(event)) return false;
  }
  return true;
}

function prepare(condition: Condition): Check {
  const { path, operator, value, numeric } = condition;
  const segments = segmentsOf(path);
  switch (operator) {
    case 'changed': {
      const changed = changeCheck(condition, segments);
      return (event) => isDropped(path, event.dropped) || changed(event) === value;
    }
    case 'changedFrom':
    case 'changedTo': {
      const changed = changeCheck(condition, segments);
      const equals = equalityCheck(value, numeric);
      const side = operator === 'changedFrom' ? 'previous' : 'data';
      return (event) => isDropped(path, event.dropped) || (changed(event) && equals(valueAt(event[side], segments)));
    }
    default: {
      const holds = valueCheck(operator, value, numeric);
      return (event) => holds(valueAt(event.data, segments)) || isDropped(path, event.dropped);
    }
  }
}

function valueCheck(
  operator: Exclude<Operator, 'changed' | 'changedFrom' | 'changedTo'>,
  expected: Json,
  numeric: boolean,
): ValueCheck {
  switch (operator) {
    case 'equals':
      return equalityCheck(expected, numeric);
    case 'ne': {
      const equals = equalityCheck(expected, numeric);
      return (value) => !equals(value);
    }
    case 'in':
      return membershipCheck(Array.isArray(expected) ? expected : [expected], numeric);
    case 'exists':
      return (value) => (value !== undefined && value !== null) === expected;
    case 'gt':
      return orderCheck(expected, numeric, (order) => order > 0);
    case 'gte':
      return orderCheck(expected, numeric, (order) => order >= 0);
    case 'lt':
      return orderCheck(expected, numeric, (order) => order < 0);
    case 'lte':
      return orderCheck(expected, numeric, (order) => order <= 0);
  }
}

function equalityCheck(expected: Json, numeric: boolean): ValueCheck {
  if (expected === null) return (value) => value === null || value === undefined;
  if (typeof expected === 'object') return () => false;
  if (!numeric) return (value) => value === expected;
  const decimal = normaliseDecimal(expected);
  return (value) => decimal !== undefined && normaliseDecimal(value) === decimal;
}

function membershipCheck(expected: readonly Json[], numeric: boolean): ValueCheck {
  const acceptsNull = expected.includes(null);
  const scalars = expected.filter((item) => item !== null && typeof item !== 'object');
  const members = new Set<Json | undefined>(numeric ? scalars.map(normaliseDecimal) : scalars);
  members.delete(undefined);
  return (value) => {
    if (value === null || value === undefined) return acceptsNull;
    return members.has(numeric ? normaliseDecimal(value) : value);
  };
}

function orderCheck(expected: Json, numeric: boolean, accepts: (order: number) => boolean): ValueCheck {
  if (numeric) {
    const limit = parseDecimal(expected);
    return (value) => {
      const decimal = parseDecimal(value);
      return limit !== undefined && decimal !== undefined && accepts(compareDecimals(decimal, limit));
    };
  }
  if (typeof expected === 'number') return (value) => typeof value === 'number' && accepts(value - expected);
  if (typeof expected === 'string') {
    return (value) => typeof value === 'string' && accepts(compareCodePoints(value, expected));
  }
  return () => false;
}

/**
 * Compares texts by code point, as databases and other languages do. The operator `<` compares UTF-16 units, and
 * sorts an emoji before `ﬁ` (U+FB01).
 */
function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const unitA = a.charCodeAt(i);
    const unitB = b.charCodeAt(i);
    if (unitA !== unitB) return codePointRank(unitA) - codePointRank(unitB);
  }
  return a.length - b.length;
}

/**
 * Returns a rank that sorts surrogates (U+D800 to U+DFFF) after U+E000 to U+FFFF, because surrogates encode code points
 * above U+FFFF.
 */
function codePointRank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

function changeCheck(condition: Condition, segments: readonly string[]): (event: Filterable) => boolean {
  const { column, routable, numeric } = condition;
  const columnSegments = column !== undefined ? segmentsOf(column) : routable ? segments : segments.slice(0, 1);
  return ({ previous, data }) => {
    if (previous === undefined || !holdsColumn(previous, columnSegments)) return false;
    const before = valueAt(previous, segments) ?? null;
    const after = valueAt(data, segments) ?? null;
    if (numeric) {
      const decimal = normaliseDecimal(before);
      if (decimal !== undefined && decimal === normaliseDecimal(after)) return false;
    }
    return !sameJson(before, after, 0);
  };
}

/** Whether `previous` contains a column, or contains null for the embedded object around the column. */
function holdsColumn(previous: JsonObject, segments: readonly string[]): boolean {
  let value: Json | undefined = previous;
  for (const segment of segments) {
    if (!isJsonObject(value)) return true;
    if (!Object.hasOwn(value, segment)) return false;
    value = value[segment];
  }
  return true;
}

/**
 * The greatest nesting at which two values of a JSON column are compared. Values with deeper nesting count as
 * different, because a comparison could overflow the stack.
 */
const MAX_COMPARED_DEPTH = 500;

function sameJson(a: Json, b: Json, depth: number): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (depth === MAX_COMPARED_DEPTH) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item, index) => sameJson(item, b[index] ?? null, depth + 1));
  }
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key] ?? null, b[key] ?? null, depth + 1));
}
