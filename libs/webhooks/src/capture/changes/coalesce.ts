import type { EventRow } from '../../store/outbox/event-rows.js';
import type { Json } from '../../json.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import { beforeImageOf, type Before, type RowChange } from './row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';

/** The presence of a row in its table. `hidden` means that the row is soft-deleted. */
export type Presence = 'none' | 'live' | 'hidden';

/**
 * The action of the event that merges several changes of a row; `null` if the changes make no event. A row may be soft-deleted and then
 * restored, or deleted and then created again under the same key. Both cases are updates.
 *
 * @param from the row before the first change
 * @param to the row after the last change
 * @param wasRestored whether one of the changes restored the row. A row that was soft-deleted before, was restored and is deleted now makes
 * no event
 */
export function netAction(from: Presence, to: Presence, wasRestored: boolean): EntityAction | null {
  if (from === 'none') return to === 'live' ? 'created' : null;
  if (from === 'live') return to === 'live' ? 'updated' : 'deleted';
  if (to === 'live') return 'restored';
  if (wasRestored) return null;
  return to === 'none' ? 'deleted' : 'updated';
}

/** Several changes that make one event together, or a single change or event. */
export interface MergedChange<Item> {
  /** `null` if the changes cancel each other out. */
  readonly change: Item | RowChange | null;
  readonly of: readonly Item[];
}

/**
 * Merges all changes of a row into one change, for entities with `coalesce: true`. The merged change has the `previous` of the first change
 * and the `data` of the last change. The merged change takes the position of the first change. Changes of other entities stay as they are.
 *
 * @param items the changes and events that are written to the outbox together. Their images must be read already
 */
export function coalesced<Item extends RowChange | EventRow>(items: readonly Item[]): MergedChange<Item>[] {
  const groups: Item[][] = [];
  const byRow = new Map<EntityPlan, Map<string, Item[]>>();
  for (const item of items) {
    if ('values' in item || !item.plan.definition.options.coalesce) {
      groups.push([item]);
      continue;
    }
    let rows = byRow.get(item.plan);
    if (!rows) byRow.set(item.plan, (rows = new Map()));
    const group = rows.get(item.key);
    if (group) group.push(item);
    else {
      const begun = [item];
      rows.set(item.key, begun);
      groups.push(begun);
    }
  }
  return groups.map((of) => ({ of, change: of.length > 1 ? merged(of as readonly RowChange[]) : (of[0] as Item) }));
}

/** The changes of one row so far. */
interface RowHistory {
  readonly from: Presence;
  readonly to: Presence;
  readonly wasRestored: boolean;
  /** The before image of the first change, with the values that are known. */
  readonly before: Before | null;
  /** The change whose image goes into the event. */
  readonly last: RowChange;
}

function merged([first, ...later]: readonly RowChange[]): RowChange | null {
  const { from, to, wasRestored, before, last } = later.reduce(following, begin(first as RowChange));
  const action = netAction(from, to, wasRestored);
  if (!action) return null;
  const isKnownBefore = action === 'updated' || action === 'deleted';
  return { ...last, action, before: isKnownBefore ? before : null };
}

function begin(change: RowChange): RowHistory {
  const { action, plan, image, isRemoved } = change;
  // The image of a removed row is the whole row before the change.
  const before = isRemoved && image && image !== 'gone' ? beforeImageOf(plan, image) : beforeOf(change);
  const wasRestored = action === 'restored';
  return { from: presenceBefore(change), to: presenceAfter(change), wasRestored, before, last: change };
}

function following(earlier: RowHistory, change: RowChange): RowHistory {
  const { from } = earlier;
  const to = presenceAfter(change);
  const wasRestored = earlier.wasRestored || change.action === 'restored';
  const isWriteToDeleted = netAction(from, to, wasRestored) === 'deleted' && change.action !== 'deleted';
  const last = isWriteToDeleted && !haveSameOwner(earlier.last, change) ? earlier.last : change;
  return { from, to, wasRestored, before: mergeBefore(earlier.before, beforeOf(change)), last };
}

function presenceBefore(change: RowChange): Presence {
  switch (change.action) {
    case 'created':
      return 'none';
    case 'restored':
      return 'hidden';
    case 'deleted':
      return change.isRemoved && hasDeleteDate(change) ? 'hidden' : 'live';
    case 'updated':
      return presenceAfter(change);
  }
}

function presenceAfter(change: RowChange): Presence {
  switch (change.action) {
    case 'deleted':
      return change.isRemoved ? 'none' : 'hidden';
    case 'restored':
      return 'live';
    default:
      return hasDeleteDate(change) ? 'hidden' : 'live';
  }
}

function hasDeleteDate({ plan, image }: RowChange): boolean {
  const { deleteDateColumn } = plan.definition.metadata;
  if (!deleteDateColumn || image === null || image === 'gone') return false;
  const date: unknown = image.exact.get(deleteDateColumn.propertyPath) ?? deleteDateColumn.getEntityValue(image.entity);
  return date !== null && date !== undefined;
}

/**
 * Whether a deletion and the changes before it have the same owner. These changes may have given the row a new owner. The new owner has
 * never seen the row, so the event must not contain the new image.
 */
function haveSameOwner({ plan: { definition }, image }: RowChange, { image: later }: RowChange): boolean {
  if (!image || image === 'gone' || !later || later === 'gone') return false;
  const before = definition.ownerOf(image);
  const after = definition.ownerOf(later);
  return before.owner === after.owner && before.audience === after.audience;
}

/** Merges two before images. If both images have a value of a field, the earlier value counts. */
function mergeBefore(earlier: Before | null, later: Before | null): Before | null {
  if (!earlier || !later) return earlier ?? later;
  return {
    values: new Map([...later.values, ...earlier.values]),
    touched: new Set([...earlier.touched, ...later.touched]),
    owner: earlier.owner,
  };
}

/**
 * The row before a change. For a deletion, automatic columns and the delete date are left out: if a soft delete of this transaction has set
 * these columns, their old values are unknown.
 */
function beforeOf({ plan: { definition }, action, before, image }: RowChange): Before | null {
  if (action !== 'deleted' || image === null || image === 'gone') return before;
  const { deleteDateColumn } = definition.metadata;
  const values = new Map<string, Json>();
  for (const field of definition.fields) {
    if (!field.automatic && field.column !== deleteDateColumn) values.set(field.path, definition.valueOf(field, image));
  }
  return { values, touched: new Set(values.keys()), owner: definition.ownerOf(image) };
}
