import type { TypeDescription, Visibility } from '../entities/described-type.js';
import type { Deprecation } from '../entities/wrong-description.js';
import type { EntityDefinition } from '../entities/entity-definition.js';
import { ENTITY_ACTIONS, type EntityAction } from '../entities/webhook.decorator.js';
import {
  offeredVersions,
  olderBody,
  versionNumbers,
  type OfferedVersions,
  type OlderVersion,
} from '../entities/payload-versions.js';
import type { CanonicalBody } from '../events/payload.js';
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
  /** The version of these payloads: the newest. */
  readonly version: number;
  /** The older versions that are still offered, the newest first. */
  readonly older: readonly CatalogVersion[];
}

/** An older version of an event type. */
export interface CatalogVersion extends Pick<
  CatalogType,
  'schema' | 'data' | 'previous' | 'dataName' | 'version' | 'deprecated'
> {
  /** The examples of the newest version, as this version renders them. Empty if its function cannot render them. */
  readonly examples: readonly JsonObject[];
  /** Whether the application gives a schema of `data`. Otherwise `data` is any object. */
  readonly isDescribed: boolean;
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
      olderName: name,
      paths: definition.fields.map(({ parts }) => parts),
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
    olderName: type,
    paths: [],
  });
}

interface GivenType {
  readonly type: string;
  readonly options: TypeDescription;
  readonly title: string;
  readonly deprecated: Deprecation | undefined;
  readonly data: JsonObject;
  readonly dataName: string;
  readonly previous: JsonObject | null;
  readonly examples: readonly ExampleEvent[];
  /** Names the schemas of older versions. They are the same for all actions of an entity. */
  readonly olderName: string;
  /** The paths of the payload. */
  readonly paths: readonly (readonly string[])[];
}

function catalogType(given: GivenType): CatalogType {
  const { type, options, title, deprecated, data, dataName, previous } = given;
  const version = options.version ?? 1;
  const examples = given.examples.map((example) => exampleBody(type, example));
  return {
    type,
    title,
    group: options.group ?? null,
    description: options.description || null,
    deprecated: deprecated ?? null,
    visibility: options.visibility ?? 'public',
    schema: schemaOf(given, { version, data, previous }),
    data,
    previous,
    dataName,
    examples: examples as unknown as readonly JsonObject[],
    version,
    older: olderVersions(given, examples),
  };
}

function exampleBody(type: string, { version, ...example }: ExampleEvent): CanonicalBody {
  return { type, ...(version > 1 ? { version } : {}), timestamp: EXAMPLE_TIME, ...example };
}

function schemaOf(
  { type, title, options }: GivenType,
  { version, data, previous }: Pick<CatalogType, 'version' | 'data' | 'previous'>,
): JsonObject {
  const about = { title, ...(options.description ? { description: options.description } : {}) };
  return { ...about, ...payloadSchema({ type, version }, { data, ...(previous ? { previous } : {}) }) };
}

function olderVersions(given: GivenType, examples: readonly CanonicalBody[]): CatalogVersion[] {
  const versions = offeredVersions(given.options);
  return versionNumbers(versions)
    .slice(1)
    .map((version) => {
      const { schema, deprecated } = versions.older.get(version) as OlderVersion;
      const data = schema ?? { type: 'object' };
      const previous = given.previous && withoutRequired(data);
      return {
        version,
        deprecated: deprecated ?? given.deprecated ?? null,
        schema: schemaOf(given, { version, data, previous }),
        data,
        previous,
        dataName: `${given.olderName}.v${version}`,
        examples: examplesIn(version, versions, { examples, paths: given.paths }),
        isDescribed: schema !== undefined,
      };
    });
}

/** `previous` of an older version has some of the fields, each with its whole value. */
function withoutRequired({ required: _, ...schema }: JsonObject): JsonObject {
  return schema;
}

function examplesIn(
  version: number,
  versions: OfferedVersions,
  { examples, paths }: { readonly examples: readonly CanonicalBody[]; readonly paths: GivenType['paths'] },
): JsonObject[] {
  try {
    return examples.map((body) => ({ ...olderBody(structuredClone(body), version, versions, paths) }) as JsonObject);
  } catch {
    return []; // the check for CI reports this
  }
}

/** The types as listeners with these pins get them. @param pins an unknown type or version changes nothing */
export function atVersions(types: readonly CatalogType[], pins: Readonly<Record<string, number>>): CatalogType[] {
  return types.map((type) => {
    const older = type.older.find(({ version }) => version === pins[type.type]);
    if (!older) return type;
    const { isDescribed: _, ...version } = older;
    return { ...type, ...version };
  });
}

/** @example inWords('order_item') // 'Order item' */
export function inWords(name: string): string {
  const words = name.replaceAll(/[._]+/g, ' ').trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
