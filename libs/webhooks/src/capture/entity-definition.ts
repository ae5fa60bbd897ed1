import { getMetadataArgsStorage, type EntityMetadata, type ObjectLiteral } from 'typeorm';
import { ConfigurationError } from '../errors.js';
import type { Json, JsonObject } from '../events/json.js';
import { EVERY_OWNER, type Audience } from '../events/webhook-event.js';
import { knownNames } from '../known-names.js';
import { isOwnerText, MAX_OWNER_LENGTH } from '../owner.js';
import { dialectOf } from '../store/column-kinds.js';
import {
  canonicalValue,
  isNumericColumn,
  isScalarColumn,
  mayLoseMicroseconds,
  Unserializable,
  valueKindOf,
  type ColumnMetadata,
  type ValueKind,
} from './canonical-value.js';
import { CaptureError } from './errors.js';
import {
  compositeKey,
  firstOwnColumn,
  foreignKeyOf,
  hasOwnColumn,
  keyOfRelation,
  relationsAt,
  typingColumn,
} from './foreign-keys.js';
import { exposureOf } from './exposed-properties.js';
import { referredPath } from './junction-columns.js';
import { isPure } from './triggers/pure.js';
import {
  CAPTURE_MODES,
  ENTITY_ACTIONS,
  hiddenProperties,
  ORDERINGS,
  type CaptureMode,
  type EntityAction,
  type WebhookOptions,
} from './webhook.decorator.js';

type RelationMetadata = EntityMetadata['relations'][number];

/** One property that goes out. */
export interface OutField {
  /** `status`, `address.city`; for a relation the name of its property, holding the id of the other row, or of each linked one. */
  readonly path: string;
  readonly parts: readonly string[];
  readonly column: ColumnMetadata;
  readonly relation: RelationMetadata | null;
  /** Its value is the sorted ids of the rows that a `@JoinTable` links with this one. */
  readonly isLinks: boolean;
  readonly kind: ValueKind;
  readonly numeric: boolean;
  readonly routable: boolean;
  /** Kept by the database or TypeORM itself (update date, version): its change alone is no event. */
  readonly automatic: boolean;
}

/** A row as it was read: the hydrated entity, and values that hydration loses (foreign keys, SQLite's big integers). */
export interface RowImage {
  /** Text of its primary key, as the database gives it. */
  readonly key: string;
  readonly entity: ObjectLiteral;
  readonly exact: ReadonlyMap<string, unknown>;
}

/** How an owner is declared; see `docs/owners.md`. */
export type Ownership = 'undeclared' | 'declared' | 'every';

/** A misspelt one would be a default that nobody asked for: every column, every owner. */
const OPTION_KEYS: readonly string[] = [
  'name',
  'on',
  'fields',
  'owner',
  'when',
  'ordering',
  'readInserted',
  'ignore',
  'coalesce',
  'exactPrevious',
  'capture',
  'example',
] satisfies (keyof WebhookOptions)[];

const SWITCHES = ['readInserted', 'coalesce', 'exactPrevious'] as const;

/** An entity that tells of its changes: options resolved against TypeORM's metadata, once, at bootstrap. */
export class EntityDefinition {
  readonly fields: readonly OutField[];
  /** Those of them whose change alone is no event. */
  readonly ignored: ReadonlySet<OutField>;
  readonly actions: ReadonlySet<EntityAction>;
  readonly ownership: Ownership;
  /** Relations whose foreign key must be known to tell whose a row is. */
  readonly ownerRelations: readonly RelationMetadata[];
  /** Relations whose foreign key must be known to tell of a row at all: those that go out, too, and those `when` may look at. */
  readonly relationsNeeded: readonly RelationMetadata[];
  /** Columns whose value is told or decides the owner. */
  readonly columnsNeeded: readonly ColumnMetadata[];
  /** Those of the fields that stand in junctions, not in the row. */
  readonly linkFields: readonly OutField[];
  /** Top-level payload fields that hold the primary key. */
  readonly identity: readonly string[];
  /** The definition of the entity this one inherits from in a single table, when that tells of its changes too. */
  parent: EntityDefinition | null = null;

