import { dialectOf } from '../dialect.js';
import type { Json, JsonObject } from '../json.js';
import { dataSourceOf } from '../typeorm-compat.js';
import { isNumberType, valueKindOf, type ColumnMetadata, type ValueKind } from './canonical-value.js';

/** How the values of a column look in payloads: for the catalogue, and for made-up example events. */
export interface ValueForm {
  /** JSON Schema of the values other than `null`. Only keywords of both draft-07 and 2020-12. */
  readonly schema: JsonObject;
  /** Two examples, so that the example of an update changes something. */
  readonly examples: readonly [Json, Json];
}

/** `docs/payload.md` has the same table in words. A kind that is missing here does not compile. */
const FORMS: Readonly<Record<Exclude<ValueKind, 'any'>, (column: ColumnMetadata) => ValueForm>> = {
  decimal: ({ scale }) => {
    const digits = scale ?? 2;
    const schema = text({
      pattern: '^-?\\d+(\\.\\d+)?$',
      description: 'A decimal number as text, so that it stays exact.',
    });
    return { schema, examples: [(1).toFixed(digits), (2).toFixed(digits)] };
  },
  bigint: () => ({
    schema: text({ pattern: '^-?\\d+$', description: 'A whole number as text, because it may exceed 2^53.' }),
    examples: ['1', '2'],
  }),
  bits: () => ({ schema: text({ pattern: '^[01]*$' }), examples: ['0', '1'] }),
  date: () => ({ schema: text({ format: 'date' }), examples: ['2026-01-01', '2026-01-02'] }),
  instant: () => ({
    schema: text({ format: 'date-time' }),
    examples: ['2026-01-01T12:00:00.000Z', '2026-01-02T12:00:00.000Z'],
  }),
  time: () => ({
    schema: text({ pattern: '^-?\\d{1,3}:\\d\\d:\\d\\d(\\.\\d+)?$' }),
    examples: ['12:00:00', '12:01:00'],
  }),
  zonedTime: () => ({
    schema: text({ pattern: '^\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?[+-]\\d\\d:\\d\\d(:\\d\\d)?$' }),
    examples: ['12:00:00+00:00', '12:01:00+00:00'],
  }),
  duration: () => ({
    schema: text({ pattern: '^P', description: 'A duration of ISO 8601.' }),
    examples: ['PT1H', 'PT2H'],
  }),
  instantRange: () => ({
    schema: text({ description: 'A range of times, as PostgreSQL writes it, in UTC.' }),
    examples: ['[2026-01-01T12:00:00.000Z,)', '[2026-01-02T12:00:00.000Z,)'],
  }),
  boolean: () => ({ schema: { type: 'boolean' }, examples: [true, false] }),
  json: () => ({ schema: {}, examples: [{}, {}] }),
  hstore: () => ({
    schema: { type: 'object', additionalProperties: { type: ['string', 'null'] } },
    examples: [{ key: 'value 1' }, { key: 'value 2' }],
  }),
  // MySQL and MariaDB have points, too, but no parser of them: payloads contain their text (WKT).
  point: (column) =>
    dialectOf(dataSourceOf(column.entityMetadata).options.type) === 'mysql'
      ? { schema: text(), examples: ['POINT(1 0)', 'POINT(2 0)'] }
      : { schema: numbers('x', 'y'), examples: [{ x: 1, y: 0 }, { x: 2, y: 0 }] }, // prettier-ignore
  circle: () => ({
    schema: numbers('x', 'y', 'radius'),
    examples: [
      { x: 0, y: 0, radius: 1 },
      { x: 0, y: 0, radius: 2 },
    ],
  }),
};

/** Returns the form of a column's values. @param name examples of texts contain this name */
export function formOf(column: ColumnMetadata, name: string): ValueForm {
  const item = column.transformer ? anything(name) : (enumForm(column) ?? scalarForm(column, name));
  if (column.transformer || !isList(column)) return item;
  const items = column.isArray ? orNull(item.schema) : item.schema;
  const [first, second] = item.examples;
  return { schema: { type: 'array', items }, examples: [[first], [second]] };
}

/** The same schema, which allows `null`, too. */
export function orNull(schema: JsonObject): JsonObject {
  const { type, enum: members } = schema;
  if (Array.isArray(members)) {
    return { ...schema, enum: [...members, null], ...(type === undefined ? {} : { type: withNull(type) }) };
  }
  if (type !== undefined) return { ...schema, type: withNull(type) };
  const { description, ...rest } = schema;
  if (Object.keys(rest).length === 0) return schema; // every value is allowed
  return { ...(description === undefined ? {} : { description }), anyOf: [rest, { type: 'null' }] };
}

function withNull(type: Json): Json {
  const types = Array.isArray(type) ? type : [type];
  return types.includes('null') ? types : [...types, 'null'];
}

function isList({ isArray, type }: ColumnMetadata): boolean {
  return isArray || type === 'simple-array' || type === 'set';
}

function enumForm({ enum: members }: ColumnMetadata): ValueForm | undefined {
  if (!members?.length) return undefined;
  const [type, ...others] = new Set(members.map((member) => typeof member as string));
  const typed: JsonObject = type === undefined || others.length ? {} : { type };
  return {
    schema: { ...typed, enum: [...members] },
    examples: [members[0] ?? null, members[Math.min(1, members.length - 1)] ?? null],
  };
}

function scalarForm(column: ColumnMetadata, name: string): ValueForm {
  const kind = valueKindOf(column);
  if (kind !== 'any') return FORMS[kind](column);
  const { type, generationStrategy } = column;
  if (type === 'simple-json') return FORMS.json(column);
  if (type === 'uuid' || generationStrategy === 'uuid') return UUID;
  if (isNumberType(column) || type === 'year') {
    const isWhole = type === Number || /int|^year$/.test(String(type));
    return { schema: { type: isWhole ? 'integer' : 'number' }, examples: [1, 2] };
  }
  if (/blob|bytea|binary/.test(String(type))) return BYTES;
  return isText(column) ? { schema: text(), examples: textExamples(name) } : anything(name);
}

const UUID: ValueForm = {
  schema: text({ format: 'uuid' }),
  examples: ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'],
};
const BYTES: ValueForm = { schema: text({ contentEncoding: 'base64' }), examples: ['AQ==', 'Ag=='] };

/** Types that the three dialects return as text. TypeORM reads `geometry` and `geography` of PostgreSQL as GeoJSON. */
const TEXT_TYPES = new RegExp(
  String.raw`char|text|string|^(enum|simple-enum|xml|inet|cidr|macaddr8?|tsvector|tsquery|ltree|line|lseg|box|path|polygon)$|range$`,
);
const SPATIAL_TYPES = /^(geometry|linestring|multipoint|multilinestring|multipolygon|geometrycollection)$/;

function isText(column: ColumnMetadata): boolean {
  const { type } = column;
  if (typeof type !== 'string') return type === String;
  if (TEXT_TYPES.test(type)) return true;
  return SPATIAL_TYPES.test(type) && dialectOf(dataSourceOf(column.entityMetadata).options.type) === 'mysql';
}

function anything(name: string): ValueForm {
  return { schema: {}, examples: textExamples(name) };
}

function textExamples(name: string): [string, string] {
  return [`${name} 1`, `${name} 2`];
}

function text(more: JsonObject = {}): JsonObject {
  return { type: 'string', ...more };
}

function numbers(...names: string[]): JsonObject {
  const properties = Object.fromEntries(names.map((name) => [name, { type: 'number' }]));
  return { type: 'object', properties, required: names };
}
