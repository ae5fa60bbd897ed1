import sql, { type Sql } from 'sql-template-tag';
import { patternsMatching } from '../events/event-type.js';
import { type Filter, matchesFilter } from '../listeners/filter.js';
import { droppedPaths, keysOfEvent, matchesAnyPattern, reaches, type RoutePath } from '../listeners/route-key.js';
import { chunks, inList } from './chunks.js';
import { type ListenerTarget, TARGET_COLUMNS, type TargetRow, toTarget } from './claim-deliveries.js';
import type { Database } from './database.js';
import type { ReadEvent } from './outbox-events.js';
import { query, type Script } from './script.js';
import { compareSequences } from './sequence.js';

/** A listener's row, with what of its state the fan-out has to know. */
export interface Candidate extends TargetRow {
  owner: string | null;
  ownerKey: Buffer | null;
  patterns: string;
  filter: string;
  ordering: string;
  rateLimit: string | null;
  state: string;
  /** Sequence of the last event before the listener was made. */
  afterSeq: unknown;
  readyAt: unknown;
  pausedUntil: unknown;
  failuresInARow: unknown;
}

/** A listener as events are judged by it. */
export interface ReadListener extends Omit<Candidate, 'patterns' | 'filter' | 'failuresInARow'> {
  patterns: string[];
  filter: Filter;
  failuresInARow: number;
  target: ListenerTarget;
  /** Why its row cannot be read. */
  unreadable?: unknown;
}

/** Pairs of an event and a listener that one round judges: what bounds its memory and its time, whoever listens to what. */
const PAIRS_PER_ROUND = 5_000;

/** An event that more listeners may want than this is fanned out by itself, page by page. */
const NARROW = 1_000;

/** What the routes find. */
interface Candidates {
  /** The listeners of each event. They are candidates: owner and filter are judged on each again. */
  readonly listenersOf: ReadonlyMap<ReadEvent, readonly ReadListener[]>;
  /** Events for `fanOutWide`. */
  readonly wide: readonly ReadEvent[];
  /** What this round does not get to. */
  readonly left: readonly ReadEvent[];
}

export function* candidates(database: Database, events: readonly ReadEvent[]): Script<Candidates> {
  const paths = yield* pathsInUse(database, events);
  const wide: ReadEvent[] = [];
  const routable: ReadEvent[] = [];
  // A value that was too large to store gives no key: then every listener is a candidate.
  for (const event of events) (droppedPaths(event, paths).length ? wide : routable).push(event);
  const listenersOf = new Map<ReadEvent, ReadListener[]>();
  const idsOf = yield* listenerIdsOf(database, routable, paths);
  const narrow = new Map<ReadEvent, ReadonlySet<string>>();
  let pairs = 0;
  for (const [event, ids] of idsOf) {
    if (ids === 'wide' || ids.size > NARROW) {
      wide.push(event);
      continue;
    }
    pairs += ids.size;
    if (pairs > PAIRS_PER_ROUND) break;
    narrow.set(event, ids);
  }
  const listeners = yield* standingListeners(database, [...new Set([...narrow.values()].flatMap((ids) => [...ids]))]);
  for (const [event, ids] of narrow) {
    listenersOf.set(
      event,
      [...ids].flatMap((id) => listeners.get(id) ?? []),
    );
  }
  const looked = new Set([...narrow.keys(), ...wide]);
  return {
    listenersOf,
    wide: wide.toSorted((a, b) => compareSequences(a.seq, b.seq)),
    left: events.filter((event) => !looked.has(event)),
  };
}

/**
 * Whether a listener is to hear of an event: the one place that decides it.
 *
 * @throws what the filter does, or why the listener cannot be read: whether the event is for it, nobody knows
 */
export function wants(listener: ReadListener, event: ReadEvent): boolean {
  if (listener.unreadable !== undefined) throw listener.unreadable;
  return (
    compareSequences(event.seq, listener.afterSeq) > 0 &&
    reaches(event, listener.owner) &&
    matchesAnyPattern(listener.patterns, event.types) &&
    matchesFilter(listener.filter, event)
  );
}