  constructor(
    readonly metadata: EntityMetadata,
    /** First part of its event types. */
    readonly name: string,
    readonly options: WebhookOptions,
    /** Who notices its changes. */
    readonly capture: CaptureMode = 'orm',
  ) {
    if (!/^[a-z0-9_]+$/.test(name) || name.length > 100) {
      throw this.wrong('name', name, 'Use lower case letters, digits and underscores, at most 100');
    }
    const misspelt = Object.keys(options).find((key) => !OPTION_KEYS.includes(key));
    if (misspelt !== undefined) {
      throw new ConfigurationError(
        'INVALID_WEBHOOK_OPTIONS',
        `@Webhook() of ${metadata.name} has no option \`${misspelt}\`.${knownNames(misspelt, OPTION_KEYS)}`,
        { details: { entity: metadata.name, option: misspelt } },
      );
    }
    const unknown = options.on?.filter((action) => !ENTITY_ACTIONS.includes(action));
    if (unknown?.length) throw this.wrong('on', unknown.join(', '), `Use ${ENTITY_ACTIONS.join(', ')}`);
    const { ordering = 'none' } = options;
    if (!ORDERINGS.includes(ordering)) throw this.wrong('ordering', ordering, `Use ${ORDERINGS.join(' or ')}`);
    if (!CAPTURE_MODES.includes(capture)) throw this.wrong('capture', capture, `Use ${CAPTURE_MODES.join(' or ')}`);
    if (capture === 'trigger') this.refuseWhatTriggersCannot();
    else this.refuseKeysOfMicroseconds();
    this.actions = new Set(options.on ?? ENTITY_ACTIONS);
    for (const option of SWITCHES) {
      const value: unknown = options[option];
      if (value !== undefined && typeof value !== 'boolean')
        throw this.wrong(option, String(value), 'Say true or false');
    }
    this.fields = this.resolveFields();
    this.linkFields = this.fields.filter(({ isLinks }) => isLinks);
    for (const field of this.linkFields) this.refuseLinks(field);
    this.ignored = this.resolveIgnored();
    this.ownership = this.resolveOwnership();
    const { owner, when } = options;
    const owning = metadata.relations.filter(hasOwnColumn);
    this.ownerRelations = owning.filter(({ propertyPath }) => typeof owner === 'function' || propertyPath === owner);
    const told = new Set(this.fields.map((field) => field.relation));
    this.relationsNeeded = owning.filter(
      (relation) => when !== undefined || told.has(relation) || this.ownerRelations.includes(relation),
    );
    const toldColumns = new Set(this.fields.map((field) => (field.relation ? null : field.column)));
    this.columnsNeeded = metadata.columns.filter(
      (column) => toldColumns.has(column) || (column.propertyPath === owner && !column.isVirtual),
    );
    const primary = new Set(metadata.primaryColumns.map((column) => column.propertyPath.split('.')[0]));
    this.identity = [...new Set(this.fields.map((field) => field.parts[0] ?? ''))].filter((key) => primary.has(key));
  }

  typeOf(action: EntityAction): string {
    return `${this.name}.${action}`;
  }

  superTypesOf(action: EntityAction): string[] {
    return this.parent ? [this.parent.typeOf(action), ...this.parent.superTypesOf(action)] : [];
  }

  /** Columns that must be selected although they are `select: false`: the owner's. They do not go out. */
  get hiddenColumnsNeeded(): ColumnMetadata[] {
    const { owner } = this.options;
    return this.metadata.columns.filter((column) => column.propertyPath === owner && !column.isSelect);
  }

