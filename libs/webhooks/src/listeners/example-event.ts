import { typingColumn, withPart } from '../entities/foreign-keys.js';
import { setPath, type EntityDefinition, type OutField } from '../entities/entity-definition.js';
import { isNumericColumn, valueKindOf, type ColumnMetadata } from '../entities/canonical-value.js';
import type { EntityAction } from '../entities/webhook.decorator.js';
import type { Json, JsonObject } from '../json.js';
import type { PublishedType } from '../options/webhooks-options.js';

/** The content of an example event. */
export interface ExampleEvent {
  readonly data: JsonObject;
  readonly previous?: JsonObject;
}

/** An example event of an entity: its `example`, or a made-up value for each property of the payload. */
export function exampleOfEntity(definition: EntityDefinition, action: EntityAction): ExampleEvent {
  const { example } = definition.options;
  const data = example ?? rowOf(definition.fields, 0);
  if (action !== 'updated') return { data };
  const changed = definition.fields.find(
    (field) =>
      (field.parts[0] ?? '') in data &&
      !definition.identity.includes(field.parts[0] ?? '') &&
      !field.automatic &&
      !definition.ignored.has(field),
  );
  return { data, previous: changed ? rowOf([changed], 1) : {} };
}

/** An example event of a published type: its `example`, or a text for each of its `fields`. */
export function exampleOfPublished({ fields, example }: PublishedType): ExampleEvent {
  const data: JsonObject = {};
  for (const field of fields ?? []) setPath(data, field.split('.'), 'example');
  return { data: example ?? data };
}

function rowOf(fields: readonly OutField[], variant: 0 | 1): JsonObject {
  const row: JsonObject = {};
  for (const field of fields) setPath(row, field.parts, fieldValue(field, variant));
  return row;
}

function fieldValue(field: OutField, variant: 0 | 1): Json {
  const { relation, isLinks } = field;
  if (isLinks) return [keyOrValue(relation?.junctionEntityMetadata?.inverseColumns ?? [], field, variant)];
  return keyOrValue(relation?.joinColumns ?? [], field, variant);
}

function keyOrValue(joins: readonly ColumnMetadata[], { column, path }: OutField, variant: 0 | 1): Json {
  if (joins.length < 2) return columnValue(column, path, variant);
  return joins.reduce<JsonObject>(
    (key, join) => withPart(key, join, columnValue(typingColumn(join), path, variant)) as JsonObject,
    {},
  );
}

/** A value of the column's type, written as in `docs/payload.md`. The two variants differ, so that an update changes something. */
function columnValue(column: ColumnMetadata, path: string, variant: 0 | 1): Json {
  const one = scalarValue(column, path, variant);
  return column.isArray || column.type === 'simple-array' ? [one] : one;
}

function scalarValue(column: ColumnMetadata, path: string, variant: 0 | 1): Json {
  const { enum: members, type, scale } = column;
  if (type === 'simple-json') return {};
  if (members?.length) return members[Math.min(variant, members.length - 1)] ?? null;
  if (type === 'uuid' || column.generationStrategy === 'uuid')
    return `00000000-0000-4000-8000-00000000000${variant + 1}`;
  switch (valueKindOf(column)) {
    case 'decimal':
      return (variant + 1).toFixed(scale ?? 2);
    case 'bigint':
      return String(variant + 1);
    case 'date':
      return `2026-01-0${variant + 1}`;
    case 'instant':
      return `2026-01-0${variant + 1}T12:00:00.000Z`;
    case 'time':
      return `12:0${variant}:00`;
    case 'boolean':
      return variant === 0;
    case 'zonedTime':
      return `12:0${variant}:00+00:00`;
    case 'duration':
      return `PT${variant + 1}H`;
    case 'bits':
      return String(variant);
    case 'json':
      return {};
    case 'hstore':
      return { key: `value ${variant + 1}` };
    case 'point':
      return { x: variant + 1, y: 0 };
    case 'circle':
      return { x: 0, y: 0, radius: variant + 1 };
    default:
      return isNumericColumn(column) ? variant + 1 : `${path} ${variant + 1}`;
  }
}
