import type { DataSource } from 'typeorm';
import type { EntityDefinition, Ownership } from '../entities/entity-definition.js';
import type { OutField } from '../entities/out-field.js';
import type { EntityRegistry } from '../entities/entity-registry.js';
import { keyText } from '../entities/canonical-value.js';
import { ENTITY_ACTIONS, type EntityClass } from '../entities/webhook.decorator.js';
import { assertPattern, matchesPattern, patternsMatching } from '../events/event-type.js';
import { concernsListener, OPERATIONAL_EVENTS, OPERATIONAL_EXAMPLES } from '../events/operational-event.js';
import { textOf } from '../foreign-text.js';
import { tupleHash } from '../hash.js';
import { isPlainObject } from '../json.js';
import { invalidValue } from '../show.js';
import { filterFieldsOf } from '../options/published-types.js';
import type { PublishedType } from '../options/webhooks-options.js';
import { BadRequestError, hintForApplication } from '../errors.js';
import { knownNames, listedNames } from '../known-names.js';
import { InvalidListenerError } from '../listener-errors.js';
import { exampleOfEntity, exampleOfPublished, type ExampleEvent } from './example-event.js';
import type { FieldInfo, FieldLookup, FilterFields } from '../routing/filter.js';

interface CatalogEntry {
  readonly type: string;
  readonly ownership: Ownership;
  /**
   * Looks up a property of the payload. `undefined` if the properties are not declared. In that case, filters may name
   * any property.
   */
  readonly fieldOf: FieldLookup | undefined;
  /** The properties that an error may list. */
  readonly fieldNames: () => readonly string[];
  readonly example: () => ExampleEvent;
}

/**
 * Every event type of an instance, with the properties that filters may name. The catalog checks the types and filters of
 * listeners.
 */
export class EventCatalog {
  constructor(
    private readonly dataSource: DataSource,
    readonly registry: EntityRegistry,
    readonly publishedTypes: ReadonlyMap<string, PublishedType>,
    readonly hasOperationalEvents: boolean,
  ) {}

  /**
   * The pattern that matches all events of an entity.
   *
   * @param isOwned whether the listener has an owner
   * @throws InvalidListenerError `UNKNOWN_ENTITY`
   */
  patternOf(entity: EntityClass | string, isOwned: boolean): string {
    const definition =
      typeof entity === 'string'
        ? this.registry.all().find(({ name, metadata }) => name === entity || metadata.name === entity)
        : this.registry.find(this.dataSource, entity);
    if (definition && !(isOwned && definition.isInternal)) return `${definition.name}.*`;
    const name = typeof entity === 'function' ? entity.name : textOf(entity);
    const known = this.registry
      .all()
      .filter(({ ownership }) => !isOwned || ownership !== 'undeclared')
      .map(({ metadata }) => metadata.name);
    throw new InvalidListenerError(
      'UNKNOWN_ENTITY',
      `There is no entity '${name.slice(0, 128)}' with webhooks.${knownNames(name, known)}`,
      {
        details: { known: listedNames(known) },
        ...hintForApplication('UNKNOWN_ENTITY', 'An entity has webhooks if WebhooksModule.forFeature([...]) names it.'),
      },
    );
  }

  /**
   * The key by which the events of one row are found.
   *
   * @param id the primary key; of several columns, an object
   * @param isOwned whether the caller is an owner
   * @throws InvalidListenerError `UNKNOWN_ENTITY`; BadRequestError `INVALID_ENTITY_ID`
   */
  rowKey(entity: string, id: unknown, isOwned: boolean): Buffer {
    const name = this.patternOf(entity, isOwned).slice(0, -'.*'.length);
    const { metadata } = this.registry.all().find((one) => one.name === name) as EntityDefinition;
    const columns = metadata.primaryColumns;
    const isOne = columns.length === 1 && !isPlainObject(id);
    const valueOf = (column: EntityDefinition['metadata']['primaryColumns'][number]): unknown =>
      isOne ? id : isPlainObject(id) ? column.getEntityValue(id) : undefined;
    try {
      const parts = columns.map((column) => keyText(valueOf(column), column));
      return tupleHash('entity', metadata.tableName, JSON.stringify(parts));
    } catch (cause) {
      const allowed = 'the primary key of the row; of several columns, an object';
      throw new BadRequestError('INVALID_ENTITY_ID', invalidValue('entityId', id, allowed), {
        cause,
        details: { properties: ['entityId'] },
      });
    }
  }