/** Read in the transaction of the claim and never kept: a listener made by another process a moment ago counts. */
export function* pathsInUse(database: Database, events: readonly ReadEvent[]): Script<RoutePath[]> {
  const { routePaths: p } = database.tables;
  const types = new Set(events.flatMap((event) => event.types));
  if (!types.size) return [];
  const patterns = [...new Set([...types].flatMap(patternsMatching))];
  return yield* query<RoutePath>(
    sql`select ${p.select('p', 'pattern', 'path')} from ${p.sql} p where p.${p.$.pattern} ${inList(patterns)}`,
  );
}

/**
 * The ids of the listeners that the routes find for each of the first of these events: all of them, or as many as the rows
 * that one round reads can tell of. An event that alone has more rows is `'wide'`.
 */
function* listenerIdsOf(
  database: Database,
  events: readonly ReadEvent[],
  paths: readonly RoutePath[],
): Script<Map<ReadEvent, Set<string> | 'wide'>> {
  const { routes: r } = database.tables;
  for (let some = events; ; some = some.slice(0, Math.ceil(some.length / 2))) {
    const idsOf = new Map(some.map((event) => [event, new Set<string>()] as const));
    const eventsOf = new Map<string, ReadEvent[]>();
    const keys: Buffer[] = [];
    for (const event of some) {
      for (const key of keysOfEvent(event, paths)) {
        const text = key.toString('latin1');
        const sharing = eventsOf.get(text);
        if (sharing) sharing.push(event);
        else {
          eventsOf.set(text, [event]);
          keys.push(key);
        }
      }
    }
    let left = PAIRS_PER_ROUND;
    for (const chunk of chunks(keys)) {
      const found = yield* query<{ key: Uint8Array; listenerId: string }>(
        sql`select ${r.select('r', 'key', 'listenerId')} from ${r.sql} r where r.${r.$.key} ${inList(chunk)} limit ${left + 1}`,
      );
      left -= found.length;
      if (left < 0) break;
      for (const { key, listenerId } of found) {
        for (const event of eventsOf.get(Buffer.from(key).toString('latin1')) ?? []) idsOf.get(event)?.add(listenerId);
      }
    }
    if (left >= 0) return idsOf;
    if (some.length === 1) return new Map(some.map((event) => [event, 'wide'] as const));
  }
}

export function* standingListeners(database: Database, ids: readonly string[]): Script<Map<string, ReadListener>> {
  const { listeners } = database.tables;
  const found = new Map<string, ReadListener>();
  for (const some of chunks(ids)) {
    const rows = yield* query<Candidate>(sql`${selectStanding(database)} and l.${listeners.$.id} ${inList(some)}`);
    for (const row of rows) found.set(row.id, readListener(row));
  }
  return found;
}

/** Disabled ones too: what happens meanwhile is held for them. */
export function selectStanding(database: Database): Sql {
  const { listeners: l, listenerState: s } = database.tables;
  const columns = l.select(
    'l',
    ...TARGET_COLUMNS,
    ...(['owner', 'ownerKey', 'patterns', 'filter', 'ordering', 'rateLimit', 'state', 'afterSeq'] as const),
  );
  return sql`select ${columns}, ${s.select('s', 'readyAt', 'pausedUntil', 'failuresInARow')} from ${l.sql} l join ${s.sql} s on s.${s.$.listenerId} = l.${l.$.id} where l.${l.$.deletedAt} is null`;
}

/** A listener as events are judged by it, also one that is disabled; `undefined` when it was removed, or never was. */
export function* standingListener(database: Database, id: string): Script<ReadListener | undefined> {
  const { listeners: l } = database.tables;
  const [row] = yield* query<Candidate>(sql`${selectStanding(database)} and l.${l.$.id} = ${id}`);
  return row && readListener(row);
}

export function readListener(row: Candidate): ReadListener {
  try {
    return parseListener(row);
  } catch (unreadable) {
    const { id, url, format } = row;
    const target = {
      id,
      url,
      format,
      headers: {},
      secrets: [],
      schemes: [],
      auth: null,
      tls: null,
      sendsSequence: false,
      isFailing: false,
    };
    return { ...row, patterns: [], filter: [], failuresInARow: 0, target, unreadable };
  }
}

function parseListener(row: Candidate): ReadListener {
  const failuresInARow = Number(row.failuresInARow);
  return {
    ...row,
    patterns: JSON.parse(row.patterns) as string[],
    filter: JSON.parse(row.filter) as Filter,
    failuresInARow,
    target: toTarget(row, failuresInARow > 0),
  };
}
