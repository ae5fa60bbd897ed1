import type { EntityMetadata, ObjectLiteral } from 'typeorm';
import type { ConfigurationError } from '../errors.js';
import { EVERY_OWNER, type Audience } from '../events/webhook-event.js';
import type { Json } from '../json.js';
import { knownNames } from '../known-names.js';
import { isOwnerText, OWNER_TEXTS } from '../owner.js';
import { canonicalValue, isScalarColumn, Unserializable, type ColumnMetadata } from './canonical-value.js';
import { checkWebhookOptions, wrongOption } from './check-webhook-options.js';
import { wrongActionDescription, wrongDescription, wrongFieldDescription } from './described-type.js';
import { CaptureError } from './errors.js';
import { foreignKeyOf, hasOwnColumn, keyOfRelation, referredPath } from './foreign-keys.js';
import { linkedIds } from './linked-ids.js';
import { allFields, columnFields, visibilityOf, type OutField, type RelationMetadata } from './out-field.js';
import { ENTITY_ACTIONS, type CaptureMode, type EntityAction, type WebhookOptions } from './webhook.decorator.js';
import type { WrongDescription } from './wrong-description.js';

/**
 * A row from the database: the hydrated entity, and the values that are lost when TypeORM hydrates an entity (foreign keys,
 * SQLite's big integers).
 */
export interface RowImage {
  /** The primary key as text, as the database returns it. */
  readonly key: string;
  readonly entity: ObjectLiteral;
  readonly exact: ReadonlyMap<string, unknown>;
}

/** How an owner is declared; see `docs/owners.md`. */
export type Ownership = 'undeclared' | 'declared' | 'every';

/** An entity whose changes are captured: its options, resolved against TypeORM's metadata once, at bootstrap. */
export class EntityDefinition {
  readonly fields: readonly OutField[];
  /** The fields of the option `ignore`. A change of these fields alone makes no event. */
  readonly ignored: ReadonlySet<OutField>;
  readonly actions: ReadonlySet<EntityAction>;
  /** `undeclared` for an internal entity, whatever it declares: only listeners without an owner receive its events. */
  readonly ownership: Ownership;
  readonly isInternal: boolean;
  /** The newest version of the payloads. */
  readonly version: number;
  /** Relations whose foreign key must be known to decide the owner of a row. */
  readonly ownerRelations: readonly RelationMetadata[];
  /** Relations whose foreign key must be known to capture a row: for the payload, for the owner, or because `when` may read it. */
  readonly relationsNeeded: readonly RelationMetadata[];
  /** Columns that are in the payload, decide the owner, or, with `coalesce`, show whether a row was soft-deleted. */
  readonly columnsNeeded: readonly ColumnMetadata[];
  /** Columns with `select: false` that capture needs. Capture must select these columns explicitly. They are not in the payload. */
  readonly hiddenColumnsNeeded: readonly ColumnMetadata[];
  /** Fields whose values are in junction tables, not in the row. */
  readonly linkFields: readonly OutField[];
  /** Top-level payload fields that hold the primary key. */
  readonly identity: readonly string[];
  /** The definition of the parent entity in a single table; `null` if the changes of the parent are not captured. */
  parent: EntityDefinition | null = null;

  constructor(
    readonly metadata: EntityMetadata,
    /** First part of the entity's event types. */
    readonly name: string,
    readonly options: WebhookOptions,
    readonly capture: CaptureMode = 'orm',
  ) {
    checkWebhookOptions({ metadata, name, options, capture });
    this.actions = new Set(options.on ?? ENTITY_ACTIONS);
    this.fields = this.resolveFields();
    this.linkFields = this.fields.filter(({ isLinks }) => isLinks);
    for (const field of this.linkFields) this.refuseLinks(field);
    this.ignored = this.resolveIgnored();
    this.checkDescriptions();
    this.isInternal = options.visibility === 'internal';
    this.version = options.version ?? 1;
    const ownership = this.resolveOwnership();
    this.ownership = this.isInternal ? 'undeclared' : ownership;
    const { owner, when } = options;
    const owning = metadata.relations.filter(hasOwnColumn);
    this.ownerRelations = owning.filter(({ propertyPath }) => typeof owner === 'function' || propertyPath === owner);
    const sent = new Set(this.fields.map((field) => field.relation));
    this.relationsNeeded = owning.filter(
      (relation) => when !== undefined || sent.has(relation) || this.ownerRelations.includes(relation),
    );
    const sentColumns = new Set(this.fields.map((field) => (field.relation ? null : field.column)));
    this.columnsNeeded = metadata.columns.filter((column) => sentColumns.has(column) || this.readsBesides(column));
    this.hiddenColumnsNeeded = this.columnsNeeded.filter((column) => !column.isSelect && this.readsBesides(column));
    const primary = new Set(metadata.primaryColumns.map((column) => column.propertyPath.split('.')[0]));
    this.identity = [...new Set(this.fields.map((field) => field.parts[0] ?? ''))].filter((key) => primary.has(key));
  }