  /** The payload's `data` of a row. @throws CaptureError `UNSERIALIZABLE_FIELD` */
  dataOf(image: RowImage): JsonObject {
    const data: JsonObject = {};
    for (const field of this.fields) setPath(data, field.parts, this.valueOf(field, image));
    return data;
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
      // A `toJSON()` may throw anything, and a value too deep for the stack a RangeError.
      const reason = cause instanceof Unserializable ? cause.message : 'writing it as JSON threw (see cause)';
      throw new CaptureError(
        'UNSERIALIZABLE_FIELD',
        `${this.metadata.name}.${field.path} cannot be written into an event: ${reason}. Give the column a transformer, or keep it out with @WebhookHidden().`,
        { cause, details: { entity: this.metadata.name, field: field.path } },
      );
    }
  }

  /**
   * Whose the row is.
   *
   * @throws CaptureError `OWNER_FAILED` when the application's function throws, `INVALID_OWNER` for what no listener's
   * owner can be.
   */
  ownerOf(image: RowImage): { audience: Audience; owner: string | null } {
    const { owner } = this.options;
    if (owner === undefined) return { audience: 'application', owner: null };
    if (owner === EVERY_OWNER) return { audience: 'every', owner: null };
    const value = typeof owner === 'function' ? this.call('owner', () => owner(image.entity)) : this.ownerValue(image);
    if (!isOwnerValue(value)) {
      throw new CaptureError(
        'INVALID_OWNER',
        `The owner of a row of ${this.metadata.name} came out as ${typeof value === 'object' ? (value?.constructor.name ?? 'an object') : String(value)}, which is nobody's id: many rows would have the same, and the write is rolled back. Make \`owner\` give a string, a number or a bigint, and not a Promise.`,
        { details: { entity: this.metadata.name, option: 'owner' } },
      );
    }
    const text = value === null || value === undefined ? '' : String(value);
    if (text === '') return { audience: 'application', owner: null };
    if (!isOwnerText(text)) {
      throw new CaptureError(
        'INVALID_OWNER',
        `The owner of a row of ${this.metadata.name} has more than ${MAX_OWNER_LENGTH} characters, a NUL or half a surrogate pair, so it cannot be stored with the event, and the write is rolled back. Declare a shorter owner, such as an id.`,
        { details: { entity: this.metadata.name, option: 'owner' } },
      );
    }
    return { audience: 'owner', owner: text };
  }

  /** Whether an action has to be known: it is told, or it may be merged with one that is. */
  needs(action: EntityAction): boolean {
    return this.actions.has(action) || this.options.coalesce === true;
  }

  /** @throws CaptureError `WHEN_FAILED` when the application's function throws. */
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
        `The \`${option}\` function of ${this.metadata.name} threw (see cause); the write is rolled back, since its event could be lost or reach the wrong listeners.`,
        { cause, details: { entity: this.metadata.name, option } },
      );
    }
  }

  private refuseWhatTriggersCannot(): void {
    const { owner } = this.options;
    const { name, tableType } = this.metadata;
    if (tableType === 'view') throw this.wrong('capture', 'trigger', 'A view has no triggers of this kind: use orm');
    if (typeof owner !== 'function' || isPure(owner)) return;
    throw new ConfigurationError(
      'OWNER_NOT_PURE',
      `@Webhook() of ${name}: \`owner\` is a function and \`capture\` is 'trigger'. It would be called after the commit, maybe by another process, and an owner that comes from anything but the row would be of another moment. Name a column, or promise that it looks at the row alone: owner: pure(row => …).`,
      { details: { entity: name, option: 'owner' } },
    );
  }

  /** Rows of one millisecond would be one row, and the events of all but one be lost; and nothing that was read would be found again. */
  private refuseKeysOfMicroseconds(): void {
    const { name, primaryColumns, dataSource } = this.metadata;
    const dialect = dialectOf(dataSource.options.type);
    const column = primaryColumns.find((one) => mayLoseMicroseconds(one.referencedColumn ?? one, dialect));
    if (!column) return;
    throw new ConfigurationError(
      'KEY_NOT_EXACT',
      `The primary key of ${name} has a time with microseconds in it (${column.propertyPath}), and a Date of JavaScript has milliseconds: TypeORM cannot find such a row by what it has read of it, nor tell two of one millisecond apart. Declare \`precision: 3\`, use another key, or capture this entity by triggers: capture: 'trigger'.`,
      { details: { entity: name, column: column.propertyPath } },
    );
  }

  private resolveFields(): OutField[] {
    const isExposed = exposureOf(this.metadata.target);
    const hidden = hiddenProperties(this.metadata.target);
    const leaves = (field: OutField) =>
      field.column.isSelect &&
      !field.parts.some((_, depth) => hidden.has(field.parts.slice(0, depth + 1).join('.'))) &&
      isExposed(field.parts[0] ?? '') &&
      !isHiddenInEmbedded(field);
    const { fields: named } = this.options;
    // Links are read and locked with each write of their row: only where they are asked for.
    if (!named) return this.columnFields().filter(leaves);
    const all = this.allFields();

    const chosen = new Set<OutField>();
    for (const name of named) {
      const matching = all.filter((field) => field.path === name || field.path.startsWith(`${name}.`));
      if (!matching.length) {
        const other = this.metadata.findRelationWithPropertyPath(name);
        if (other?.isManyToManyNotOwner) {
          throw this.wrong(
            'fields',
            name,
            `A link belongs to the side that has the @JoinTable(): name '${other.inverseSidePropertyPath}' in @Webhook() of ${other.inverseEntityMetadata.name}`,
          );
        }
        throw this.unknownProperty('fields', name);
      }
      const secret = matching.find((field) => !leaves(field));
      if (secret) {
        throw this.wrong(
          'fields',
          secret.path,
          'It is `select: false`, @WebhookHidden() or @Exclude(), and such a column never leaves: take it out of `fields`',
        );
      }
      for (const field of matching) chosen.add(field);
    }
    return all.filter((field) => chosen.has(field));
  }

  /** A column that does not go out makes no event anyway: naming it is no mistake. */
  private resolveIgnored(): Set<OutField> {
    const { ignore = [] } = this.options;
    if (!Array.isArray(ignore)) throw this.wrong('ignore', String(ignore), 'Give a list of properties');
    const all = this.allFields();
    const ignored = new Set<string>();
    for (const name of ignore as string[]) {
      const matching = all.filter(({ path }) => path === name || path.startsWith(`${name}.`));
      if (!matching.length) throw this.unknownProperty('ignore', name);
      for (const { path } of matching) ignored.add(path);
    }
    return new Set(this.fields.filter(({ path }) => ignored.has(path)));
  }

  private allFields(): OutField[] {
    return [...this.columnFields(), ...this.allLinks()];
  }

  private allLinks(): OutField[] {
    return this.metadata.manyToManyRelations.flatMap((relation): OutField[] => {
      const column = relation.junctionEntityMetadata?.inverseColumns[0]?.referencedColumn;
      if (!relation.isManyToManyOwner || !column) return [];
      const { propertyPath: path } = relation;
      const typed = column.referencedColumn ?? column;
      return [
        {
          path,
          parts: path.split('.'),
          column: typed,
          relation,
          isLinks: true,
          kind: valueKindOf(typed),
          numeric: false,
          routable: false,
          automatic: false,
        },
      ];
    });
  }

  private refuseLinks({ path, relation }: OutField): void {
    if (this.capture === 'trigger') {
      throw this.wrong(
        'fields',
        path,
        "Its values stand in another table, whose changes triggers do not tell of: use capture: 'orm', or name columns only",
      );
    }
    const { primaryColumns } = this.metadata;
    const referred = relation?.junctionEntityMetadata?.ownerColumns.map(referredPath) ?? [];
    const isKey = primaryColumns.every(({ propertyPath }) => referred.includes(propertyPath));
    if (isKey && referred.length === primaryColumns.length) return;
    throw this.wrong('fields', path, 'Its @JoinTable() refers to another column than the primary key');
  }

  private columnFields(): OutField[] {
    return this.metadata.columns.flatMap((column): OutField[] => {
      // Virtual columns without a relation are TypeORM's own: discriminators, closure and nested-set bookkeeping.
      if (column.isDiscriminator) return [];
      if (!column.isVirtual) return this.isOfChild(column) ? [] : [columnField(column, column.propertyPath, null)];
      // Several relations may share the column, and a foreign key of several columns is one field.
      return relationsAt(column).flatMap((relation) => {
        const own = firstOwnColumn(relation) ?? column;
        return this.isOfChild(own) ? [] : [columnField(typingColumn(own), relation.propertyPath, relation)];
      });
    });
  }

  /** In a single table TypeORM gives the parent every column of its children, but not what they say of hiding it. */
  private isOfChild(column: ColumnMetadata): boolean {
    const { target } = this.metadata;
    const embedded = column.embeddedMetadata?.embeddedMetadataTree[0];
    if (!embedded) return extendsClass(column.relationMetadata?.target ?? column.target, target);
    const declared = getMetadataArgsStorage().embeddeds.filter((args) => args.propertyName === embedded.propertyName);
    const isOwn = declared.some((args) => args.target === target || extendsClass(target, args.target));
    return !isOwn && declared.some((args) => extendsClass(args.target, target));
  }

  private resolveOwnership(): Ownership {
    const { owner } = this.options;
    if (owner === undefined) return 'undeclared';
    if (owner === EVERY_OWNER) return 'every';
    if (typeof owner === 'function') return 'declared';
    const column = this.metadata.findColumnWithPropertyPathStrict(owner);
    const relation = this.metadata.findRelationWithPropertyPath(owner);
    if (!column && !relation) {
      const names = this.columnFields().map(({ path }) => path);
      throw this.wrong(
        'owner',
        String(owner),
        `Name a column, give a function of the row, or EVERY_OWNER.${knownNames(String(owner), names).slice(0, -1)}`,
      );
    }
    const [join, ...others] = relation?.joinColumns ?? [];
    const typed = column && !column.isVirtual ? column : (join?.referencedColumn ?? join);
    // Its text would be the same for many rows.
    if (!typed || others.length || !(typed.transformer || isScalarColumn(typed))) {
      throw this.wrong('owner', owner, 'It holds no single id. Name a column that does, or give a function of the row');
    }
    return 'declared';
  }

  private unknownProperty(option: string, name: string): ConfigurationError {
    const names = this.allFields().map(({ path }) => path);
    return this.wrong(
      option,
      name,
      `${this.metadata.name} has no such property.${knownNames(name, names).slice(0, -1)}`,
    );
  }

  private wrong(option: string, value: string, fix: string): ConfigurationError {
    return new ConfigurationError(
      'INVALID_WEBHOOK_OPTIONS',
      `Invalid value '${value}' for \`${option}\` in @Webhook() of ${this.metadata.name}. ${fix}.`,
      { details: { entity: this.metadata.name, option } },
    );
  }
}

