import type { Deprecation, TypeDescription, Visibility } from '../entities/described-type.js';
import type { EntityDefinition } from '../entities/entity-definition.js';
import { ENTITY_ACTIONS, type EntityAction } from '../entities/webhook.decorator.js';
import type { JsonObject } from '../json.js';
import { examplesOfEntity, examplesOfPublished, type ExampleEvent } from '../listeners/example-event.js';
import type { PublishedType } from '../options/webhooks-options.js';
import { dataSchemaOf, payloadSchema } from './event-schema.js';

/** One event type of the catalogue. */
export interface CatalogType {
  /** `order.updated` */
  readonly type: string;
  /** A short name for people: `Order updated`. */
  readonly title: string;
  readonly group: string | null;
  readonly description: string | null;
  readonly deprecated: Deprecation | null;
  readonly visibility: Visibility;
  /** JSON Schema of the complete payload, without references. Only keywords of both draft-07 and 2020-12. */
  readonly schema: JsonObject;
  /** JSON Schema of `data`. */
  readonly data: JsonObject;
  /** JSON Schema of `previous`; `null` if payloads of this type have none. */
  readonly previous: JsonObject | null;
  /** Names the schema of `data` in documents. Types with the same name have the same `data`: `order` */
  readonly dataName: string;
  /** Example payloads, at least one. */
  readonly examples: readonly JsonObject[];
}

/** The time of example payloads. */
const EXAMPLE_TIME = '2026-01-01T12:00:00.000Z';

/** The event types of entities and the types that options declare, sorted. */
export function catalogTypes(
  definitions: readonly EntityDefinition[],
  publishedTypes: readonly PublishedType[],
): CatalogType[] {
  const types = [...definitions.flatMap(typesOfEntity), ...publishedTypes.map(typeOfPublished)];
  return types.toSorted((a, b) => (a.type < b.type ? -1 : 1));
}

function typesOfEntity(definition: EntityDefinition): CatalogType[] {
  const data = dataSchemaOf(definition);
  return ENTITY_ACTIONS.filter((action) => definition.actions.has(action)).map((action) => {
    const { options, name } = definition;
    const type = definition.typeOf(action);
    const { description, deprecated } = options.events?.[action] ?? {};
    const isPartial = mayLackFields(definition, action);
    return catalogType({
      type,
      options: { ...options, description: description ?? options.description ?? '' },
      title: `${options.title ?? inWords(name)} ${action}`,
      deprecated,
      data: isPartial ? dataOfMovedRow(definition) : data,
      dataName: isPartial ? type : name,
      previous: action === 'updated' ? dataSchemaOf(definition, () => false) : null,
      examples: examplesOfEntity(definition, action),
    });
  });
}

/**
 * If a row moves to another owner, its old owner gets a `deleted` event with the id alone. Every other event that lacks fields is
 * `truncated`.
 */
function mayLackFields({ ownership }: EntityDefinition, action: EntityAction): boolean {
  return action === 'deleted' && ownership === 'declared';
}

function dataOfMovedRow(definition: EntityDefinition): JsonObject {
  const { identity, options } = definition;
  const data = dataSchemaOf(definition, ({ parts }) => identity.includes(parts[0] ?? ''));
  const note = 'If the object moved to another owner, only its id is sent.';
  return { ...data, description: options.description === undefined ? note : `${options.description} ${note}` };
}

function typeOfPublished(published: PublishedType): CatalogType {
  const { type, fields = [], schema, title, deprecated } = published;
  const properties = Object.fromEntries(fields.map((field) => [field.split('.')[0] ?? '', {}]));
  return catalogType({
    type,
    options: published,
    title: title ?? inWords(type),
    deprecated,
    data: schema ?? { type: 'object', ...(fields.length === 0 ? {} : { properties }) },
    dataName: type,
    previous: null,
    examples: examplesOfPublished(published),
  });
}

function catalogType(given: {
  type: string;
  options: TypeDescription;
  title: string;
  deprecated: Deprecation | undefined;
  data: JsonObject;
  dataName: string;
  previous: JsonObject | null;
  examples: readonly ExampleEvent[];
}): CatalogType {
  const { type, options, title, deprecated, data, dataName, previous, examples } = given;
  const about = { title, ...(options.description ? { description: options.description } : {}) };
  return {
    type,
    title,
    group: options.group ?? null,
    description: options.description || null,
    deprecated: deprecated ?? null,
    visibility: options.visibility ?? 'public',
    schema: { ...about, ...payloadSchema(type, { data, ...(previous ? { previous } : {}) }) },
    data,
    previous,
    dataName,
    examples: examples.map((example) => ({ type, timestamp: EXAMPLE_TIME, ...example })),
  };
}

/** @example inWords('order_item') // 'Order item' */
export function inWords(name: string): string {
  const words = name.replaceAll(/[._]+/g, ' ').trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
