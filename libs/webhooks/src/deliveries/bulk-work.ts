import type { ArchivedEvent } from '../archive/archive-lines.js';
import type { WebhookClock } from '../clock.js';
import { ListenerNotFoundError } from '../listener-errors.js';
import type { Limits } from '../quotas.js';
import type { Sealing } from '../secrets/sealing.js';
import type { Database } from '../store/database/database.js';
import type { PagePosition } from '../store/database/page.js';
import type { Script } from '../store/database/script.js';
import { readListener, type OwnerScope } from '../store/listeners/listener-rows.js';
import { resealListeners } from '../store/listeners/listener-secrets.js';
import { readCandidateById, type ReadCandidate } from '../store/queue/candidates.js';
import { discardDeliveries } from '../store/queue/discard-deliveries.js';
import { countErasable, eraseContent, type ErasedEvents, type ErasePosition } from '../store/queue/erase-content.js';
import type { BodyOf } from '../store/queue/rendered-body.js';
import { recoverDeliveries } from '../store/queue/recover-deliveries.js';
import { replayEvents, replayThese, type ReplayOptions } from '../store/queue/replay-events.js';
import { readPastEvents, restoreEvents } from '../store/queue/restore-events.js';
import { countSelected, type DeliverySelection } from '../store/queue/select-deliveries.js';
import type { TaskKind } from './task-kind.js';

/** A checked filter. Times are in ms since 1970. */
export interface WorkFilter {
  readonly listenerId?: string | undefined;
  readonly since: number;
  readonly until: number;
  readonly states: readonly string[];
  readonly types?: readonly string[] | undefined;
  readonly errorCode?: string | undefined;
  /** Hexadecimal. */
  readonly orderKey?: string | undefined;
  readonly owner?: string | undefined;
  readonly eventId?: string | undefined;
}

/** Bulk work of one kind, for the deliveries and events that one owner may see. */
export interface Work {
  readonly kind: TaskKind;
  readonly scope: OwnerScope;
  readonly filter: WorkFilter;
  /** The person or program that asked for the work. Default: the application gave no name. */
  readonly actor?: string | null;
}

/** Where the next batch begins. It is stored as JSON. */
export type WorkPosition = ErasePosition;

/** The result of one batch. */
export interface WorkBatch {
  readonly count: number;
  /** `null` after the last batch. */
  readonly next: WorkPosition | null;
  /** Whether the next batch must wait for requests in flight. */
  readonly isWaiting?: boolean;
  /** The number of discarded deliveries, by listener. */
  readonly discarded?: ReadonlyMap<string, number>;
}

/** The result of one part of a count. */
export interface WorkCount {
  readonly count: number;
  readonly oldest: number | null;
  readonly newest: number | null;
  readonly next: WorkPosition | null;
}

interface BulkWorkParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly bodyOf: BodyOf;
  readonly limits: Limits;
  readonly sealing: Sealing;
}

/**
 * The batches of bulk work. A batch is the body of one short transaction. The calls of the services and the tasks use the same batches.
 */
export class BulkWork {
  constructor(private readonly parts: BulkWorkParts) {}

  /** Does the next batch. @param limit the maximum number of rows; by default, each kind of work has its own */
  *batch(work: Work, after: WorkPosition | null, limit?: number): Script<WorkBatch> {
    const { database, clock, bodyOf } = this.parts;
    const now = clock.now();
    const from = after ?? start(work.filter);
    switch (work.kind) {
      case 'recover':
        return yield* recoverDeliveries(database, {
          ...{ selection: this.selection(work), after: from, now, bodyOf, limit },
          actor: work.actor ?? null,
        });
      case 'discard':
        return yield* discardDeliveries(database, { selection: this.selection(work), after: from, now, limit });
      case 'replay': {
        const listener = yield* this.listenerOf(work);
        const { made, next } = yield* replayEvents(database, listener, this.replayOptions(work, from, { limit }));
        return { count: made, next };
      }
      case 'erase':
        return yield* eraseContent(database, erasedEvents(work), { after: from, now, limit });
      case 'reseal':
        return yield* this.reseal(from, false);
    }
  }

