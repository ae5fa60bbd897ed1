import type { JsonObject } from '../../json.js';
import { arrangementsOf, connectedChanges, orderKeyOf, type Unit } from './arrangements.js';
import type { CommittedChange } from './committed-changes.js';
import { expectedEvents, type ExpectedEvent } from './expected-events.js';
import { sameJson } from './same-json.js';
import type { StoredEvent } from './stored-events.js';

/** One difference between the stored events and the changes that the witness's triggers recorded. */
export type EventDifference =
  | { readonly kind: 'missing'; readonly expected: ExpectedEvent; readonly change: CommittedChange }
  | { readonly kind: 'extra'; readonly stored: StoredEvent }
  | {
      readonly kind: 'different';
      readonly expected: ExpectedEvent;
      readonly stored: StoredEvent;
      readonly change: CommittedChange;
    };

/**
 * Costs of an alignment. `GAP` is the cost of a missing or extra event. A pair with different types costs less than two gaps. A
 * pair with only different values costs less than a pair with different types.
 */
const GAP = 1;
const OTHER_TYPE = 1.9;
const OTHER_VALUES = 1;

/** The number of arrangements that are tried for rows that moves connect. In most cases the first arrangement fits. */
const MOST_ARRANGEMENTS = 500;

/** Compares the events of each row with the changes of that row, in order. @param mayMerge see {@link explains} */
export function compareEvents(
  changes: readonly CommittedChange[],
  events: readonly StoredEvent[],
  mayMerge = false,
): readonly EventDifference[] {
  const sets = new Map<string, { changes: CommittedChange[]; events: StoredEvent[] }>();
  const connected = connectedChanges(changes, mayMerge);
  const setOf = (row: string) => {
    const key = connected.get(row) ?? row;
    const known = sets.get(key) ?? { changes: [], events: [] };
    sets.set(key, known);
    return known;
  };
  for (const change of changes) setOf(orderKeyOf(change)).changes.push(change);
  for (const event of events) setOf(event.orderKey ?? '').events.push(event);
  return [...sets.values()].flatMap((set) => differencesOfSet(set.changes, set.events, mayMerge));
}

/** The differences in the arrangement of the changes that fits the events best. */
function differencesOfSet(
  changes: readonly CommittedChange[],
  events: readonly StoredEvent[],
  mayMerge: boolean,
): readonly EventDifference[] {
  let best: { units: readonly Unit[]; events: readonly StoredEvent[] }[] | null = null;
  let tried = 0;
  for (const rows of arrangementsOf(changes, mayMerge)) {
    const keys = new Set([...rows.keys(), ...events.map(({ orderKey }) => orderKey ?? '')]);
    const wrong = [...keys]
      .map((key) => ({
        units: rows.get(key) ?? [],
        events: events.filter(({ orderKey }) => (orderKey ?? '') === key),
      }))
      .filter((row) => !explains(row.units, row.events, mayMerge));
    if (!wrong.length) return [];
    if (!best || wrong.length < best.length) best = wrong;
    if (++tried === MOST_ARRANGEMENTS) break;
  }
  return (best ?? []).flatMap((row) => differencesOfRow(row.units, row.events));
}

function differencesOfRow(units: readonly Unit[], events: readonly StoredEvent[]): EventDifference[] {
  const wanted = groupsOf(units).flatMap((group) => {
    const [usual = []] = expectedEvents(group);
    return usual.map((expected) => ({ expected, change: group.at(-1) as CommittedChange }));
  });
  return align(wanted, events);
}

/**
 * Whether there is a grouping of the changes whose expected events are exactly the stored events.
 *
 * @param mayMerge whether one statement may have written a row twice. The event of such a statement covers both changes, from the first
 * old row to the last new row
 */
function explains(units: readonly Unit[], events: readonly StoredEvent[], mayMerge: boolean): boolean {
  const failed = new Set<string>();
  const from = (unit: number, event: number): boolean => {
    if (unit === units.length) return event === events.length;
    const state = `${unit} ${event}`;
    if (failed.has(state)) return false;
    for (let end = unit + 1; end <= lastOfGroup(units, unit, mayMerge); end++) {
      for (const choice of expectedEvents(units.slice(unit, end).flat())) {
        const isStored = choice.every((expected, n) => isEqual(expected, events[event + n]));
        if (isStored && from(end, event + choice.length)) return true;
      }
    }
    failed.add(state);
    return false;
  };
  return from(0, 0);
}

/**
 * Finds the longest group of units that can be merged into one event, and returns where this group ends. The group is one unit, or with
 * `coalesce` all units of a transaction.
 */
