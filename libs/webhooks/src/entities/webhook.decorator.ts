import type { ObjectLiteral } from 'typeorm';
import type { EveryOwner } from '../events/webhook-event.js';
import type { ActionDescription, FieldDescription, TypeDescription } from './described-type.js';

/** Whether a listener receives the events of one row one after another; see `docs/ordering.md`. */
export type Ordering = 'none' | 'entity';
export const ORDERINGS: readonly Ordering[] = ['none', 'entity'];

/** An action on an entity. A soft and a hard delete are both `deleted`. */
export type EntityAction = 'created' | 'updated' | 'deleted' | 'restored';
export const ENTITY_ACTIONS: readonly EntityAction[] = ['created', 'updated', 'deleted', 'restored'];

/**
 * How changes are captured. `orm`: the changes that this application makes through TypeORM. `trigger`: all changes of the table,
 * by database triggers. See `docs/capture.md`.
 */
export type CaptureMode = 'orm' | 'trigger';
export const CAPTURE_MODES: readonly CaptureMode[] = ['orm', 'trigger'];

// Any constructor. Parameters are contravariant, so `never[]` accepts every class.
// oxlint-disable-next-line typescript/no-explicit-any -- an abstract class's instance type cannot be inferred from `unknown`
export type EntityClass<E = any> = abstract new (...args: never[]) => E;

/** A property of the entity or of an embedded: `'status'`, `'address.city'`. */
export type EntityProperty<E> = (keyof E & string) | `${keyof E & string}.${string}`;

/** Options of `@Webhook()`. Every option has a default, so `@Webhook()` alone is enough. */
export interface WebhookOptions<E = ObjectLiteral> extends TypeDescription {
  /**
   * First part of the event types: the name `order` makes `order.created`. A name has 1 to 100 lower-case letters, digits and
   * underscores. Two entities with the same name stop the bootstrap. After a change of the name, listeners of the old event types
   * receive no more events.
   *
   * @defaultValue the class name in snake_case: `OrderItem` -> `order_item`
   */
  name?: string;
  /** Actions that make an event. @defaultValue all four */
  on?: readonly EntityAction[];
  /**
   * The properties that the payload contains. Other properties are not sent. Write embedded properties with a dot. If you name a column
   * that is `select: false` or hidden, the bootstrap stops. An owning many-to-many relation (`@JoinTable`) is part of the payload only if
   * you name it here. Its value is the list of the sorted ids of the linked rows. A change of the links is an update: see
   * `docs/capture.md`.
   *
   * @defaultValue every column, except columns with `select: false` and columns with `@WebhookHidden()` or
   * `@Exclude()`
   */
  fields?: readonly EntityProperty<E>[];
  /**
   * Owner of a row: a property with the owner's id, a function of the row, or {@link EVERY_OWNER}. Owners are compared as `String(value)`.
   * If the owner of a row is `null`, `undefined` or `''`, only listeners without an owner receive its event. A function runs inside the
   * transaction of the write. If the function throws an error, the write fails.
   *
   * @defaultValue no owner: only listeners without an owner receive these events
   */
  owner?: EntityProperty<E> | ((entity: E) => string | number | bigint | null | undefined) | EveryOwner;
  /**
   * Rows for which this function returns `false` make no event. The function runs inside the transaction of the write. It
   * gets the row after the change; for a delete, it gets the row before the change. If the function throws an error, the
   * write fails.
   *
   * @defaultValue every row
   */
  when?: (entity: E, action: EntityAction) => boolean;
  /**
   * `'entity'`: each listener receives the events of one row one at a time, in the order of their commits. So a retry delays the later
   * events of that row. `'none'`: events are sent as soon as possible, in any order. Listeners that set `ordering: 'entity'` receive
   * events in order in both cases.
   *
   * @defaultValue 'none'
   */
  ordering?: Ordering;
  /**
   * Whether capture reads every inserted row again before it writes the event of the row. You need this option only for tables with
   * triggers that change inserted values. Values that the database itself fills in or changes (defaults, generated columns, rounding)
   * are always read again.
   *
   * @defaultValue false
   */
  readInserted?: boolean;
  /**
   * Properties whose change alone makes no event, such as a counter, or an `updatedAt` that the application sets. `data` still
   * contains these properties. When another property also changed, `previous` contains their old values. `@UpdateDateColumn()`
   * and `@VersionColumn()` are always ignored.
   *
   * @defaultValue none
   */
  ignore?: readonly EntityProperty<E>[];
  /**
   * Whether several changes of one row in one transaction are merged into one event, with the first `previous` and the last
   * `data`. Changes that cancel each other out make no event. With `capture: 'orm'`, changes before, in and after a nested
   * transaction are merged separately; see `docs/capture.md`.
   *
   * @defaultValue false: an event for each change
   */
  coalesce?: boolean;
  /**
   * Whether capture locks the row right before the write, and then reads `previous`, the `data` of a deleted row and the old owner. The
   * read costs one more statement for each entity of a `save()` or `remove()`. With `false`, capture uses the values that TypeORM loaded
   * without a lock. Another writer may have changed the row since TypeORM loaded it. Hooks such as `@AfterLoad` may have changed the
   * loaded object: if a hook decrypts a column, its plaintext is sent. For writes of query builders, capture always reads the row.
   *
   * @defaultValue true
   */
  exactPrevious?: boolean;
  /**
   * How changes of this entity are captured. `'trigger'` needs triggers on the table: `npx nestjs-entity-webhooks triggers --install`.
   * With `'trigger'`, `owner` must be a column, or a function marked with `ownerFromRow()`. With `'trigger'`, `when` runs after the
   * commit.
   *
   * @defaultValue `capture` of `WebhooksModule.forRoot()`; a child in a single table uses the mode of its parent
   */
  capture?: CaptureMode;
  /**
   * Descriptions of properties of the payload, for the catalogue: a text, or `{ description, schema }`. Without it, the catalogue uses
   * `@ApiProperty()` and the comment of the column. See `docs/catalog.md`.
   *
   * @defaultValue none
   */
  describe?: { readonly [P in EntityProperty<E>]?: FieldDescription };
  /** Descriptions of single event types, by action, for the catalogue: `{ description, deprecated }`. @defaultValue none */
  events?: { readonly [A in EntityAction]?: ActionDescription };
}