  /** Counts the next part, and writes nothing. @param limit where the count may end */
  *count(work: Work, after: WorkPosition | null, limit: number): Script<WorkCount> {
    const { database } = this.parts;
    const from = after ?? start(work.filter);
    switch (work.kind) {
      case 'recover':
      case 'discard':
        return yield* countSelected(database, this.selection(work), from, limit);
      case 'replay': {
        const listener = yield* this.listenerOf(work);
        const options = this.replayOptions(work, from, { isDryRun: true });
        const { times = [], next } = yield* replayEvents(database, listener, options);
        return counted(times, next);
      }
      case 'erase': {
        const { times, next } = yield* countErasable(database, erasedEvents(work), from, limit);
        return counted(times, next);
      }
      case 'reseal': {
        const { count, next } = yield* this.reseal(from, true);
        return { count, oldest: null, newest: null, next };
      }
    }
  }

  /**
   * Restores events of an archive, and replays them for a listener.
   *
   * @param options `listenerId`: nothing is sent without it
   * @returns the numbers of restored events and of deliveries
   */
  *restore(
    events: readonly ArchivedEvent[],
    { listenerId, isDryRun, actor }: { listenerId: string | undefined; isDryRun: boolean; actor: string | null },
  ): Script<{ restored: number; deliveries: number }> {
    const { database, clock, bodyOf } = this.parts;
    const now = clock.now();
    const filter = { listenerId, since: 0, until: 0, states: [] };
    const listener =
      listenerId === undefined ? null : yield* this.listenerOf({ kind: 'replay', scope: undefined, filter });
    const restored = yield* restoreEvents(database, events, { now, isDryRun });
    if (!listener || isDryRun) return { restored, deliveries: 0 };
    const ids = events.map(({ id }) => id);
    const past = yield* readPastEvents(database, ids);
    const { made } = yield* replayThese(database, listener, past, { now, bodyOf, actor, isOnlyBatch: false });
    return { restored, deliveries: made };
  }

  private selection({ kind, scope, filter }: Work): DeliverySelection {
    const { orderKey, ...rest } = filter;
    const isRepeated = kind === 'recover' && scope !== undefined;
    return {
      ...rest,
      scope,
      orderKey: orderKey === undefined ? undefined : Buffer.from(orderKey, 'hex'),
      attemptsBelow: isRepeated ? this.parts.limits.attemptsPerDelivery : undefined,
    };
  }

  private replayOptions(
    { filter, actor = null }: Work,
    after: PagePosition,
    more: Pick<ReplayOptions, 'isDryRun' | 'limit'>,
  ): ReplayOptions {
    const { until, types, orderKey } = filter;
    const { clock, bodyOf } = this.parts;
    const key = orderKey === undefined ? undefined : Buffer.from(orderKey, 'hex');
    return { after, until, types, orderKey: key, now: clock.now(), bodyOf, actor, ...more };
  }

  /** The listener is read again for each batch, because it may be removed between two batches. @throws ListenerNotFoundError */
  private *listenerOf({ scope, filter: { listenerId = '', owner } }: Work): Script<ReadCandidate> {
    const { database } = this.parts;
    const visible = yield* readListener(database, listenerId, scope);
    const listener = visible && (yield* readCandidateById(database, visible.id));
    if (!listener || (owner !== undefined && listener.owner !== owner)) throw new ListenerNotFoundError(listenerId);
    return listener;
  }

  private *reseal({ seq }: PagePosition, isDryRun: boolean): Script<WorkBatch> {
    const { database, clock, sealing } = this.parts;
    const page = yield* resealListeners(database, { sealing, now: clock.now(), after: seq, isDryRun });
    return { count: page.resealed, next: page.last === null ? null : { at: 0, seq: page.last } };
  }
}

function start({ since }: WorkFilter): WorkPosition {
  return { at: since, seq: '0' };
}

function erasedEvents({ filter }: Work): ErasedEvents {
  const { eventId, owner, until, orderKey } = filter;
  // The clock of the process that wrote the event may be ahead.
  const end = eventId === undefined ? until : Number.MAX_SAFE_INTEGER;
  return { eventId, owner, until: end, orderKey: orderKey === undefined ? undefined : Buffer.from(orderKey, 'hex') };
}

function counted(times: readonly number[], next: WorkPosition | null): WorkCount {
  const isEmpty = times.length === 0;
  return {
    count: times.length,
    oldest: isEmpty ? null : Math.min(...times),
    newest: isEmpty ? null : Math.max(...times),
    next,
  };
}
