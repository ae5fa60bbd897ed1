import type { EventRow } from '../../store/outbox/event-rows.js';
import type { Json } from '../../json.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { Before, RowChange } from './row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';

/**
 * The net effect of several changes of one row: the difference between the row before the first change and after the last one. Besides the
 * actions there are two values for no difference: `unmade` (created, then deleted) and `unrestored` (restored, then deleted). `hidden` is a
 * deletion whose image has a delete date: a soft delete, or a deletion of a row that was soft-deleted before. `reborn` is such a row,
 * deleted and created again: it is visible now, so its event is `restored`.
 */
export type NetChange = EntityAction | 'unmade' | 'unrestored' | 'hidden' | 'reborn';

/**
 * The next net change, by the net change so far and the next action. A row may be soft-deleted and restored, or deleted and created again
 * under the same key: the net change of both is `updated`. Writes to a deleted row do not change the net effect.
 */
const NEXT: Readonly<Record<NetChange, Readonly<Record<EntityAction, NetChange>>>> = {
  created: { created: 'created', updated: 'created', deleted: 'unmade', restored: 'created' },
  unmade: { created: 'created', updated: 'unmade', deleted: 'unmade', restored: 'created' },
  updated: { created: 'updated', updated: 'updated', deleted: 'deleted', restored: 'restored' },
  deleted: { created: 'updated', updated: 'deleted', deleted: 'deleted', restored: 'updated' },
  restored: { created: 'restored', updated: 'restored', deleted: 'unrestored', restored: 'restored' },
  unrestored: { created: 'restored', updated: 'unrestored', deleted: 'unrestored', restored: 'restored' },
  // A row that exists cannot be created: `created` follows only the deletion of a soft-deleted row.
  hidden: { created: 'reborn', updated: 'deleted', deleted: 'deleted', restored: 'updated' },
  reborn: { created: 'reborn', updated: 'reborn', deleted: 'hidden', restored: 'reborn' },
};

/** The action of the event. `unmade` and `unrestored` make no event. */
const ACTIONS: Readonly<Record<NetChange, EntityAction | null>> = {
  created: 'created',
  updated: 'updated',
  deleted: 'deleted',
  restored: 'restored',
  unmade: null,
  unrestored: null,
  hidden: 'deleted',
  reborn: 'restored',
};

export function netChange([first, ...later]: readonly [EntityAction, ...EntityAction[]]): NetChange {
  return later.reduce<NetChange>((net, action) => NEXT[net][action], first);
}

/** The changes of one row so far, merged. */
export interface RowHistory {
  readonly net: NetChange;
  /** The before image of the first change, as far as it is known. */
  readonly before: Before | null;
  /** The change whose after image goes into the event. */
  readonly last: RowChange;
}

/** Pending changes and events. Entities with `coalesce: true` have one change for each row. */
export interface Coalesced {
  readonly items: readonly (RowChange | EventRow)[];
  /** The history of each merged change among `items`. */
  readonly histories: ReadonlyMap<RowChange, RowHistory>;
  /** Histories whose net effect is no difference. */
  readonly ended: readonly RowHistory[];
}

/**
 * Merges all changes of a row into one, for entities with `coalesce: true`: with the `previous` of the first change and the `data` of the
 * last one, at the position of the first. Changes of other entities stay as they are.
 *
 * @param items the changes and events that are written to the outbox together; their images are read
 * @param earlier returns the history of a row whose events this transaction has already written
 */
export function coalesced(
  items: readonly (RowChange | EventRow)[],
  earlier: (change: RowChange) => RowHistory | undefined = () => undefined,
): Coalesced {
  // The usual case: no entity coalesces.
  if (!items.some((item) => !('values' in item) && item.definition.options.coalesce)) {
    return { items: [...items], histories: new Map(), ended: [] };
  }
  const result: (Merging | RowChange | EventRow)[] = [];
  const byRow = new Map<EntityDefinition, Map<string, Merging>>();
  for (const item of items) {
    if ('values' in item || !item.definition.options.coalesce) {
      result.push(item);
      continue;
    }
    let rows = byRow.get(item.definition);
    if (!rows) byRow.set(item.definition, (rows = new Map()));
    const row = rows.get(item.key);
    if (row) row.history = following(row.history, item);
    else {
      const begun = { history: following(earlier(item), item) };
      rows.set(item.key, begun);
      result.push(begun);
    }
  }
  const histories = new Map<RowChange, RowHistory>();
  const ended: RowHistory[] = [];
  const left = result.flatMap<RowChange | EventRow>((item) => {
    if (!('history' in item)) return [item];
    const { history } = item;
    const change = changeOf(history);
    if (change) histories.set(change, history);
    else ended.push(history);
    return change ? [change] : [];
  });
  return { items: left, histories, ended };
}

interface Merging {
  history: RowHistory;
}

function following(earlier: RowHistory | undefined, change: RowChange): RowHistory {
  const before = beforeLaterChange(change);
  if (!earlier) return { net: hasDeleteDate(change) ? 'hidden' : change.action, before, last: change };
  const net = NEXT[earlier.net][change.action];
  const isWriteToDeleted = ACTIONS[net] === 'deleted' && change.action !== 'deleted';
  const last = isWriteToDeleted && !haveSameOwner(earlier.last, change) ? earlier.last : change;
  return { net, before: mergeBefore(earlier.before, before), last };
}

function hasDeleteDate({ definition, action, image }: RowChange): boolean {
  const { deleteDateColumn } = definition.metadata;
  if (action !== 'deleted' || !deleteDateColumn || image === null || image === 'gone') return false;
  const date: unknown = image.exact.has(deleteDateColumn.propertyPath)
    ? image.exact.get(deleteDateColumn.propertyPath)
    : deleteDateColumn.getEntityValue(image.entity);
  return date !== null && date !== undefined;
}

/** A deleted row may get a new owner. That owner has never seen the row, so the event must not carry the new image. */
function haveSameOwner({ definition, image }: RowChange, { image: later }: RowChange): boolean {
  if (!image || image === 'gone' || !later || later === 'gone') return false;
  const before = definition.ownerOf(image);
  const after = definition.ownerOf(later);
  return before.owner === after.owner && before.audience === after.audience;
}

/** The merged change, or `null` if the net effect is no difference. */
function changeOf({ net, before, last }: RowHistory): RowChange | null {
  const action = ACTIONS[net];
  if (!action) return null;
  const isKnownBefore = action === 'updated' || action === 'deleted';
  return { ...last, action, before: isKnownBefore ? before : null };
}

/** Merges two before images. If both have a value of a field, the earlier value counts. */
function mergeBefore(earlier: Before | null, later: Before | null): Before | null {
  if (!earlier || !later) return earlier ?? later;
  return {
    values: new Map([...later.values, ...earlier.values]),
    touched: new Set([...earlier.touched, ...later.touched]),
    owner: earlier.owner,
  };
}

function beforeLaterChange({ definition, action, before, image }: RowChange): Before | null {
  if (action !== 'deleted' || image === null || image === 'gone') return before;
  return asDeleted(definition, image);
}

/** The row as it was when it was deleted. Automatic columns and the delete date are left out: a soft delete has set them, and their old values are unknown. */
function asDeleted(definition: EntityDefinition, image: RowImage): Before {
  const { deleteDateColumn } = definition.metadata;
  const values = new Map<string, Json>();
  for (const field of definition.fields) {
    if (!field.automatic && field.column !== deleteDateColumn) values.set(field.path, definition.valueOf(field, image));
  }
  return { values, touched: new Set(values.keys()), owner: definition.ownerOf(image) };
}
