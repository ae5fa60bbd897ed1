import type { EntityMetadata } from 'typeorm';
import type { Json } from '../json.js';
import type { DialectName } from '../dialect.js';
import { bitText, intervalDuration, parseArray, parseHstore, rangeOfInstants, zonedTime } from './database-text.js';

/** TypeORM does not export this class by name. */
export type ColumnMetadata = EntityMetadata['columns'][number];

/** The form of a column's values in payloads. The form is the same on every database. `docs/payload.md` has the table. */
export type ValueKind =
  | ('decimal' | 'bigint' | 'bits')
  | ('date' | 'instant' | 'time' | 'zonedTime' | 'duration' | 'instantRange')
  | ('boolean' | 'json' | 'hstore' | 'point' | 'circle' | 'any');

const KINDS: Readonly<Record<string, ValueKind>> = {
  bigint: 'bigint',
  int8: 'bigint',
  'unsigned big int': 'bigint',
  decimal: 'decimal',
  numeric: 'decimal',
  dec: 'decimal',
  fixed: 'decimal',
  money: 'decimal',
  bit: 'bits',
  varbit: 'bits',
  'bit varying': 'bits',
  date: 'date',
  datetime: 'instant',
  timestamp: 'instant',
  timestamptz: 'instant',
  'timestamp with time zone': 'instant',
  'timestamp without time zone': 'instant',
  time: 'time',
  'time without time zone': 'time',
  timetz: 'zonedTime',
  'time with time zone': 'zonedTime',
  interval: 'duration',
  tstzrange: 'instantRange',
  tstzmultirange: 'instantRange',
  boolean: 'boolean',
  bool: 'boolean',
  json: 'json',
  jsonb: 'json',
  hstore: 'hstore',
  point: 'point',
  circle: 'circle',
};

const NUMBER_TYPES = new Set([
  'int',
  'integer',
  'int2',
  'int4',
  'smallint',
  'tinyint',
  'mediumint',
  'float',
  'float4',
  'float8',
  'real',
  'double',
  'double precision',
]);

/**
 * A column with a transformer has the kind `any`: the transformer returns values of the application. The type of the
 * column says nothing about these values.
 */
export function valueKindOf(column: ColumnMetadata): ValueKind {
  if (column.transformer) return 'any';
  if (column.type === Date) return 'instant';
  if (column.type === Boolean) return 'boolean';
  return (typeof column.type === 'string' ? KINDS[column.type] : undefined) ?? 'any';
}

/**
 * Whether better-sqlite3 may return fewer digits than the column stores. better-sqlite3 returns integers as JavaScript numbers, and SQLite
 * also stores a decimal without a fraction as an integer. Numbers of up to 15 digits are exact.
 */
export function mayLoseDigitsOnSqlite({ type, precision }: ColumnMetadata): boolean {
  const kind = typeof type === 'string' ? KINDS[type] : undefined;
  return kind === 'bigint' || (kind === 'decimal' && (precision ?? Infinity) > 15);
}

/**
 * Whether a column may store microseconds. A Date has only milliseconds, so microseconds are lost. On SQLite, TypeORM writes only
 * milliseconds, so no digits are lost.
 */
export function mayLoseMicroseconds({ type, precision }: ColumnMetadata, dialect: DialectName): boolean {
  const isInstant = type === Date || (typeof type === 'string' && KINDS[type] === 'instant');
  if (!isInstant || dialect === 'sqlite') return false;
  // The default precision applies to a column that declares no precision.
  return (precision ?? (dialect === 'postgres' ? 6 : 0)) > 3;
}

/** Whether payloads contain the values as JSON numbers, or, of an array column, its items. */
export function isNumberType({ type }: ColumnMetadata): boolean {
  return type === Number || (typeof type === 'string' && NUMBER_TYPES.has(type));
}

/** Whether a filter compares the column by numeric value, so that `10` matches `"10.00"`. */
export function isNumericColumn(column: ColumnMetadata): boolean {
  if (column.transformer || column.isArray) return false;
  const kind = valueKindOf(column);
  return kind === 'bigint' || kind === 'decimal' || isNumberType(column);
}

/**
 * Whether a column holds a scalar. Only scalars can decide which listeners receive an event. JSON, arrays and
 * bytes are not scalar.
 */
