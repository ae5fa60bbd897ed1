import type { Json, JsonObject } from '../json.js';
import { compareDecimals, normaliseDecimal, parseDecimal } from './decimal.js';
import type { Condition, Filter, Filterable } from './filter.js';
import type { Operator } from './operators.js';
import { isDropped, isJsonObject, segmentsOf, valueAt } from './payload-path.js';

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