type OwnerOf<E> = (entity: E) => string | number | bigint | null | undefined;
type When<E> = (entity: E, action: EntityAction) => boolean;

/** Makes the compiler report options that do not fit the decorated class. */
type Fits<E, Field, Owner, Decision> = [Field, Owner, Decision] extends [
  EntityProperty<E>,
  EntityProperty<E> | EveryOwner | OwnerOf<E>,
  When<E>,
]
  ? unknown
  : { 'these options do not fit the entity': WebhookOptions<E> };

// This is a `Symbol.for`, because a package of entities may have its own copy of this library. With a separate symbol for each copy,
// the module would not see that a column is hidden.
const OPTIONS = Symbol.for('nestjs-entity-webhooks:options');
const HIDDEN = Symbol.for('nestjs-entity-webhooks:hidden');

/**
 * Marks an entity whose committed changes become events. Also list the entity in `WebhooksModule.forFeature([...])`.
 *
 * @example
 * \@Webhook({ fields: ['id', 'status', 'total'], owner: 'customerId' })
 * \@Entity()
 * export class Order {}
 */
export function Webhook<
  const Field extends string = never,
  const Ignored extends string = never,
  const Described extends string = never,
  // oxlint-disable-next-line typescript/no-explicit-any -- the decorated class is not known where the options are written
  const Owner extends string | EveryOwner | OwnerOf<any> = OwnerOf<any>,
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  Decision extends When<any> = When<any>,
>(
  options?: Omit<WebhookOptions, 'fields' | 'ignore' | 'describe' | 'owner' | 'when'> & {
    fields?: readonly Field[];
    ignore?: readonly Ignored[];
    describe?: Readonly<Record<Described, FieldDescription>>;
    owner?: Owner;
    when?: Decision;
  },
): <C extends EntityClass>(target: C & Fits<InstanceType<C>, Field | Ignored | Described, Owner, Decision>) => void {
  return (target) => {
    Reflect.defineMetadata(OPTIONS, options ?? {}, target);
  };
}

/** Keeps a column out of every payload and every filter. If `fields` names the column, the bootstrap stops. */
export function WebhookHidden(): PropertyDecorator {
  return (prototype, property) => {
    const inherited = (Reflect.getMetadata(HIDDEN, prototype) as ReadonlySet<string> | undefined) ?? [];
    Reflect.defineMetadata(HIDDEN, new Set([...inherited, String(property)]), prototype);
  };
}

/** The options of a `@Webhook()` on exactly this class; `undefined` without that decorator. */
export function webhookOptionsOf(target: unknown): WebhookOptions | undefined {
  if (typeof target !== 'function') return undefined;
  return Reflect.getOwnMetadata(OPTIONS, target) as WebhookOptions | undefined;
}

/** Properties with `@WebhookHidden()` on a class or on a class that it extends. */
export function hiddenProperties(target: unknown): ReadonlySet<string> {
  if (typeof target !== 'function') return new Set();
  return (
    (Reflect.getMetadata(HIDDEN, (target as { prototype: object }).prototype) as ReadonlySet<string> | undefined) ??
    new Set()
  );
}
