import type { ObjectLiteral } from 'typeorm';
import type { JsonObject } from '../json.js';
import type { EveryOwner } from '../events/webhook-event.js';

/** Whether the deliveries of one row are sent one after the other; see `docs/ordering.md`. */
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

// Any constructor: parameters are contravariant, so `never[]` accepts every class.
// oxlint-disable-next-line typescript/no-explicit-any -- an abstract class's instance type cannot be inferred from `unknown`
export type EntityClass<E = any> = abstract new (...args: never[]) => E;

/** A property of the entity or of an embedded: `'status'`, `'address.city'`. */
export type EntityProperty<E> = (keyof E & string) | `${keyof E & string}.${string}`;

/** Options of `@Webhook()`. Every option has a default, so `@Webhook()` alone is enough. */
export interface WebhookOptions<E = ObjectLiteral> {
  /**
   * First part of the event types: `order` makes `order.created`. 1 to 100 lower-case letters, digits and underscores.
   * Two entities with the same name stop the bootstrap. After a change of the name, listeners of the old types get no more events.
   *
   * @defaultValue the class name in snake_case: `OrderItem` -> `order_item`
   */
  name?: string;
  /** Actions that make an event. @defaultValue all four */
  on?: readonly EntityAction[];
  /**
   * Properties in the payload; no others are sent. Write embedded properties with a dot. A `select: false` or hidden column
   * stops the bootstrap. An owning many-to-many relation (`@JoinTable`) is part of the payload only if you name it here: its value
   * is the sorted ids of the linked rows, and a change of the links is an update; see `docs/capture.md`.
   *
   * @defaultValue every column, except `select: false` ones and those marked `@WebhookHidden()` or `@Exclude()`
   */
  fields?: readonly EntityProperty<E>[];
  /**
   * Owner of a row: a property with the owner's id, a function of the row, or {@link EVERY_OWNER}. Compared as
   * `String(value)`. With `null`, `undefined` or `''`, only listeners without an owner receive the event. A function runs
   * inside the transaction of the write, and an error that it throws fails the write.
   *
   * @defaultValue no owner: only listeners without an owner receive these events
   */
  owner?: EntityProperty<E> | ((entity: E) => string | number | bigint | null | undefined) | EveryOwner;
  /**
   * Rows for which this function returns `false` make no event. It runs inside the transaction of the write, and gets the row
   * after the change, or for deletes the row before the change. An error that it throws fails the write.
   *
   * @defaultValue every row
   */
  when?: (entity: E, action: EntityAction) => boolean;
  /**
   * `'entity'`: each listener receives the events of one row one at a time, in the order of their commits; a retry delays the
   * later events of that row. `'none'`: events are sent as soon as possible, in any order, except to listeners that set
   * `ordering: 'entity'`.
   *
   * @defaultValue 'none'
   */
  ordering?: Ordering;
  /**
   * Read every inserted row again before its event is written. Needed only for tables with triggers that change inserted values.
   * Values that the database fills in or changes (defaults, generated columns, rounding) are read again anyway.
   *
   * @defaultValue false
   */
  readInserted?: boolean;
  /**
   * Properties whose change alone makes no event, such as an `updatedAt` that the application sets, or a counter. They are still
   * in `data`, and their old value is in `previous` when another property changed too. `@UpdateDateColumn()` and
   * `@VersionColumn()` are always ignored.
   *
   * @defaultValue none
   */
  ignore?: readonly EntityProperty<E>[];
  /**
   * Merge several changes of one row in one transaction into one event, with the first `previous` and the last `data`. Changes
   * that cancel each other out make no event. With `capture: 'orm'`, changes before, in and after a nested transaction are merged
   * separately; see `docs/capture.md`.
   *
   * @defaultValue false: an event for each change
   */
  coalesce?: boolean;
  /**
   * Read `previous`, the `data` of a deleted row and the old owner under lock right before the write. This costs one more statement
   * for each entity of a `save()` or `remove()`. With `false`, the values that TypeORM loaded without a lock are used: another writer
   * may have changed the row since, and hooks such as `@AfterLoad` may have changed the loaded object, so a column that a hook decrypts
   * is sent as plaintext. For query builders the row is always read.
   *
   * @defaultValue true
   */
  exactPrevious?: boolean;
  /**
   * How changes of this entity are captured. `'trigger'` needs triggers on the table: `npx nestjs-entity-webhooks triggers --install`.
   * `owner` must then be a column, or a function marked `ownerFromRow()`, and `when` runs after the commit.
   *
   * @defaultValue `capture` of `WebhooksModule.forRoot()`; a child in a single table uses the mode of its parent
   */
  capture?: CaptureMode;
  /**
   * `data` of the example events that `sendTest()` sends for this entity.
   *
   * @defaultValue a made-up value for each property of the payload, by the type of its column
   */
  example?: JsonObject;
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

const OPTIONS = Symbol('nestjs-entity-webhooks:options');
const HIDDEN = Symbol('nestjs-entity-webhooks:hidden');

/**
 * Marks an entity whose committed changes become events. List the entity in `WebhooksModule.forFeature([...])`, too.
 *
 * @example
 * \@Webhook({ fields: ['id', 'status', 'total'], owner: 'customerId' })
 * \@Entity()
 * export class Order {}
 */
export function Webhook<
  const Field extends string = never,
  const Ignored extends string = never,
  // oxlint-disable-next-line typescript/no-explicit-any -- the decorated class is not known where the options are written
  const Owner extends string | EveryOwner | OwnerOf<any> = OwnerOf<any>,
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  Decision extends When<any> = When<any>,
>(
  options?: Omit<WebhookOptions, 'fields' | 'ignore' | 'owner' | 'when'> & {
    fields?: readonly Field[];
    ignore?: readonly Ignored[];
    owner?: Owner;
    when?: Decision;
  },
): <C extends EntityClass>(target: C & Fits<InstanceType<C>, Field | Ignored, Owner, Decision>) => void {
  return (target) => {
    Reflect.defineMetadata(OPTIONS, options ?? {}, target);
  };
}

/** Keeps a column out of every payload and every filter. Naming the column in `fields` stops the bootstrap. */
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

/** Properties marked `@WebhookHidden()` on a class or on a class it extends. */
export function hiddenProperties(target: unknown): ReadonlySet<string> {
  if (typeof target !== 'function') return new Set();
  return (
    (Reflect.getMetadata(HIDDEN, (target as { prototype: object }).prototype) as ReadonlySet<string> | undefined) ??
    new Set()
  );
}