  typeOf(action: EntityAction): string {
    return `${this.name}.${action}`;
  }

  superTypesOf(action: EntityAction): string[] {
    return this.parent ? [this.parent.typeOf(action), ...this.parent.superTypesOf(action)] : [];
  }

  /** Whether capture reads a column even if it is not in the payload. */
  private readsBesides(column: ColumnMetadata): boolean {
    const { owner, coalesce } = this.options;
    return (column.propertyPath === owner && !column.isVirtual) || (coalesce === true && column.isDeleteDate);
  }

  /** One field of a row as it is written in a payload. @throws CaptureError `UNSERIALIZABLE_FIELD` */
  valueOf(field: OutField, image: RowImage): Json {
    const { column, relation } = field;
    let value: unknown = image.exact.get(field.path);
    if (value === undefined && !field.isLinks) {
      value = relation ? foreignKeyOf(relation, image.entity) : column.getEntityValue(image.entity);
    }
    try {
      if (field.isLinks) return linkedIds(field, value);
      if (relation && relation.joinColumns.length > 1) return keyOfRelation(relation, value);
      return canonicalValue(value, field.kind, column);
    } catch (cause) {
      // A `toJSON()` may throw any error. A value that is too deep for the stack causes a RangeError.
      const reason = cause instanceof Unserializable ? cause.message : 'its conversion to JSON threw (see cause)';
      throw new CaptureError(
        'UNSERIALIZABLE_FIELD',
        `${this.metadata.name}.${field.path} cannot be written into an event: ${reason}. Give the column a transformer, or exclude the column with @WebhookHidden().`,
        { cause, details: { entity: this.metadata.name, field: field.path } },
      );
    }
  }

  /**
   * The owner of a row, and who may receive its events.
   *
   * @throws CaptureError `OWNER_FAILED` when the `owner` function throws, `INVALID_OWNER` for a value that cannot be the
   * owner of a listener
   */
  ownerOf(image: RowImage): { audience: Audience; owner: string | null } {
    const { owner } = this.options;
    if (owner === undefined || this.isInternal) return { audience: 'application', owner: null };
    if (owner === EVERY_OWNER) return { audience: 'every', owner: null };
    const value = typeof owner === 'function' ? this.call('owner', () => owner(image.entity)) : this.ownerValue(image);
    if (!isOwnerValue(value)) {
      throw new CaptureError(
        'INVALID_OWNER',
        `Invalid owner of a row of ${this.metadata.name}: ${typeof value === 'object' ? (value?.constructor.name ?? 'an object') : String(value)}. The write is rolled back. Allowed: a string, a number or a bigint, not an object or a Promise. \`owner\` must give the owner's id.`,
        { details: { entity: this.metadata.name, option: 'owner' } },
      );
    }
    const text = value === null || value === undefined ? '' : String(value);
    if (text === '') return { audience: 'application', owner: null };
    if (!isOwnerText(text)) {
      throw new CaptureError(
        'INVALID_OWNER',
        `Invalid owner of a row of ${this.metadata.name}: a text of ${text.length} characters. The write is rolled back. Allowed: ${OWNER_TEXTS}. \`owner\` must give the owner's id.`,
        { details: { entity: this.metadata.name, option: 'owner' } },
      );
    }
    return { audience: 'owner', owner: text };
  }

  /**
   * Whether an action must be captured. An action must be captured if the action makes an event, or if it may be
   * merged with an action that makes an event.
   */
  needs(action: EntityAction): boolean {
    return this.actions.has(action) || this.options.coalesce === true;
  }

  /** Whether an action on a row makes an event. @throws CaptureError `WHEN_FAILED` when the `when` function throws */
  wants(action: EntityAction, image: RowImage): boolean {
    const { when } = this.options;
    return this.actions.has(action) && (!when || this.call('when', () => decided(when(image.entity, action))));
  }

  private ownerValue(image: RowImage): unknown {
    const path = this.options.owner as string;
    const exact = image.exact.get(path);
    if (exact !== undefined) return exact;
    const column = this.metadata.findColumnWithPropertyPathStrict(path);
    const relation = this.metadata.findRelationWithPropertyPath(path);
    if (relation && hasOwnColumn(relation)) return foreignKeyOf(relation, image.entity);
    return column?.getEntityValue(image.entity);
  }

  private call<T>(option: 'owner' | 'when', run: () => T): T {
    try {
      return run();
    } catch (cause) {
      throw new CaptureError(
        `${option.toUpperCase()}_FAILED`,
        `The \`${option}\` function of ${this.metadata.name} threw (see cause). The write is rolled back, because without a result of the function the event could be lost or reach the wrong listeners. Make the function return a value for every row.`,
        { cause, details: { entity: this.metadata.name, option } },
      );
    }
  }

