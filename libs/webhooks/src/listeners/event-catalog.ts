import type { DataSource } from 'typeorm';
import type { EntityDefinition, OutField, Ownership } from '../entities/entity-definition.js';
import type { EntityRegistry } from '../entities/entity-registry.js';
import { ENTITY_ACTIONS, type EntityClass } from '../entities/webhook.decorator.js';
import { assertPattern, matchesPattern } from '../events/event-type.js';
import { textOf } from '../foreign-text.js';
import type { PublishedType } from '../options/webhooks-options.js';
import { BadRequestError } from '../errors.js';
import { InvalidListenerError } from '../listener-errors.js';
import { exampleOfEntity, exampleOfPublished, type ExampleEvent } from './example-event.js';
import type { FieldInfo, FieldLookup } from '../routing/filter.js';

interface CatalogEntry {
  readonly type: string;
  readonly ownership: Ownership;
  /** `undefined`: any property, as nothing is known of them. */
  readonly fieldOf: FieldLookup | undefined;
  readonly example: () => ExampleEvent;
}

/** Every event type of an instance, with the properties that filters may name: what a listener is checked against. */
export class EventCatalog {
  constructor(
    private readonly dataSource: DataSource,
    private readonly registry: EntityRegistry,
    private readonly publishes: ReadonlyMap<string, PublishedType>,
  ) {}

  /** The pattern of all events of an entity. @throws InvalidListenerError `UNKNOWN_ENTITY` */
  patternOf(entity: EntityClass | string): string {
    const definition =
      typeof entity === 'string'
        ? this.registry.all().find(({ name, metadata }) => name === entity || metadata.name === entity)
        : this.registry.find(this.dataSource, entity);
    if (definition) return `${definition.name}.*`;
    const name = typeof entity === 'function' ? entity.name : textOf(entity);
    throw new InvalidListenerError(
      'UNKNOWN_ENTITY',
      `'${name.slice(0, 128)}' is no entity that has webhooks: it has to be in WebhooksModule.forFeature([...]).`,
      {
        details: { known: this.registry.all().map((known) => known.metadata.name) },
      },
    );
  }

  /** @throws BadRequestError `UNKNOWN_EVENT_TYPE`, `INVALID_PATTERN`, `OWNER_NOT_DECLARED` */
  checkPatterns(patterns: readonly string[], isOwned: boolean): void {
    for (const pattern of patterns) {
      assertPattern(pattern);
      const matching = this.matching([pattern]);
      if (!matching.length && pattern !== '*') {
        throw new BadRequestError(
          'UNKNOWN_EVENT_TYPE',
          `'${pattern}' matches no event type. Types of entities are named entity.action; others are declared in WebhooksModule.forRoot({ publishes: [...] }).`,
          { details: { pattern } },
        );
      }
      if (isOwned && matching.length && matching.every((entry) => entry.ownership === 'undeclared')) {
        throw new BadRequestError(
          'OWNER_NOT_DECLARED',
          `'${pattern}' events say of no row whose it is, so a listener with an owner can never receive one. Declare it: @Webhook({ owner: '<property>' }), or EVERY_OWNER for what everybody may see.`,
          { details: { pattern } },
        );
      }
    }
  }

  /** What a filter on these patterns may name: a property of any event they match. */
  fieldsOf(patterns: readonly string[]): FieldLookup {
    const entries = this.matching(patterns);
    return (path) => {
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
  }

  /**
   * An example of a type, for a listener that may receive it.
   *
   * @throws BadRequestError `UNKNOWN_EVENT_TYPE`, `INVALID_PATTERN`, `OWNER_NOT_DECLARED`
   */
  exampleOf(type: string, isOwned: boolean): ExampleEvent {
    this.checkPatterns([type], isOwned);
    const entry = this.entries().find((known) => known.type === type);
    if (entry) return entry.example();
    throw new BadRequestError('UNKNOWN_EVENT_TYPE', `'${type}' is no event type but a pattern: name one type.`, {
      details: { pattern: type },
    });
  }

  has(type: string): boolean {
    return this.matching([type]).length > 0;
  }

  /** All types, sorted. */
  types(): string[] {
    return this.entries()
      .map((entry) => entry.type)
      .toSorted();
  }

  private matching(patterns: readonly string[]): CatalogEntry[] {
    return this.entries().filter(({ type }) => patterns.some((pattern) => matchesPattern(pattern, type)));
  }

  private entries(): CatalogEntry[] {
    const entries: CatalogEntry[] = [];
    for (const definition of this.registry.all()) {
      for (const action of ENTITY_ACTIONS) {
        if (!definition.actions.has(action)) continue;
        entries.push({
          type: definition.typeOf(action),
          ownership: definition.ownership,
          fieldOf: (path) => this.entityField(definition, path),
          example: () => exampleOfEntity(definition, action),
        });
      }
    }
    for (const published of this.publishes.values()) {
      const { type, fields } = published;
      const fieldOf = fields ? publishedFields(fields) : undefined;
      entries.push({ type, ownership: 'declared', fieldOf, example: () => exampleOfPublished(published) });
    }
    return entries;
  }

  /** A child's events reach listeners of the parent, so a filter on the parent may name what only children have. */
  private entityField(definition: EntityDefinition, path: string): FieldInfo | undefined {
    const family = [definition, ...this.registry.all().filter((other) => isChildOf(other, definition))];
    for (const member of family) {
      const info = fieldInfo(member.fields, path);
      if (info) return info;
    }
    return undefined;
  }
}

const ANY_FIELD: FieldInfo = { numeric: false, routable: false };

function isChildOf(definition: EntityDefinition, ancestor: EntityDefinition): boolean {
  return definition.parent !== null && (definition.parent === ancestor || isChildOf(definition.parent, ancestor));
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
  // Inside a JSON column any path may be asked for.
  const json = fields.find((field) => path.startsWith(`${field.path}.`) && !field.routable);
  return json && { numeric: false, routable: false, column: json.path };
}
