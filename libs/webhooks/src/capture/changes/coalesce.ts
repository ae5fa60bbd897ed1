import type { EventRow } from '../../store/outbox/event-rows.js';
import type { Json } from '../../json.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { Before, RowChange } from './row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';

/**
 * What several changes of one row come to, for somebody who sees the row only before the first and after the last. Each action,
 * and two that end where they began: `unmade` was created and deleted again, `unrestored` was restored and deleted again.
 */
export type NetChange = EntityAction | 'unmade' | 'unrestored';

/**
 * What a row has come to, and what happens to it next. A row may be deleted softly and come back (`restored`), or hardly and be
 * `created` again under its key: for whoever knew it, it was `updated`. What is written to a row while it is deleted tells nobody.
 */
const NEXT: Readonly<Record<NetChange, Readonly<Record<EntityAction, NetChange>>>> = {
  created: { created: 'created', updated: 'created', deleted: 'unmade', restored: 'created' },
  unmade: { created: 'created', updated: 'unmade', deleted: 'unmade', restored: 'created' },
  updated: { created: 'updated', updated: 'updated', deleted: 'deleted', restored: 'restored' },
  deleted: { created: 'updated', updated: 'deleted', deleted: 'deleted', restored: 'updated' },
  restored: { created: 'restored', updated: 'restored', deleted: 'unrestored', restored: 'restored' },
  unrestored: { created: 'restored', updated: 'unrestored', deleted: 'unrestored', restored: 'restored' },
};

export function netChange([first, ...later]: readonly [EntityAction, ...EntityAction[]]): NetChange {
  return later.reduce<NetChange>((net, action) => NEXT[net][action], first);
}

/** What several changes of one row have come to so far. */
export interface RowHistory {
  readonly net: NetChange;
  /** What stood before the first of them, as far as it is known. */
  readonly before: Before | null;
  /** Whose image is the last that anybody sees. */
  readonly last: RowChange;
}

/** What waits to be written, with one change of each row whose entity says `coalesce: true`. */
export interface Coalesced {
  readonly items: readonly (RowChange | EventRow)[];
  /** What led to a change of these. */
  readonly histories: ReadonlyMap<RowChange, RowHistory>;
  /** Of rows that came to nothing. */
  readonly ended: readonly RowHistory[];
}

/**
 * Makes one change of all changes of a row, where its entity says `coalesce: true`: the first `previous`, the last `data`, in the
 * place of the first. The others stay as they are.
 *
 * @param items what is written to the outbox together, with the images read
 * @param earlier what the same transaction has told of a row already
 */
export function coalesced(
  items: readonly (RowChange | EventRow)[],
  earlier: (change: RowChange) => RowHistory | undefined = () => undefined,
): Coalesced {
  // As mostly, nothing is merged.
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
  if (!earlier) return { net: change.action, before, last: change };
  const net = NEXT[earlier.net][change.action];
  const isOfDeleted = net === 'deleted' && change.action !== 'deleted';
  const last = isOfDeleted && !isOfOneOwner(earlier.last, change) ? earlier.last : change;
  return { net, before: firstOf(earlier.before, before), last };
}

/** Whoever a deleted row is given to has never had it. */
function isOfOneOwner({ definition, image }: RowChange, { image: later }: RowChange): boolean {
  if (!image || image === 'gone' || !later || later === 'gone') return false;
  const before = definition.ownerOf(image);
  const after = definition.ownerOf(later);
  return before.owner === after.owner && before.audience === after.audience;
}

/** `null` where it all came to nothing. */
function changeOf({ net, before, last }: RowHistory): RowChange | null {
  if (net === 'unmade' || net === 'unrestored') return null;
  const isKnownBefore = net === 'updated' || net === 'deleted';
  return { ...last, action: net, before: isKnownBefore ? before : null };
}

/** Where the later one says something of a field that the earlier one has said, the earlier counts. */
function firstOf(earlier: Before | null, later: Before | null): Before | null {
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

/** The row as it was when it was deleted. A soft delete has set the columns that tell of it: what they were is not known, and no news. */
function asDeleted(definition: EntityDefinition, image: RowImage): Before {
  const { deleteDateColumn } = definition.metadata;
  const values = new Map<string, Json>();
  for (const field of definition.fields) {
    if (!field.automatic && field.column !== deleteDateColumn) values.set(field.path, definition.valueOf(field, image));
  }
  return { values, touched: new Set(values.keys()), owner: definition.ownerOf(image) };
}