function lastOfGroup(units: readonly Unit[], start: number, mayMerge: boolean): number {
  const [first] = units[start] as [CommittedChange];
  const { options, capture } = first.definition;
  const isMerged = options.coalesce === true;
  if (!isMerged && !(mayMerge && capture === 'orm')) return start + 1;
  const canFollow = (change: CommittedChange) =>
    change.transaction === first.transaction && (isMerged || change.op === 'update');
  const end = units.findIndex((unit, n) => n > start && !unit.every(canFollow));
  return end === -1 ? units.length : end;
}

/** Groups units for the report of differences: by transaction for `coalesce`, on databases that give transaction ids. */
function groupsOf(units: readonly Unit[]): Unit[] {
  const groups: CommittedChange[][] = [];
  for (const unit of units) {
    const [change] = unit as [CommittedChange];
    const group = groups.at(-1);
    const isSame = change.transaction !== null && group?.[0]?.transaction === change.transaction;
    if (group && isSame && change.definition.options.coalesce) group.push(...unit);
    else groups.push([...unit]);
  }
  return groups;
}

interface Wanted {
  readonly expected: ExpectedEvent;
  readonly change: CommittedChange;
}

/** Pairs expected and stored events in order, at the lowest total cost. */
function align(wanted: readonly Wanted[], events: readonly StoredEvent[]): EventDifference[] {
  const known = new Map<number, { cost: number; differences: readonly EventDifference[] }>();
  const best = (w: number, e: number): { cost: number; differences: readonly EventDifference[] } => {
    const state = w * (events.length + 1) + e;
    const done = known.get(state);
    if (done) return done;
    const choices: { cost: number; differences: readonly EventDifference[] }[] = [];
    const [want, stored] = [wanted[w], events[e]];
    const add = (
      cost: number,
      rest: { cost: number; differences: readonly EventDifference[] },
      own: EventDifference[],
    ) => choices.push({ cost: cost + rest.cost, differences: [...own, ...rest.differences] });
    if (want && stored) {
      const cost = costOf(want.expected, stored);
      add(cost, best(w + 1, e + 1), cost === 0 ? [] : [{ kind: 'different', ...want, stored }]);
    }
    if (want) add(GAP, best(w + 1, e), [{ kind: 'missing', ...want }]);
    if (stored) add(GAP, best(w, e + 1), [{ kind: 'extra', stored }]);
    const result = choices.reduce((a, b) => (b.cost < a.cost ? b : a), choices[0] ?? { cost: 0, differences: [] });
    known.set(state, result);
    return result;
  };
  return [...best(0, 0).differences];
}

function costOf(expected: ExpectedEvent, stored: StoredEvent): number {
  if (isEqual(expected, stored)) return 0;
  return expected.type === stored.type ? OTHER_VALUES : OTHER_TYPE;
}

function isEqual(expected: ExpectedEvent, stored: StoredEvent | undefined): boolean {
  return stored !== undefined && valueDifferences(expected, stored).length === 0;
}

/** One value of a stored event that differs from the committed value. */
export interface ValueDifference {
  /** The path of the value, such as `data.status`, `previous.address` or `owner`. */
  readonly path: string;
  /** The expected value. `undefined` if the event should not have this value. */
  readonly expected: unknown;
  /** The stored value. `undefined` if the event does not have this value. */
  readonly stored: unknown;
}

/** All differences between an expected and a stored event: type, audience, owner and fields. */
export function valueDifferences(expected: ExpectedEvent, stored: StoredEvent): ValueDifference[] {
  const differences: ValueDifference[] = [];
  for (const path of ['type', 'audience', 'owner'] as const) {
    if (expected[path] !== stored[path]) differences.push({ path, expected: expected[path], stored: stored[path] });
  }
  return [
    ...differences,
    ...fieldDifferences('data', expected.data, stored.data, stored),
    ...fieldDifferences('previous', expected.previous ?? {}, stored.previous ?? {}, stored),
  ];
}

function fieldDifferences(
  name: 'data' | 'previous',
  expected: JsonObject,
  stored: JsonObject,
  { isTruncated }: StoredEvent,
): ValueDifference[] {
  return [...new Set([...Object.keys(expected), ...Object.keys(stored)])].flatMap((key) => {
    const isDropped = isTruncated && !(key in stored);
    if (isDropped || sameJson(expected[key], stored[key])) return [];
    return [{ path: `${name}.${key}`, expected: expected[key], stored: stored[key] }];
  });
}