export function isScalarColumn(column: ColumnMetadata): boolean {
  if (column.isArray || column.transformer) return false;
  if (typeof column.type === 'string')
    return !/json|array|blob|bytea|binary|set|hstore|^point$|^circle$/.test(column.type);
  return column.type === String || column.type === Number || column.type === Boolean || column.type === Date;
}

/** The error for a value that has no JSON form. The caller adds the entity and the field to the message. */
export class Unserializable extends Error {}

/** One part of a primary key as text. The text is the same for every form in which a writer or a database passes the value. */
export function keyText(value: unknown, column: ColumnMetadata): string {
  const typed = column.referencedColumn ?? column;
  const json = canonicalValue(value, valueKindOf(typed), typed);
  if (typeof json !== 'string') return JSON.stringify(json); // the number 7 gives the same text as '7' of a path parameter
  return typed.type === 'uuid' ? json.toLowerCase() : json;
}

/** @throws Unserializable for functions, symbols, cycles, and values nested more than 1,000 levels deep. */
export function canonicalValue(value: unknown, kind: ValueKind, column?: ColumnMetadata): Json {
  if (value === null || value === undefined) return null;
  if (column?.isArray) {
    // For most array types the driver returns text.
    const items = typeof value === 'string' ? parseArray(value, column.type === 'box' ? ';' : ',') : value;
    if (Array.isArray(items)) return items.map((item: unknown) => canonicalItem(item, kind, column));
  }
  return canonicalScalar(value, kind, column);
}

/** An item of an array with any number of dimensions. */
function canonicalItem(item: unknown, kind: ValueKind, column: ColumnMetadata): Json {
  // In an array of JSON, an item that is an array is a value, not a dimension.
  if (kind !== 'json' && Array.isArray(item)) return item.map((inner) => canonicalItem(inner, kind, column));
  return item === null || item === undefined ? null : canonicalScalar(item, kind, column);
}

function canonicalScalar(value: unknown, kind: ValueKind, column: ColumnMetadata | undefined): Json {
  switch (kind) {
    case 'bigint':
      return String(value);
    case 'decimal':
      return canonicalDecimal(value, column);
    case 'date':
      return value instanceof Date ? localDate(value) : String(value);
    case 'instant':
      return instant(value);
    case 'time':
      return canonicalTime(value);
    case 'zonedTime':
      return zonedTime(String(value));
    case 'duration':
      return intervalDuration(value) ?? canonicalData(value);
    case 'instantRange':
      return rangeOfInstants(String(value));
    case 'boolean':
      return Boolean(value);
    case 'bits':
      return value instanceof Uint8Array ? bitText(value, Number(column?.length || 1)) : canonicalData(value);
    case 'hstore':
      return canonicalHstore(value);
    case 'point':
      return canonicalShape(value, POINT, ['x', 'y']);
    case 'circle':
      return canonicalShape(value, CIRCLE, ['x', 'y', 'radius']);
    case 'json':
      return sortedKeys(canonicalData(value));
    case 'any':
      return canonicalData(value);
  }
}

/**
 * The driver returns an `hstore` as text. With the column option `hstoreType: 'object'`, TypeORM parses this text
 * into an object.
 */
function canonicalHstore(value: unknown): Json {
  const pairs = typeof value === 'string' ? parseHstore(value) : null;
  return sortedKeys(canonicalData(pairs ? Object.fromEntries(pairs) : value));
}

const POINT = /^\(([^,()]+),([^,()]+)\)$/;
const CIRCLE = /^<\(([^,()]+),([^,()]+)\),([^,()]+)>$/;

/** The PostgreSQL driver parses points and circles, but not circles in an array. On MySQL a point is WKT text. */
function canonicalShape(value: unknown, pattern: RegExp, names: readonly string[]): Json {
  const numbers = typeof value === 'string' ? pattern.exec(value)?.slice(1).map(Number) : undefined;
  return canonicalData(numbers ? Object.fromEntries(names.map((name, n) => [name, numbers[n]])) : value);
}

/**
 * SQLite stores `10.50` as the number 10.5, and `0.0000001` as 1e-7. SQLite also stores more digits than the column declares. This
 * function rounds to the declared scale (half away from zero). So the text is the same as on the other databases.
 */
