import { tupleHash } from '../../hash.js';
import type { CommittedChange } from './committed-changes.js';

/** Changes of one row that one event must cover together. Usually this is one change. */
export type Unit = readonly CommittedChange[];

/** The units of each row, in order. The keys are the order keys of the events. */
export type Arrangement = ReadonlyMap<string, readonly Unit[]>;

/** The order key of the events that a change makes. */
export function orderKeyOf({ definition, key }: Pick<CommittedChange, 'definition' | 'key'>): string {
  return tupleHash('entity', definition.metadata.tableName, key).toString('hex');
}

/**
 * The order key that the row of a change had before, if the change is an update to another primary key which one call may merge with earlier
 * changes of the row; otherwise `null`.
 */
function movedFrom({ op, definition, old, key }: CommittedChange): string | null {
  if (op !== 'update' || definition.capture !== 'orm' || !old || old.key === key) return null;
  return orderKeyOf({ definition, key: old.key });
}

/** Divides changes into sets that share no row. Rows belong together if one of them was moved to the key of the other. */
export function connectedChanges(changes: readonly CommittedChange[], mayMerge: boolean): Map<string, string> {
  const parents = new Map<string, string>();
  const rootOf = (key: string): string => {
    let root = key;
    for (let next = parents.get(root); next !== undefined; next = parents.get(root)) root = next;
    return root;
  };
  const keys = new Set<string>();
  for (const change of changes) {
    const key = orderKeyOf(change);
    keys.add(key);
    const from = mayMerge ? movedFrom(change) : null;
    if (from === null) continue;
    keys.add(from);
    const [one, other] = [rootOf(from), rootOf(key)];
    if (one !== other) parents.set(one, other);
  }
  return new Map([...keys].map((key) => [key, rootOf(key)]));
}

/**
 * The possible ways in which events may cover changes that move rows to other keys. One upsert may insert or update a row and then change
 * its key, which makes one event with the last key. Several statements make an event for each key.
 *
 * @param changes changes of rows that moves connect, in order
 */
export function arrangementsOf(changes: readonly CommittedChange[], mayMerge: boolean): Generator<Arrangement> {
  return arrange(changes, mayMerge, 0, new Map());
}

function* arrange(
  changes: readonly CommittedChange[],
  mayMerge: boolean,
  start: number,
  earlier: Arrangement,
): Generator<Arrangement> {
  const rows = new Map([...earlier].map(([key, units]) => [key, [...units]]));
  const others: { readonly next: number; readonly rows: Map<string, Unit[]> }[] = [];
  for (let n = start; n < changes.length; n++) {
    const change = changes[n] as CommittedChange;
    const from = mayMerge ? movedFrom(change) : null;
    const units = (from !== null && rows.get(from)) || [];
    const most = mergeable(units, change);
    for (let count = 1; count <= most; count++) {
      const merged = new Map([...rows, [from as string, units.slice(0, units.length - count)]]);
      add(merged, [...units.slice(units.length - count).flat(), change]);
      others.push({ next: n + 1, rows: merged });
    }
    add(rows, [change]);
  }
  // Most moves are statements of their own, so the arrangement without merged changes comes first.
  yield rows;
  for (const { next, rows: merged } of others) yield* arrange(changes, mayMerge, next, merged);
}

/** Adds a unit to the row of its last change. */
function add(rows: Map<string, Unit[]>, unit: Unit): void {
  const key = orderKeyOf(unit.at(-1) as CommittedChange);
  rows.set(key, [...(rows.get(key) ?? []), unit]);
}

/** How many of the last units of a row one statement may have written together with a move of this row: one insert or update, and updates. */
function mergeable(units: readonly Unit[], move: CommittedChange): number {
  let count = 0;
  for (const unit of units.toReversed()) {
    const [first] = unit;
    if (!first || first.op === 'delete' || first.transaction !== move.transaction) break;
    count++;
    if (first.op === 'insert') break;
  }
  return count;
}
