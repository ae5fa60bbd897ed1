import sql, { type Sql } from 'sql-template-tag';
import { patternsMatching } from '../../events/event-type.js';
import type { Filter } from '../../routing/filter.js';
import { matchesFilter } from '../../routing/match-filter.js';
import { droppedPaths, keysOfEvent, matchesAnyPattern, reaches, type RoutePath } from '../../routing/route-key.js';
import { chunks, inList } from '../database/chunks.js';
import { type ListenerTarget, TARGET_COLUMNS, type TargetRow, toTarget } from './listener-target.js';
import type { Database } from '../database/database.js';
import type { ReadEvent } from '../outbox/outbox-events.js';
import { query, type Script, together } from '../database/script.js';
import { compareSequences } from '../database/sequence.js';

/** A listener's row, with the part of the listener's state that the fan-out needs. */
export interface Candidate extends TargetRow {
  owner: string | null;
  ownerKey: Buffer | null;
  patterns: string;
  filter: string;
  ordering: string;
  rateLimit: string | null;
  allowedRate: unknown;
  state: string;
  /** The sequence of the last event before the listener was created. */
  afterSeq: unknown;
  readyAt: unknown;
  pausedUntil: unknown;
  failuresInARow: unknown;
}

/** A listener in the form that is used to match events. */
export interface ReadCandidate extends Omit<Candidate, 'patterns' | 'filter' | 'failuresInARow'> {
  patterns: string[];
  filter: Filter;
  failuresInARow: number;
  target: ListenerTarget;
  /** The error, if the row of the listener cannot be read. */
  unreadable?: unknown;
}

/** The number of pairs of an event and a listener that one round checks. This number limits the memory and the time of a round. */
const PAIRS_PER_ROUND = 5_000;

/**
 * The maximum number of candidates of an event that is not wide. A wide event has more candidates, and is fanned out alone, page by page.
 */
const MAX_NARROW_CANDIDATES = 1_000;

/** The result of the search through the routes. */
interface Candidates {
  /** The candidates of each event. Owner and filter of each candidate are checked again. */
  readonly listenersOf: ReadonlyMap<ReadEvent, readonly ReadCandidate[]>;
  /** Wide events, for `fanOutWide`. */
  readonly wide: readonly ReadEvent[];
  /** Events that did not fit into this round. */
  readonly left: readonly ReadEvent[];
}

export function* candidates(database: Database, events: readonly ReadEvent[], known: KnownPaths): Script<Candidates> {
  const isKnown = events.every(({ types }) => types.every((type) => known.types.has(type)));
  const paths = isKnown ? known.paths : yield* pathsInUse(database, events);
  const wide: ReadEvent[] = [];
  const routable: ReadEvent[] = [];
  // A value that was too large to store has no route key, so every listener is a candidate.
  for (const event of events) (droppedPaths(event, paths).length ? wide : routable).push(event);
  const listenersOf = new Map<ReadEvent, ReadCandidate[]>();
  const { idsOf, prefetched } = yield* listenerIdsOf(database, routable, paths);
  const narrow = new Map<ReadEvent, ReadonlySet<string>>();
  let pairs = 0;
  for (const [event, ids] of idsOf) {
    if (ids === 'wide' || ids.size > MAX_NARROW_CANDIDATES) {
      wide.push(event);
      continue;
    }
    pairs += ids.size;
    if (pairs > PAIRS_PER_ROUND) break;
    narrow.set(event, ids);
  }
  const listeners =
    prefetched ?? (yield* readCandidates(database, [...new Set([...narrow.values()].flatMap((ids) => [...ids]))]));
  for (const [event, ids] of narrow) {
    const readable: ReadCandidate[] = [];
    for (const id of ids) {
      const listener = listeners.get(id);
      if (listener) readable.push(listener);
    }
    listenersOf.set(event, readable);
  }
  const handled = new Set([...narrow.keys(), ...wide]);
  return {
    listenersOf,
    wide: wide.toSorted((a, b) => compareSequences(a.seq, b.seq)),
    left: events.filter((event) => !handled.has(event)),
  };
}

