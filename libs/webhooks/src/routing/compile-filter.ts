import { types } from 'node:util';
import { BadRequestError } from '../errors.js';
import { type Json, isPlainObject } from '../json.js';
import { knownNames, listedNames } from '../known-names.js';
import { kindOf } from '../show.js';
import { parseDecimal } from './decimal.js';
import type { Condition, FieldInfo, Filter, FilterFields } from './filter.js';
import { MAX_CONDITIONS, OPERATORS, type Operator } from './operators.js';
import { segmentsOf } from './payload-path.js';

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
