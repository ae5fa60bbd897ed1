import type { DataSource, EntityMetadata, EntitySchema } from 'typeorm';
import { ConfigurationError } from '../errors.js';
import { snakeCase } from '../events/event-type.js';
import { EntityDefinition } from './entity-definition.js';
import { rootOf } from './single-table.js';
import { webhookOptionsOf, type CaptureMode, type EntityClass, type WebhookOptions } from './webhook.decorator.js';

/** One entry of `forFeature`. */
export interface RegisteredEntity {
  readonly entity: EntityClass | EntitySchema;
  /** The options beside the entity. If `undefined`, the options of the decorator apply. */
  readonly options?: WebhookOptions;
}

/** An entity whose links are in a junction table. */
export interface LinkOwners {
  /** The entity that owns the links; in a single table, the root. */
  readonly metadata: EntityMetadata;
  /** TypeORM's metadata of the junction table. */
  readonly junction: EntityMetadata;
}

/**
 * The entities whose changes are captured. `forFeature` registers entities while modules are created. The entities are resolved once, at
 * bootstrap.
 */
export class EntityRegistry {
  private readonly registered: RegisteredEntity[] = [];
  private readonly definitions = new Map<EntityMetadata, EntityDefinition>();
  /** Keys are the table paths of the junctions. */
  private readonly linkOwners = new Map<string, LinkOwners[]>();
  private served: { dataSource: DataSource; name: string; capture: CaptureMode } | null = null;
  /** The metadata from which the definitions were made. A data source that is opened again has new metadata. */
  private resolvedFrom: readonly EntityMetadata[] | null = null;
  /** How often the definitions were made. */
  private made = 0;

  register(entities: readonly RegisteredEntity[]): void {
    this.registered.push(...entities);
    this.resolvedFrom = null;
  }

  /** Registers every decorated entity of a data source, for programs without Nest modules. */
  registerDecorated(dataSource: DataSource): void {
    const named = new Set(this.registered.map(({ entity }) => entity));
    for (const metadata of dataSource.entityMetadatas) {
      const { target } = metadata;
      if (typeof target === 'function' && !named.has(target as EntityClass) && decorationOf(metadata, dataSource)) {
        this.register([{ entity: target as EntityClass }]);
      }
    }
  }

  /**
   * Sets the data source in whose metadata the entities are looked up.
   *
   * @param capture the mode of entities that do not set one
   */
  serve(dataSource: DataSource, name: string, capture: CaptureMode): void {
    this.served = { dataSource, name, capture };
  }

  /**
   * Makes the definitions, unless they are up to date. The bootstrap calls this method. A write before the bootstrap
   * calls it earlier.
   *
   * @throws ConfigurationError for an entity that the data source does not know, for two entities with the same name, or for
   * invalid options
   */
  resolve(): void {
    if (!this.served || this.resolvedFrom === this.served.dataSource.entityMetadatas) return;
    const { dataSource, name: dataSourceName } = this.served;
    this.definitions.clear();
    this.linkOwners.clear();
    const optionsOf = new Map<EntityMetadata, WebhookOptions>();
    for (const { entity, options } of this.registered) {
      if (!dataSource.hasMetadata(entity)) throw notInDataSource(entity, dataSourceName);
      const metadata = dataSource.getMetadata(entity);
      const resolved = options ?? decorationOf(metadata, dataSource);
      if (!resolved) {
        throw new ConfigurationError(
          'ENTITY_NOT_DECORATED',
          `${metadata.name} is in WebhooksModule.forFeature([...]) but has no @Webhook(). Decorate the entity, or register the entity with options: { entity: ${metadata.name}, fields: [...] }.`,
        );
      }
      optionsOf.set(metadata, resolved);
    }
    // Parents come first. So each child finds the definition of its parent.
    const metadatas = dataSource.entityMetadatas.toSorted((a, b) => ancestors(a).length - ancestors(b).length);
    for (const metadata of metadatas) this.define(metadata, optionsOf, this.served.capture);
    this.refuseSameNames();
    for (const definition of this.definitions.values()) this.noteLinks(definition);
    this.resolvedFrom = dataSource.entityMetadatas;
    this.made++;
  }

  definitionOf(metadata: EntityMetadata): EntityDefinition | undefined {
    this.resolve();
    return this.definitions.get(metadata);
  }

  /** Like {@link definitionOf}, but returns `undefined` for entities that triggers capture. */
  definitionForOrm(metadata: EntityMetadata): EntityDefinition | undefined {
    const definition = this.definitionOf(metadata);
    return definition?.capture === 'orm' ? definition : undefined;
  }

  /** Entities whose events contain the links of a junction table. Links are captured through TypeORM only. */
  linkOwnersIn(tablePath: string): readonly LinkOwners[] {
    this.resolve();
    return this.linkOwners.get(tablePath) ?? [];
  }

  /** Returns the definition of this entity, or `undefined` if changes of this entity make no events. */
  find(dataSource: DataSource, entity: EntityClass | EntitySchema | string): EntityDefinition | undefined {
    return dataSource.hasMetadata(entity) ? this.definitionOf(dataSource.getMetadata(entity)) : undefined;
  }