/**
 * Whether an event is for a listener. No other function decides this.
 *
 * @throws the error of the filter, or the error of reading the listener. After such an error, it is unknown whether the event is for this
 * listener
 */
export function wants(listener: ReadCandidate, event: ReadEvent): boolean {
  if (listener.unreadable !== undefined) throw listener.unreadable;
  return (
    compareSequences(event.seq, listener.afterSeq) > 0 &&
    reaches(event, listener.owner) &&
    matchesAnyPattern(listener.patterns, event.types) &&
    matchesFilter(listener.filter, event)
  );
}

/**
 * The payload paths that the filters on some types use. The paths are read together with the claim, for the types that the claimed events
 * probably have.
 */
export interface KnownPaths {
  readonly types: ReadonlySet<string>;
  readonly paths: readonly RoutePath[];
}

/**
 * Reads the payload paths in the transaction of the claim. The paths are never cached: another process may just have created a listener
 * with a new path.
 */
export function* pathsInUse(database: Database, events: readonly ReadEvent[]): Script<RoutePath[]> {
  const types = new Set(events.flatMap((event) => event.types));
  return types.size ? yield* query<RoutePath>(selectPaths(database, types)) : [];
}

/** The statement of {@link pathsInUse}, for at least one type. */
export function selectPaths(database: Database, types: ReadonlySet<string>): Sql {
  const { routePaths: p } = database.tables;
  const patterns = [...new Set([...types].flatMap(patternsMatching))];
  return sql`select ${p.select('p', 'pattern', 'path')} from ${p.sql} p where p.${p.$.pattern} ${inList(patterns)}`;
}

interface Found {
  readonly idsOf: ReadonlyMap<ReadEvent, ReadonlySet<string> | 'wide'>;
  /** The listeners. Set if the listeners were read together with the routes. */
  readonly prefetched?: ReadonlyMap<string, ReadCandidate>;
}

/**
 * Finds the listener ids for the first of these events, through the routes. The number of events is limited by the number of rows that one
 * round reads. If one event alone has more rows than one round reads, the value of this event is `'wide'`.
 */
