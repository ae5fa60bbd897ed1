import type { DataSource, EntityMetadata, EntitySchema } from 'typeorm';
import { ConfigurationError } from '../errors.js';
import { snakeCase } from '../events/event-type.js';
import { EntityDefinition } from './entity-definition.js';
import { rootOf } from './single-table.js';
import { webhookOptionsOf, type CaptureMode, type EntityClass, type WebhookOptions } from './webhook.decorator.js';

/** One entry of `forFeature`. */
export interface RegisteredEntity {
  readonly entity: EntityClass | EntitySchema;
  /** `undefined`: what the decorator on the class says. */
  readonly options?: WebhookOptions;
}

/** Whose links stand in a junction. */
export interface LinkOwners {
  /** The entity that owns them; in a single table its root. */
  readonly metadata: EntityMetadata;
  /** The junction's, by TypeORM. */
  readonly junction: EntityMetadata;
}

/** Which entities tell of their changes. Filled by `forFeature` while modules are made, resolved once at bootstrap. */
export class EntityRegistry {
  private readonly registered: RegisteredEntity[] = [];
  private readonly definitions = new Map<EntityMetadata, EntityDefinition>();
  /** By the path of the junction's table. */
  private readonly linkOwners = new Map<string, LinkOwners[]>();
  private served: { dataSource: DataSource; name: string; capture: CaptureMode } | null = null;
  /** The metadata that the definitions were made of; a data source that is opened again has new ones. */
  private resolvedFrom: readonly EntityMetadata[] | null = null;
  private made = 0;

  register(entities: readonly RegisteredEntity[]): void {
    this.registered.push(...entities);
    this.resolvedFrom = null;
  }

  /** Registers every entity of a data source that carries the decorator, for programs that have no modules. */
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
   * Names the data source whose metadata the entities are looked up in.
   *
   * @param capture of entities that do not say it themselves
   */
  serve(dataSource: DataSource, name: string, capture: CaptureMode): void {
    this.served = { dataSource, name, capture };
  }

  /**
   * Looks up every entity; does nothing when that is done. Asked for at bootstrap, or before it by the first write.
   *
   * @throws ConfigurationError for an entity that is unknown here, is named twice, or whose options do not fit.
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
          `${metadata.name} is in WebhooksModule.forFeature([...]) but has no @Webhook(). Decorate it, or register it with options: { entity: ${metadata.name}, fields: [...] }.`,
        );
      }
      optionsOf.set(metadata, resolved);
    }
    // A parent stands before its children, so that each finds its parent's definition.
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

  /** As {@link definitionOf}, of entities that are captured by what TypeORM does: triggers tell of the others. */
  definitionForOrm(metadata: EntityMetadata): EntityDefinition | undefined {
    const definition = this.definitionOf(metadata);
    return definition?.capture === 'orm' ? definition : undefined;
  }

  /** Entities that tell of the links in a table, which are captured by what TypeORM does. */
  linkOwnersIn(tablePath: string): readonly LinkOwners[] {
    this.resolve();
    return this.linkOwners.get(tablePath) ?? [];
  }

  /** The definition of an entity as an application names it, or `undefined` when its changes make no events. */
  find(dataSource: DataSource, entity: EntityClass | EntitySchema | string): EntityDefinition | undefined {
    return dataSource.hasMetadata(entity) ? this.definitionOf(dataSource.getMetadata(entity)) : undefined;
  }

  /** How often the definitions were made. */
  get definitionsMade(): number {
    this.resolve();
    return this.made;
  }

  /** What the definitions are made of: another array when the data source was opened again. */
  get basis(): readonly EntityMetadata[] | null {
    this.resolve();
    return this.resolvedFrom;
  }

  all(): EntityDefinition[] {
    this.resolve();
    return [...this.definitions.values()];
  }

  /** Entities that carry the decorator but are in no `forFeature`: their events would silently never come. */
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
    // A child of a single table is told of as its parent is, under its own name.
    const inherited = parent ? optionsOf.get(parent.metadata) : undefined;
    const options = own ?? { ...inherited, name: undefined };
    const capture = options.capture ?? parent?.capture ?? byDefault;
    const definition = new EntityDefinition(metadata, options.name ?? snakeCase(metadata.name), options, capture);
    definition.parent = parent;
    this.definitions.set(metadata, definition);
    if (!own) (optionsOf as Map<EntityMetadata, WebhookOptions>).set(metadata, options);
  }

  /** The nearest: TypeORM names the root of a table as the parent of every child, also of a child's child. */
  private parentOf(metadata: EntityMetadata): EntityDefinition | null {
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- undefined outside single tables, whatever the type says
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
      // Each kind of a single table has the relation of its own.
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

/** What `@Webhook()` says on an entity's class, or, but for the name, on a base class of it that is no entity itself. */
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

/** The classes that an entity's class extends, the nearest first. Not `inheritanceTree`: that of a parent holds its children. */
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
    `${name} is in WebhooksModule.forFeature([...]) but the data source '${dataSourceName}' does not know it. Add it to that data source's entities (TypeOrmModule.forFeature([${name}]) with autoLoadEntities), or name its data source: WebhooksModule.forFeature([${name}], '…').`,
  );
}