  private resolveFields(): OutField[] {
    const leaves = visibilityOf(this.metadata);
    const { fields: named } = this.options;
    // Links are read and locked with each write of their row. This costs time, so links are fields only if the
    // option names them.
    if (!named) return columnFields(this.metadata).filter(leaves);
    const all = allFields(this.metadata);

    const chosen = new Set<OutField>();
    for (const name of named) {
      const matching = all.filter((field) => field.path === name || field.path.startsWith(`${name}.`));
      if (!matching.length) {
        const other = this.metadata.findRelationWithPropertyPath(name);
        if (other?.isManyToManyNotOwner) {
          throw this.wrong(
            'fields',
            name,
            `Links belong to the side with the @JoinTable(): name '${other.inverseSidePropertyPath}' in @Webhook() of ${other.inverseEntityMetadata.name}`,
          );
        }
        throw this.unknownProperty('fields', name);
      }
      const secret = matching.find((field) => !leaves(field));
      if (secret) {
        throw this.wrong(
          'fields',
          secret.path,
          'The column is `select: false`, @WebhookHidden() or @Exclude(), and no payload contains such columns: remove it from `fields`',
        );
      }
      for (const field of matching) chosen.add(field);
    }
    return all.filter((field) => chosen.has(field));
  }

  /** `ignore` may name columns that are not in the payload. Changes of these columns make no event anyway. */
  private resolveIgnored(): Set<OutField> {
    const { ignore = [] } = this.options;
    if (!Array.isArray(ignore)) throw this.wrong('ignore', String(ignore), 'Allowed: a list of properties');
    const all = allFields(this.metadata);
    const ignored = new Set<string>();
    for (const name of ignore as string[]) {
      const matching = all.filter(({ path }) => path === name || path.startsWith(`${name}.`));
      if (!matching.length) throw this.unknownProperty('ignore', name);
      for (const { path } of matching) ignored.add(path);
    }
    return new Set(this.fields.filter(({ path }) => ignored.has(path)));
  }

  private refuseLinks({ path, relation }: OutField): void {
    if (this.capture === 'trigger') {
      throw this.wrong(
        'fields',
        path,
        "Its links are in another table, and triggers do not capture changes of that table: use capture: 'orm', or name columns only",
      );
    }
    const { primaryColumns } = this.metadata;
    const referred = relation?.junctionEntityMetadata?.ownerColumns.map(referredPath) ?? [];
    const isKey = primaryColumns.every(({ propertyPath }) => referred.includes(propertyPath));
    if (isKey && referred.length === primaryColumns.length) return;
    throw this.wrong('fields', path, 'Its @JoinTable() must refer to the primary key and to no other column');
  }

  private checkDescriptions(): void {
    const { options } = this;
    const paths = this.fields.map(({ path }) => path);
    const mistake: WrongDescription | undefined =
      wrongDescription(options as Readonly<Record<string, unknown>>) ??
      wrongFieldDescription(options.describe, paths) ??
      wrongActionDescription(options.events, [...this.actions]);
    if (mistake) throw this.wrong(mistake.option, mistake.value, mistake.fix);
  }

  private resolveOwnership(): Ownership {
    const { owner } = this.options;
    if (owner === undefined) return 'undeclared';
    if (owner === EVERY_OWNER) return 'every';
    if (typeof owner === 'function') return 'declared';
    const column = this.metadata.findColumnWithPropertyPathStrict(owner);
    const relation = this.metadata.findRelationWithPropertyPath(owner);
    if (!column && !relation) {
      const names = columnFields(this.metadata).map(({ path }) => path);
      throw this.wrong(
        'owner',
        String(owner),
        `Allowed: a column, a function of the row, or EVERY_OWNER.${knownNames(String(owner), names).slice(0, -1)}`,
      );
    }
    const [join, ...others] = relation?.joinColumns ?? [];
    const typed = column && !column.isVirtual ? column : (join?.referencedColumn ?? join);
    // The text of an object or an array does not identify an owner.
    if (!typed || others.length || !(typed.transformer || isScalarColumn(typed))) {
      throw this.wrong('owner', owner, 'Allowed: a column that holds a single id, or a function of the row');
    }
    return 'declared';
  }

  private unknownProperty(option: string, name: string): ConfigurationError {
    const names = allFields(this.metadata).map(({ path }) => path);
    return this.wrong(
      option,
      name,
      `${this.metadata.name} has no such property.${knownNames(name, names).slice(0, -1)}`,
    );
  }

  private wrong(option: string, value: string, fix: string): ConfigurationError {
    return wrongOption(this.metadata, option, value, fix);
  }
}

/**
 * Whether a value can be an owner. An object cannot be an owner, because many objects have the same text, such as
 * `[object Object]`.
 */
function isOwnerValue(value: unknown): value is string | number | bigint | boolean | null | undefined {
  if (typeof value === 'number') return !Number.isNaN(value);
  return value === null || ['string', 'bigint', 'boolean', 'undefined'].includes(typeof value);
}

/** Rejects a Promise, because a Promise would always count as true. */
function decided(answer: unknown): boolean {
  if (typeof (answer as { then?: unknown } | null | undefined)?.then === 'function') {
    throw new TypeError('`when` returned a Promise. Return a boolean.');
  }
  return Boolean(answer);
}
