import type { ObjectLiteral } from 'typeorm';
import type { JsonObject } from '../json.js';
import type { EveryOwner } from '../events/webhook-event.js';

/** Whether the deliveries of one row wait for each other; see `docs/ordering.md`. */
export type Ordering = 'none' | 'entity';
export const ORDERINGS: readonly Ordering[] = ['none', 'entity'];

/** What can happen to an entity. A soft and a hard delete are both `deleted`. */
export type EntityAction = 'created' | 'updated' | 'deleted' | 'restored';
export const ENTITY_ACTIONS: readonly EntityAction[] = ['created', 'updated', 'deleted', 'restored'];

/**
 * How changes are noticed: by what TypeORM does in this application (`orm`), or by triggers of the database, whoever writes
 * (`trigger`); see `docs/capture.md`.
 */
export type CaptureMode = 'orm' | 'trigger';
export const CAPTURE_MODES: readonly CaptureMode[] = ['orm', 'trigger'];

// A constructor of anything: parameters are in a contravariant place, so `never[]` accepts every class.
// oxlint-disable-next-line typescript/no-explicit-any -- an abstract class's instance type cannot be inferred from `unknown`
export type EntityClass<E = any> = abstract new (...args: never[]) => E;

/** A property of the entity, or one inside an embedded: `'status'`, `'address.city'`. */
export type EntityProperty<E> = (keyof E & string) | `${keyof E & string}.${string}`;

/** What an entity tells the world; every key has a default, so `@Webhook()` alone is enough. */
export interface WebhookOptions<E = ObjectLiteral> {
  /**
   * First part of the event types: `order` makes `order.created`. Lower case letters, digits and underscores.
   * Two entities of one name stop the bootstrap. Changing it later leaves listeners of the old types without events.
   *
   * @defaultValue the class name in snake_case: `OrderItem` -> `order_item`
   */
  name?: string;
  /** Which actions make an event. @defaultValue all four */
  on?: readonly EntityAction[];
  /**
   * Which properties go out; the payload has these and no others. Embedded ones with a dot. Naming a `select: false` or
   * hidden column stops the bootstrap. An owning many-to-many relation (`@JoinTable`) goes out as the sorted ids of the linked rows,
   * and a change of them is an update, only where it is named here; see `docs/capture.md`.
   *
   * @defaultValue every column, except `select: false` ones and those marked `@WebhookHidden()` or `@Exclude()`
   */
  fields?: readonly EntityProperty<E>[];
  /**
   * Whose row it is: a property holding the owner's id, a function of the row, or {@link EVERY_OWNER}. Compared as
   * `String(value)`. A value of `null`, `undefined` or `''` means: listeners without an owner only. A function runs
   * inside the write's transaction; what it throws fails the write.
   *
   * @defaultValue not declared: only listeners without an owner, the application's own, receive these events
   */
  owner?: EntityProperty<E> | ((entity: E) => string | number | bigint | null | undefined) | EveryOwner;
  /**
   * Rows for which it answers `false` make no event. Runs inside the write's transaction, on the row as it is after the
   * change (before it, for deletes); what it throws fails the write.
   *
   * @defaultValue every row
   */
  when?: (entity: E, action: EntityAction) => boolean;
  /**
   * `entity`: the events of one row go to each listener one at a time, in the order of their commits; a retry holds back the
   * later ones of that row. `none`: as fast as they can, in any order. A listener may ask for order by itself.
   *
   * @defaultValue 'none'
   */
  ordering?: Ordering;
  /**
   * Read every inserted row again before its event is written. Needed only for tables with triggers that change what is inserted: what
   * the database fills in or may write otherwise (defaults, generated columns, rounding) is read again anyway.
   *
   * @defaultValue false
   */
  readInserted?: boolean;
  /**
   * Properties whose change alone makes no event: an `updatedAt` of your own, a counter. They still go out in `data`, and their
   * old value in `previous`, when something else changed too. An update date and a version column are ignored anyway.
   *
   * @defaultValue none
   */
  ignore?: readonly EntityProperty<E>[];
  /**
   * Several changes of one row in one transaction make one event, with the first `previous` and the last `data`; one that comes to
   * nothing makes none. Nested transactions count with the one around them; see `docs/capture.md`.
   *
   * @defaultValue false: an event for each
   */
  coalesce?: boolean;
  /**
   * Whether `previous`, the `data` of a deleted row and the old owner are read under lock right before the write. That costs one more
   * statement for each entity of a `save()` or `remove()`. With `false` they are the values that TypeORM has loaded without a lock: another
   * writer may have changed the row since, and hooks such as `@AfterLoad` may have changed the loaded object, so that a column that they
   * decrypt is sent as plaintext. Query builders always read the row.
   *
   * @defaultValue true
   */
  exactPrevious?: boolean;
  /**
   * Who notices changes of this entity. `trigger` needs triggers on its table: `npx nestjs-entity-webhooks triggers --install`.
   * `owner` is then a column, or a function marked `pure()`, and `when` runs after the commit.
   *
   * @defaultValue `capture` of `WebhooksModule.forRoot()`; a child in a single table has that of its parent
   */
  capture?: CaptureMode;
  /**
   * `data` of the examples that `sendTest()` sends of its events.
   *
   * @defaultValue a made-up value for each property that goes out, by the type of its column
   */
  example?: JsonObject;
}

type OwnerOf<E> = (entity: E) => string | number | bigint | null | undefined;
type When<E> = (entity: E, action: EntityAction) => boolean;

/** What the compiler shows when the options do not fit the decorated class, and nothing otherwise. */
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
 * Marks an entity whose committed changes become events. It must also be listed in `WebhooksModule.forFeature([...])`.
 *
 * @example
 * \@Webhook({ fields: ['id', 'status', 'total'], owner: 'customerId' })
 * \@Entity()
 * export class Order {}
 */
export function Webhook<
  const Field extends string = never,
  const Ignored extends string = never,
  // oxlint-disable-next-line typescript/no-explicit-any -- the decorated class is not known where its options stand
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

/** Keeps a column out of every payload and every filter, whatever `fields` says. */
export function WebhookHidden(): PropertyDecorator {
  return (prototype, property) => {
    const inherited = (Reflect.getMetadata(HIDDEN, prototype) as ReadonlySet<string> | undefined) ?? [];
    Reflect.defineMetadata(HIDDEN, new Set([...inherited, String(property)]), prototype);
  };
}

/** What `@Webhook()` said of exactly this class, or `undefined` when it stands on no such class. */
export function webhookOptionsOf(target: unknown): WebhookOptions | undefined {
  if (typeof target !== 'function') return undefined;
  return Reflect.getOwnMetadata(OPTIONS, target) as WebhookOptions | undefined;
}

/** Properties marked `@WebhookHidden()` on a class or one it extends. */
export function hiddenProperties(target: unknown): ReadonlySet<string> {
  if (typeof target !== 'function') return new Set();
  return (
    (Reflect.getMetadata(HIDDEN, (target as { prototype: object }).prototype) as ReadonlySet<string> | undefined) ??
    new Set()
  );
}