function* listenerIdsOf(database: Database, events: readonly ReadEvent[], paths: readonly RoutePath[]): Script<Found> {
  for (let some = events; ; some = some.slice(0, Math.ceil(some.length / 2))) {
    const idsOf = new Map<ReadEvent, Set<string>>();
    const eventsOf = new Map<string, ReadEvent[]>();
    const keys: Buffer[] = [];
    for (const event of some) {
      idsOf.set(event, new Set());
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
    let prefetched: Found['prefetched'];
    const lists = [...chunks(keys)];
    for (const chunk of lists) {
      let found: RouteRow[];
      if (some === events && lists.length === 1)
        ({ found, prefetched } = yield* routesAndListeners(database, chunk, left));
      else found = yield* query<RouteRow>(selectRoutes(database, chunk, left + 1));
      left -= found.length;
      if (left < 0) break;
      for (const { key, listenerId } of found) {
        for (const event of eventsOf.get(Buffer.from(key).toString('latin1')) ?? []) idsOf.get(event)?.add(listenerId);
      }
    }
    if (left >= 0) return { idsOf, ...(prefetched ? { prefetched } : {}) };
    if (some.length === 1) return { idsOf: new Map(some.map((event) => [event, 'wide'] as const)) };
  }
}

interface RouteRow {
  readonly key: Uint8Array;
  readonly listenerId: string;
}

function selectRoutes({ tables: { routes: r } }: Database, keys: readonly Buffer[], limit: number): Sql {
  return sql`select ${r.select('r', 'key', 'listenerId')} from ${r.sql} r where r.${r.$.key} ${inList(keys)} limit ${limit}`;
}

/** The maximum number of listeners that are read together with their routes. For a wide event this read would be useless. */
const LISTENERS_WITH_ROUTES = 500;

/**
 * Reads routes and listeners. If statements can be pipelined, the listeners are selected before their ids are known. The early select saves
 * one round trip.
 */
function* routesAndListeners(
  database: Database,
  keys: readonly Buffer[],
  limit: number,
): Script<{ found: RouteRow[]; prefetched: Found['prefetched'] }> {
  const routes = selectRoutes(database, keys, limit + 1);
  if (database.dialect !== 'postgres') return { found: yield* query<RouteRow>(routes), prefetched: undefined };
  const { listeners: l, routes: r } = database.tables;
  const ids = sql`select x.id from (select r.${r.$.listenerId} as id from ${r.sql} r where r.${r.$.key} ${inList(keys)} limit ${limit + 1}) x group by x.id limit ${LISTENERS_WITH_ROUTES}`;
  const [found, listeners] = yield* together([routes, sql`${selectCandidates(database)} and l.${l.$.id} in (${ids})`], {
    isEnd: false,
  });
  const rows = (found?.rows ?? []) as unknown as RouteRow[];
  const isWhole = new Set(rows.map(({ listenerId }) => listenerId)).size < LISTENERS_WITH_ROUTES;
  return {
    found: rows,
    prefetched: isWhole ? listenersOf((listeners?.rows ?? []) as unknown as Candidate[]) : undefined,
  };
}

export function* readCandidates(database: Database, ids: readonly string[]): Script<Map<string, ReadCandidate>> {
  const { listeners } = database.tables;
  const found: Candidate[] = [];
  for (const some of chunks(ids)) {
    found.push(
      ...(yield* query<Candidate>(sql`${selectCandidates(database)} and l.${listeners.$.id} ${inList(some)}`)),
    );
  }
  return listenersOf(found);
}

function listenersOf(rows: readonly Candidate[]): Map<string, ReadCandidate> {
  return new Map(rows.map((row) => [row.id, readCandidate(row)]));
}

/** Selects listeners, also disabled listeners. The deliveries of a disabled listener are held until the listener is enabled. */
export function selectCandidates(database: Database): Sql {
  const { listeners: l, listenerState: s } = database.tables;
  const columns = l.select(
    'l',
    ...TARGET_COLUMNS,
    ...(['owner', 'ownerKey', 'patterns', 'filter', 'ordering', 'rateLimit', 'allowedRate', 'state'] as const),
    'afterSeq',
  );
  return sql`select ${columns}, ${s.select('s', 'readyAt', 'pausedUntil', 'failuresInARow')} from ${l.sql} l join ${s.sql} s on s.${s.$.listenerId} = l.${l.$.id} where l.${l.$.deletedAt} is null`;
}

/** Reads a listener. The listener may be disabled. `undefined` if the listener was removed or never existed. */
export function* readCandidateById(database: Database, id: string): Script<ReadCandidate | undefined> {
  const { listeners: l } = database.tables;
  const [row] = yield* query<Candidate>(sql`${selectCandidates(database)} and l.${l.$.id} = ${id}`);
  return row && readCandidate(row);
}

export function readCandidate(row: Candidate): ReadCandidate {
  try {
    return parseListener(row);
  } catch (unreadable) {
    const { id, url, format, versions, handshake } = row;
    const target = {
      id,
      url,
      format,
      versions,
      handshake,
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

function parseListener(row: Candidate): ReadCandidate {
  const failuresInARow = Number(row.failuresInARow);
  return {
    // The spread of the row comes last, because this order is faster. See `readEvent`.
    target: toTarget(row, failuresInARow > 0),
    ...row,
    patterns: JSON.parse(row.patterns) as string[],
    filter: JSON.parse(row.filter) as Filter,
    failuresInARow,
  };
}