  /** @throws BadRequestError `UNKNOWN_EVENT_TYPE`, `INVALID_EVENT_TYPE`, `OWNER_NOT_DECLARED` */
  checkPatterns(patterns: readonly string[], isOwned: boolean): void {
    for (const pattern of patterns) {
      assertPattern(pattern);
      const matching = this.matching([pattern], isOwned);
      if (!matching.length && pattern !== '*') {
        const known = this.typesFor(isOwned);
        const message = `'${pattern}' matches no event type.${knownNames(pattern, known, prefixesOf(known))}`;
        throw new BadRequestError('UNKNOWN_EVENT_TYPE', message, {
          details: { pattern, known: listedNames(known) },
          ...hintForApplication('UNKNOWN_EVENT_TYPE', UNKNOWN_TYPE_HINT),
        });
      }
      if (isOwned && matching.length && matching.every((entry) => entry.ownership === 'undeclared')) {
        throw new BadRequestError(
          'OWNER_NOT_DECLARED',
          `Events of '${pattern}' are not sent to listeners that have an owner. Choose other types.`,
          {
            details: { pattern },
            ...hintForApplication('OWNER_NOT_DECLARED', OWNER_NOT_DECLARED_HINT),
          },
        );
      }
    }
  }

  /**
   * The properties that a filter on these patterns may name: the properties of every matching event that the listener may receive.
   *
   * @param isOwned whether the listener has an owner
   */
  fieldsOf(patterns: readonly string[], isOwned: boolean): FilterFields {
    const entries = this.matching(patterns, isOwned).filter(({ ownership }) => !isOwned || ownership !== 'undeclared');
    const find: FieldLookup = (path) => {
      const found: FieldInfo[] = [];
      for (const { fieldOf } of entries) {
        const info = fieldOf ? fieldOf(path) : ANY_FIELD;
        if (info) found.push(info);
      }
      if (!found.length) return undefined;
      return {
        numeric: found.every((info) => info.numeric),
        routable: found.every((info) => info.routable && info.numeric === found[0]?.numeric),
        ...(found[0]?.column === undefined ? {} : { column: found[0].column }),
      };
    };
    return { find, names: () => [...new Set(entries.flatMap((entry) => entry.fieldNames()))] };
  }

  /**
   * An example event of a type that the listener may receive.
   *
   * @throws BadRequestError `UNKNOWN_EVENT_TYPE`, `INVALID_EVENT_TYPE`, `OWNER_NOT_DECLARED`
   */
  exampleOf(type: string, isOwned: boolean): ExampleEvent {
    this.checkPatterns([type], isOwned);
    const entry = this.entries(isOwned).find((known) => known.type === type);
    if (entry) return entry.example();
    const known = this.typesFor(isOwned).filter((one) => matchesPattern(type, one));
    throw new BadRequestError(
      'UNKNOWN_EVENT_TYPE',
      `'${type}' is a pattern and not an event type. Name one type.${knownNames(type, known)}`,
      { details: { pattern: type, known: listedNames(known) } },
    );
  }

  has(type: string): boolean {
    return this.matching([type], false).length > 0;
  }

  /** All types, sorted. */
  types(): string[] {
    return this.typesFor(false);
  }

  /** The types that a listener may receive, sorted. @param isOwned whether the listener has an owner */
  typesFor(isOwned: boolean): string[] {
    return this.entries(isOwned)
      .filter(({ ownership }) => !isOwned || ownership !== 'undeclared')
      .map(({ type }) => type)
      .toSorted();
  }

  private matching(patterns: readonly string[], isOwned: boolean): CatalogEntry[] {
    return this.entries(isOwned).filter(({ type }) => patterns.some((pattern) => matchesPattern(pattern, type)));
  }