/** @param column that its values are of; of a relation, that of the other entity */
function columnField(column: ColumnMetadata, path: string, relation: RelationMetadata | null): OutField {
  return {
    path,
    parts: path.split('.'),
    column,
    relation,
    isLinks: false,
    kind: valueKindOf(column),
    numeric: isNumericColumn(column),
    routable: isScalarColumn(column) && (relation?.joinColumns.length ?? 1) === 1,
    automatic: column.isUpdateDate || column.isVersion,
  };
}

/** The decorators may stand on the class of an embedded, or of one inside another. */
function isHiddenInEmbedded({ column, relation }: OutField): boolean {
  const { embeddedMetadata, propertyName } = relation ?? column;
  const tree = embeddedMetadata?.embeddedMetadataTree ?? [];
  return tree.some(({ type }, depth) => {
    const property = tree[depth + 1]?.propertyName ?? propertyName;
    return hiddenProperties(type).has(property) || !exposureOf(type)(property);
  });
}

function isOwnerValue(value: unknown): value is string | number | bigint | boolean | null | undefined {
  if (typeof value === 'number') return !Number.isNaN(value);
  return value === null || ['string', 'bigint', 'boolean', 'undefined'].includes(typeof value);
}

/** A Promise counts as true, whatever it will say. */
function decided(answer: unknown): boolean {
  if (typeof (answer as { then?: unknown } | null | undefined)?.then === 'function') {
    throw new TypeError('`when` gave a Promise: it must answer at once');
  }
  return Boolean(answer);
}

function extendsClass(child: unknown, parent: unknown): boolean {
  return typeof child === 'function' && typeof parent === 'function' && child.prototype instanceof parent;
}

/** @param value an id for each link, as the junction's column holds it, or its parts by their paths */
function linkedIds({ relation, column, kind }: OutField, value: unknown): Json[] {
  const joinColumns = relation?.junctionEntityMetadata?.inverseColumns ?? [];
  const ids = (value as readonly unknown[] | undefined) ?? [];
  return ids
    .map((id) => (joinColumns.length > 1 ? compositeKey(joinColumns, id) : canonicalValue(id, kind, column)))
    .toSorted(byValue);
}

/** Numbers by their size, all else by its text: the same on every database, whatever its collation. */
function byValue(a: Json, b: Json): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const [x, y] = [a, b].map((id) => (typeof id === 'string' ? id : JSON.stringify(id))) as [string, string];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** Writes a value at a path, making the objects on the way. */
export function setPath(target: JsonObject, parts: readonly string[], value: Json): void {
  let here = target;
  for (const part of parts.slice(0, -1)) {
    here[part] ??= {};
    here = here[part] as JsonObject;
  }
  here[parts[parts.length - 1] as string] = value;
}