function canonicalDecimal(value: unknown, column: ColumnMetadata | undefined): string {
  const text = String(value);
  const match = /^([+-]?)(\d+)(?:\.(\d*))?(?:e([+-]?\d{1,3}))?$/i.exec(text);
  if (!match) return text;
  const [, sign, integer = '', decimals = '', exponent = '0'] = match;
  const point = integer.length + Number(exponent);
  const digits = (integer + decimals)
    .padEnd(point, '0')
    .padStart(integer.length + decimals.length + Math.max(0, 1 - point), '0');
  const whole = digits.slice(0, Math.max(1, point));
  const fraction = digits.slice(Math.max(1, point));
  const scale = column?.scale ?? (column?.precision == null ? fraction.length : 0);
  const roundsUp = (fraction[scale] ?? '0') >= '5';
  const rounded = BigInt(whole + fraction.slice(0, scale).padEnd(scale, '0')) + (roundsUp ? 1n : 0n);
  const plain = rounded.toString().padStart(scale + 1, '0');
  const minus = sign === '-' && rounded !== 0n ? '-' : '';
  return scale > 0 ? `${minus}${plain.slice(0, -scale)}.${plain.slice(-scale)}` : minus + plain;
}

/** SQLite stores `12:34` as written, and MySQL returns `12:34:56.500` with trailing zeros. */
function canonicalTime(value: unknown): string {
  const text = String(value);
  const match = /^(-?\d{1,3}:\d\d)(?::(\d\d)(?:\.(\d*?)0*)?)?$/.exec(text);
  if (!match) return text;
  const [, hoursAndMinutes = '', seconds = '00', fraction = ''] = match;
  return `${hoursAndMinutes}:${seconds}${fraction && `.${fraction}`}`;
}

/** PostgreSQL's `jsonb` and MySQL's `json` lose the order of keys. SQLite, MariaDB and PostgreSQL's `json` keep it. */
function sortedKeys(value: Json): Json {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(sortedKeys);
  const keys = Object.keys(value).toSorted();
  return Object.fromEntries(keys.map((key) => [key, sortedKeys(value[key] as Json)]));
}

function localDate(date: Date): string {
  const pad = (value: number, width: number) => String(value).padStart(width, '0');
  return `${pad(date.getFullYear(), 4)}-${pad(date.getMonth() + 1, 2)}-${pad(date.getDate(), 2)}`;
}

/** The driver returns MySQL's `0000-00-00` as an invalid Date. */
function instant(value: unknown): string | null {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  return String(value);
}

/**
 * How deep a value may be nested. V8 runs out of stack only at a much greater depth. That depth depends on the caller. Parsers of
 * receivers have lower limits: PHP 512 levels, Jackson and Python 1,000.
 */
const MAX_DEPTH = 1_000;

function canonicalJson(value: unknown, above: Set<object>): Json {
  if (value === null || value === undefined) return null;
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      return Number.isFinite(value) ? value : null;
    case 'bigint':
      return value.toString();
    case 'function':
    case 'symbol':
      throw new Unserializable(`a ${typeof value} has no JSON form`);
    default:
      return canonicalObject(value, above);
  }
}

function canonicalObject(value: object, above: Set<object>): Json {
  if (value instanceof Date) return instant(value);
  if (value instanceof Uint8Array) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  }
  if (above.has(value)) throw new Unserializable('it refers to itself');
  if (above.size >= MAX_DEPTH) throw new Unserializable(`it is nested more than ${MAX_DEPTH} levels deep`);
  above.add(value);
  try {
    if (value instanceof Set) return [...value].map((item) => canonicalJson(item, above));
    if (value instanceof Map) return canonicalJson(Object.fromEntries(value), above);
    const { toJSON } = value as { toJSON?: unknown };
    if (typeof toJSON === 'function') return canonicalJson((toJSON as () => unknown).call(value), above);
    if (Array.isArray(value)) return value.map((item) => canonicalJson(item, above));
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, item]) => item !== undefined)
        .map(([key, item]) => [key, canonicalJson(item, above)]),
    );
  } finally {
    above.delete(value);
  }
}

/** Converts any value to JSON by the rules of payloads, for columns and for the data of `publish()`. @throws Unserializable */
export function canonicalData(value: unknown): Json {
  return canonicalJson(value, new Set());
}