  /** For listeners with an owner, internal types do not exist, so that no error names them. */
  private entries(isOwned: boolean): CatalogEntry[] {
    const entries: CatalogEntry[] = [];
    const all = this.registry.all().filter(({ isInternal }) => !isOwned || !isInternal);
    for (const definition of all) {
      const family = familyOf(definition, all);
      for (const action of ENTITY_ACTIONS) {
        if (!definition.actions.has(action)) continue;
        entries.push({
          type: definition.typeOf(action),
          ownership: definition.ownership,
          fieldOf: (path) => entityField(family, path),
          fieldNames: () => family.flatMap(({ fields }) => fields.map(({ path }) => path)),
          example: () => exampleOfEntity(definition, action),
        });
      }
    }
    for (const published of this.publishedTypes.values()) {
      const { type, visibility } = published;
      const isInternal = visibility === 'internal';
      if (isOwned && isInternal) continue;
      const fields = filterFieldsOf(published);
      entries.push({
        type,
        ownership: isInternal ? 'undeclared' : 'declared',
        fieldOf: fields ? publishedFields(fields) : undefined,
        fieldNames: () => fields ?? [],
        example: () => exampleOfPublished(published),
      });
    }
    if (this.hasOperationalEvents) entries.push(...OPERATIONAL_ENTRIES);
    return entries;
  }
}

const OPERATIONAL_ENTRIES: readonly CatalogEntry[] = Object.values(OPERATIONAL_EVENTS).map((type) => ({
  type,
  ownership: concernsListener(type) ? 'declared' : 'undeclared',
  fieldOf: publishedFields(Object.keys(OPERATIONAL_EXAMPLES[type])),
  fieldNames: () => Object.keys(OPERATIONAL_EXAMPLES[type]),
  example: () => ({ version: 1, data: OPERATIONAL_EXAMPLES[type] }),
}));

const ANY_FIELD: FieldInfo = { numeric: false, routable: false };

const UNKNOWN_TYPE_HINT =
  "An entity makes the types `entity.action` if WebhooksModule.forFeature([...]) names the entity and its @Webhook({ on }) allows the action. Declare other types in WebhooksModule.forRoot({ publishedTypes: [...] }). For listeners with an owner, types with `visibility: 'internal'` do not exist.";
const OWNER_NOT_DECLARED_HINT =
  "The entity declares no owner, so listeners with an owner never receive its events. Declare @Webhook({ owner: '<property>' }), or EVERY_OWNER if every owner may receive them.";

/** The patterns that match given types, such as `order.*` for `order.created`. A misspelt name may be meant as such a pattern. */
function prefixesOf(types: readonly string[]): string[] {
  return [...new Set(types.flatMap((type) => patternsMatching(type).slice(1, -1)))];
}

function isChildOf(definition: EntityDefinition, ancestor: EntityDefinition): boolean {
  return definition.parent !== null && (definition.parent === ancestor || isChildOf(definition.parent, ancestor));
}

/** Listeners of a parent entity also receive events of its children, so their filters may name properties of the children. */
function familyOf(definition: EntityDefinition, all: readonly EntityDefinition[]): EntityDefinition[] {
  return [definition, ...all.filter((other) => isChildOf(other, definition))];
}

function entityField(family: readonly EntityDefinition[], path: string): FieldInfo | undefined {
  for (const { fields } of family) {
    const info = fieldInfo(fields, path);
    if (info) return info;
  }
  return undefined;
}

function publishedFields(fields: readonly string[]): FieldLookup {
  return (path) =>
    fields.some((field) => path === field || path.startsWith(`${field}.`))
      ? { numeric: false, routable: fields.includes(path) }
      : undefined;
}

function fieldInfo(fields: readonly OutField[], path: string): FieldInfo | undefined {
  const exact = fields.find((field) => field.path === path);
  if (exact) return { numeric: exact.numeric, routable: exact.routable, ...(exact.routable ? {} : { column: path }) };
  // A filter may name any path inside a JSON column.
  const json = fields.find((field) => path.startsWith(`${field.path}.`) && !field.routable);
  return json && { numeric: false, routable: false, column: json.path };
}
