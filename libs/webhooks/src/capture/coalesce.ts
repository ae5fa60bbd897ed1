import type { EventRow } from '../events/event-rows.js';
import type { Json } from '../events/json.js';
import type { EntityDefinition, RowImage } from './entity-definition.js';
import type { Before, RowChange } from './transaction-log.js';
import type { EntityAction } from './webhook.decorator.js';

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

/**
 * Makes one change of all changes of a row, where its entity says `coalesce: true`: the first `previous`, the last `data`, in the
 * place of the first. The others stay as they are.
 *
 * @param items what is written to the outbox together, with the images read
 */
export function coalesced(items: readonly (RowChange | EventRow)[]): (RowChange | EventRow)[] {
  const result: (RowChange[] | EventRow)[] = [];
  const byRow = new Map<EntityDefinition, Map<string, RowChange[]>>();
  for (const item of items) {
    if ('values' in item || !item.definition.options.coalesce) {
      result.push('values' in item ? item : [item]);
      continue;
    }
    let rows = byRow.get(item.definition);
    if (!rows) byRow.set(item.definition, (rows = new Map()));
    const changes = rows.get(item.key);
    if (changes) changes.push(item);
    else {
      const own = [item];
      rows.set(item.key, own);
      result.push(own);
    }
  }
  return result.flatMap<RowChange | EventRow>((item) =>
    Array.isArray(item) ? merged(item as [RowChange, ...RowChange[]]) : item,
  );
}

function merged(changes: readonly [RowChange, ...RowChange[]]): RowChange[] {
  const [first, ...later] = changes;
  if (!later.length) return [first];
  const net = netChange([first.action, ...later.map(({ action }) => action)]);
  if (net === 'unmade' || net === 'unrestored') return [];
  // What is written to a row after it was deleted is nothing that its last event shows.
  const last = (net === 'deleted' ? changes.findLast(({ action }) => action === 'deleted') : changes.at(-1)) ?? first;
  const isKnownBefore = net === 'updated' || net === 'deleted';
  return [{ ...last, action: net, before: isKnownBefore ? firstBefore(changes) : null }];
}

/** What stood before the first of them: where a later one says something of a field that an earlier one has said, the earlier counts. */
function firstBefore(changes: readonly RowChange[]): Before | null {
  const known = changes.map(beforeOf).filter((before) => before !== null);
  const [first] = known;
  if (!first) return null;
  const values = new Map<string, Json>();
  const touched = new Set<string>();
  for (const before of known) {
    for (const [path, value] of before.values) if (!values.has(path)) values.set(path, value);
    for (const path of before.touched) touched.add(path);
  }
  return { values, touched, owner: first.owner };
}

function beforeOf({ definition, action, before, image }: RowChange): Before | null {
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
