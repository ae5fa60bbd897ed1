import type { EntityMetadata } from 'typeorm';
import type { Json } from '../events/json.js';

/** TypeORM does not export the class by name. */
export type ColumnMetadata = EntityMetadata['columns'][number];

/** How a column's values are written in a payload, the same on every database; the table is `docs/payload.md`. */
export type ValueKind = 'decimal' | 'bigint' | 'date' | 'instant' | 'boolean' | 'any';

const KINDS: Readonly<Record<string, ValueKind>> = {
  bigint: 'bigint',
  int8: 'bigint',
  unsigned_big_int: 'bigint',
  decimal: 'decimal',
  numeric: 'decimal',
  dec: 'decimal',
  fixed: 'decimal',
  date: 'date',
  datetime: 'instant',
  timestamp: 'instant',
  timestamptz: 'instant',
  'timestamp with time zone': 'instant',
  'timestamp without time zone': 'instant',
  boolean: 'boolean',
  bool: 'boolean',
};

const NUMBER_TYPES = new Set([
  ...['int', 'integer', 'int2', 'int4', 'smallint', 'tinyint', 'mediumint'],
  ...['float', 'float4', 'float8', 'real', 'double', 'double precision'],
]);

/** A transformer gives application-side values of its own: they are written as they are. */
export function valueKindOf(column: ColumnMetadata): ValueKind {
  if (column.transformer) return 'any';
  if (column.type === Date) return 'instant';
  if (column.type === Boolean) return 'boolean';
  return (typeof column.type === 'string' ? KINDS[column.type] : undefined) ?? 'any';
}

/** Whether a filter compares the column by numeric value, so that `10` finds `"10.00"`. */
export function isNumericColumn(column: ColumnMetadata): boolean {
  if (column.transformer || column.isArray) return false;
  if (column.type === Number) return true;
  const kind = valueKindOf(column);
  return kind === 'bigint' || kind === 'decimal' || (typeof column.type === 'string' && NUMBER_TYPES.has(column.type));
}

/** Whether a column holds one scalar that a listener can be found by; not JSON, arrays or bytes. */
export function isScalarColumn(column: ColumnMetadata): boolean {
  if (column.isArray || column.transformer) return false;
  if (typeof column.type === 'string') return !/json|array|blob|bytea|binary|set/.test(column.type);
  return column.type === String || column.type === Number || column.type === Boolean || column.type === Date;
}

/** A value that no payload can hold; the caller knows the entity and the field. */
export class Unserializable extends Error {}

/** @throws Unserializable for functions, symbols and cycles. */
export function canonicalValue(value: unknown, kind: ValueKind, column?: ColumnMetadata): Json {
  if (value === null || value === undefined) return null;
  if (column?.isArray && Array.isArray(value)) return value.map((item) => canonicalValue(item, kind));
  switch (kind) {
    case 'bigint':
      return String(value);
    case 'decimal':
      return canonicalDecimal(value, column?.scale);
    case 'date':
      return value instanceof Date ? localDate(value) : String(value);
    case 'instant':
      return instant(value);
    case 'boolean':
      return Boolean(value);
    case 'any':
      return canonicalJson(value, new Set());
  }
}

/** SQLite keeps `10.50` as the number 10.5: the column's scale gives the digits back that other databases keep. */
function canonicalDecimal(value: unknown, scale: number | undefined): string {
  const text = String(value);
  const plain = /^(-?\d+)(?:\.(\d+))?$/.exec(text);
  if (!plain || scale === undefined || scale === null) return text;
  const [, whole, fraction = ''] = plain;
  return scale > 0 ? `${whole}.${fraction.padEnd(scale, '0')}` : text;
}

function localDate(date: Date): string {
  const pad = (value: number, width: number) => String(value).padStart(width, '0');
  return `${pad(date.getFullYear(), 4)}-${pad(date.getMonth() + 1, 2)}-${pad(date.getDate(), 2)}`;
}

function instant(value: unknown): string {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? String(value) : value.toISOString();
  return String(value);
}

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
  above.add(value);
  try {
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

/** For `publish()`: any value as JSON, by the rules of payloads. */
export function canonicalData(value: unknown): Json {
  return canonicalJson(value, new Set());
}