  /**
   * Returns a function that computes a value from the definitions with `make`. The function computes the value once, and again after the
   * definitions have been made again.
   */
  derived<T>(make: (definitions: readonly EntityDefinition[]) => T): () => T {
    let known: { readonly madeOf: number; readonly value: T } | undefined;
    return () => {
      this.resolve();
      if (known?.madeOf !== this.made) known = { madeOf: this.made, value: make([...this.definitions.values()]) };
      return known.value;
    };
  }

  all(): EntityDefinition[] {
    this.resolve();
    return [...this.definitions.values()];
  }

  /** Decorated entities that no `forFeature` lists. These entities make no events, so the bootstrap warns about them. */
  forgotten(dataSource: DataSource): string[] {
    return dataSource.entityMetadatas
      .filter((metadata) => decorationOf(metadata, dataSource) && !this.definitions.has(metadata))
      .map((metadata) => metadata.name);
  }

  private define(
    metadata: EntityMetadata,
    optionsOf: ReadonlyMap<EntityMetadata, WebhookOptions>,
    byDefault: CaptureMode,
  ): void {
    const parent = this.parentOf(metadata);
    const own = optionsOf.get(metadata) ?? (parent ? webhookOptionsOf(metadata.target) : undefined);
    if (!own && !parent) return;
    // A child in a single table has the options of its parent, but a separate name.
    const inherited = parent ? optionsOf.get(parent.metadata) : undefined;
    const options = own ?? { ...inherited, name: undefined };
    const capture = options.capture ?? parent?.capture ?? byDefault;
    const definition = new EntityDefinition(metadata, options.name ?? snakeCase(metadata.name), options, capture);
    definition.parent = parent;
    this.definitions.set(metadata, definition);
    if (!own) (optionsOf as Map<EntityMetadata, WebhookOptions>).set(metadata, options);
  }

  /** The nearest captured ancestor. TypeORM's `parentEntityMetadata` is the root of the table, even for a grandchild. */
  private parentOf(metadata: EntityMetadata): EntityDefinition | null {
    // `parentEntityMetadata` is undefined outside single-table inheritance, although TypeORM's type says otherwise.
    if (!metadata.parentEntityMetadata) return null;
    const definitions = [...this.definitions.values()];
    for (const ancestor of ancestors(metadata)) {
      const parent = definitions.find((definition) => definition.metadata.target === ancestor);
      if (parent) return parent;
    }
    return null;
  }

  private noteLinks(definition: EntityDefinition): void {
    if (!definition.needs('updated')) return;
    const metadata = rootOf(definition.metadata);
    for (const { relation } of definition.linkFields) {
      const junction = relation?.junctionEntityMetadata;
      if (!junction) continue;
      const owners = this.linkOwners.get(junction.tablePath) ?? [];
      // Each entity of a single table repeats the relation, with the same root.
      if (!owners.some((known) => known.metadata === metadata)) owners.push({ metadata, junction });
      this.linkOwners.set(junction.tablePath, owners);
    }
  }

  private refuseSameNames(): void {
    const byName = new Map<string, EntityDefinition>();
    for (const definition of this.definitions.values()) {
      const other = byName.get(definition.name);
      if (other) {
        throw new ConfigurationError(
          'DUPLICATE_EVENT_NAME',
          `${definition.metadata.name} and ${other.metadata.name} would both make '${definition.name}.*' events. Give one of them @Webhook({ name: '…' }).`,
        );
      }
      byName.set(definition.name, definition);
    }
  }
}

/** The `@Webhook()` options of an entity's class. An entity inherits the options of a base class that is no entity, except the name. */
function decorationOf(metadata: EntityMetadata, dataSource: DataSource): WebhookOptions | undefined {
  for (const base of [metadata.target, ...ancestors(metadata)]) {
    if (base !== metadata.target && dataSource.hasMetadata(base as EntityClass)) return undefined;
    const options = webhookOptionsOf(base);
    if (!options) continue;
    if (base === metadata.target) return options;
    const { name: _, ...inherited } = options;
    return inherited;
  }
  return undefined;
}

/** The classes that an entity's class extends, the nearest first. TypeORM's `inheritanceTree` of a parent also contains its children. */
function ancestors({ target }: EntityMetadata): unknown[] {
  const found: unknown[] = [];
  for (let above: unknown = target; typeof above === 'function'; found.push(above))
    above = Object.getPrototypeOf(above);
  return found;
}

function notInDataSource(entity: EntityClass | EntitySchema, dataSourceName: string): ConfigurationError {
  const name = typeof entity === 'function' ? entity.name : entity.options.name;
  return new ConfigurationError(
    'ENTITY_NOT_IN_DATA_SOURCE',
    `${name} is in WebhooksModule.forFeature([...]) but the data source '${dataSourceName}' does not know this entity. Add the entity to the entities of that data source (TypeOrmModule.forFeature([${name}]) with autoLoadEntities), or name its data source: WebhooksModule.forFeature([${name}], '…').`,
  );
}
