import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import { newLease } from '../ids.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import {
  advanceChore,
  claimChore,
  insertChores,
  readChores,
  releaseChore,
  resumeChore,
  type ChoreState,
} from '../store/database/chores.js';
import { type Database } from '../store/database/database.js';
import { pause, MINUTE, HOUR, DAY } from '../time.js';
import {
  discardPending,
  LISTENERS_PER_BATCH,
  prune,
  pruneListeners,
  readOldEvents,
  TOO_OLD,
} from '../store/queue/old-events.js';
import { readBacklog } from '../store/queue/read-backlog.js';
import { hasMoreRows } from '../store/outbox/outbox-rows.js';
import { pruneImages } from '../store/outbox/images.js';
import { eraseSecrets } from '../store/listeners/listener-rows.js';
import { KEY_KNOWN_FOR_MS, pruneAnswers } from '../store/requests/idempotency.js';
import { AUDIT_KEPT_MS, pruneAudit } from '../store/system/audit.js';
import { pausedTime, readSending, type SendingState } from '../store/system/sending.js';
import {
  pruneStats,
  rollStats,
  STATS_FINE_FOR_MS,
  STATS_FINE_SPAN_MS,
  STATS_KEPT_MS,
  STATS_MINUTES_FOR_MS,
} from '../store/system/stats.js';
import { pruneRevocations } from '../store/requests/revoked-sessions.js';
import { pruneTasks } from '../store/queue/task-rows.js';
import type { Script } from '../store/database/script.js';
import { DAYS_AHEAD, PartitionChore, rowsBefore } from './partition-chore.js';
import type { Archiver } from './archiver.js';
import { archivesOf, type Archives } from './archives.js';
import { LIFECYCLE_EVENTS, type LifecycleEvent } from './lifecycle-events.js';
import type { OperationalEvents } from './operational-events.js';
import { Signal } from './signal.js';
import { TroubleLog } from '../webhooks-logger.js';
import { messageOf } from '../foreign-text.js';

/** Dependencies of the upkeep. @internal */
export interface UpkeepParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly maxAgeMs: number;
  readonly retention: ResolvedWebhooksOptions['retention'];
  /** Deletes the old rows in place of the chores; `null` if this process has no archive. */
  readonly archiver: Archiver | null;
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent) => void;
  readonly diagnostics: Diagnostics;
  /** `null` if the option `operationalEvents` is off. */
  readonly operational: OperationalEvents | null;
  /** The tables whose images this process converts. */
  readonly tablePaths: () => readonly string[];
}

/** The work that the chores did in this process. */
export interface UpkeepResult {
  /** Number of deliveries that were discarded because they were pending for too long. */
  readonly discarded: number;
  /** Number of deliveries that were deleted together with their attempts. */
  readonly deliveries: number;
  /** Number of deleted events. */
  readonly events: number;
}

/** Result of one transaction of a chore. */
interface Batch {
  /** Sequence of an event or a listener, after which the next batch begins. */
  readonly position: number;
  /** Whether no work is left until the chore is due again. */
  readonly isDone: boolean;
  readonly discarded?: ReadonlyMap<string, number>;
  readonly deliveries?: number;
  readonly events?: number;
  /** To call after the commit, because the transaction may run twice. */
  readonly committed?: () => void;
}

interface Chore {
  readonly name: string;
  readonly everyMs: number;
  batch(position: number, now: number): Script<Batch>;
}

/** How often to search for due chores. A search is one cheap query. */
const LOOK_EVERY_MS = MINUTE;
const OFTEN_MS = 5 * MINUTE;
const DAILY_MS = DAY;
/** If the outbox contains at least this many events, a warning is logged. */
const LONG_OUTBOX = 1_000_000;
/** Lease of a chore. If its process dies, another process continues after this time. */
const LEASE_MS = MINUTE;
/** While the application archives, only the archiver deletes the rows. */
const NOTHING_PRUNED = { deliveries: 0, events: 0, hasMore: false };
/** How long a task that has ended is listed. */
const TASKS_KEPT_FOR_MS = 30 * DAY;

/**
 * Runs periodic chores in processes whose dispatcher runs. Only one process at a time runs a chore. A row stores
 * the lease and the position of the chore. So the next process continues at that position.
 *
 * One chore erases rotated secrets that are no longer valid. It passes along the listeners daily, and then deletes expired rows of the API.
 * The other chores pass along the events in the order of their sequence. They pass each event three times: when its pending deliveries are
 * too old, when the shorter retention period is over, and when both retention periods are over. The last pass begins daily at the first
 * event that still exists. Few of the old events still exist, for example because they had unfinished deliveries.
 *
 * With an archive, these passes delete nothing: see {@link Archiver}. A process without an archive deletes nothing either while another
 * process archives.
 *
 * After each batch, a chore pauses. The pause has the length of the batch. So a chore uses at most half of one
 * connection's time.
 */
export class Upkeep {
  private readonly chores: readonly Chore[];
  private readonly signal = new Signal();
  private readonly troubles = new Map<string, TroubleLog>();
  private loop: Promise<void> | null = null;
  private isStopping = false;
  private hasWarned = false;

  /** @internal */
  constructor(private readonly parts: UpkeepParts) {
    this.chores = choresOf(parts);
  }

  /** Starts the upkeep. Does nothing if the upkeep already runs. */
  start(): void {
    if (this.loop) return;
    this.isStopping = false;
    this.loop = this.run();
  }

  /** Looks for due chores now, if the upkeep runs. */
  wake(): void {
    this.signal.raise();
  }

  /** Stops the upkeep after the current batch. The next process continues with the remaining work. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.signal.raise();
    await this.loop;
    await this.parts.archiver?.stop();
    this.loop = null;
  }

  /**
   * Runs the chores that are due and that no other process runs. It also works after {@link stop}.
   * @throws errors of the database
   */
  async runDue(): Promise<UpkeepResult> {
    if (!this.loop) this.isStopping = false;
    const total = { discarded: 0, deliveries: 0, events: 0 };
    await this.parts.archiver?.mark();
    await this.warnOfBacklog();
    for (const chore of await this.due()) await this.attend(chore, total);
    const archived = await this.parts.archiver?.runDue();
    total.events += archived?.events ?? 0;
    total.deliveries += archived?.deliveries ?? 0;
    return total;
  }

  private async run(): Promise<void> {
    // At once, because a process without an archive may already look for old rows.
    await this.guarded('archive', async () => this.parts.archiver?.mark());
    while (!this.isStopping) {
      // The pause is random. Otherwise processes that started together would all search at the same time.
      await this.signal.wait(LOOK_EVERY_MS * (0.5 + Math.random()));
      if (this.isStopping) return;
      this.parts.archiver?.look();
      let due: readonly Chore[] = [];
      await this.guarded('chores', async () => {
        await this.warnOfBacklog();
        due = await this.due();
      });
      for (const chore of due) {
        await this.guarded(chore.name, () => this.attend(chore, { discarded: 0, deliveries: 0, events: 0 }));
      }
    }
  }

  /** Logs once that the outbox is very long. Its length has no limit: an event is never refused. */
  private async warnOfBacklog(): Promise<void> {
    const { database, logger } = this.parts;
    if (this.hasWarned || !(await database.single(() => hasMoreRows(database, LONG_OUTBOX), 'work'))) return;
    this.hasWarned = true;
    logger.warn(
      `More than ${LONG_OUTBOX.toLocaleString('en-US')} events are in the outbox: events are written faster than they are sent. Start more processes, or look for receivers that are slow. (Logged once.)`,
    );
  }

  private async due(): Promise<readonly Chore[]> {
    const { database, clock } = this.parts;
    const read = async () =>
      new Map((await database.single(() => readChores(database), 'work')).map((state) => [state.name, state]));
    let states = await read();
    const missing = this.chores.filter(({ name }) => !states.has(name)).map(({ name }) => name);
    if (missing.length) {
      await database.transaction(() => insertChores(database, missing, clock.now()));
      states = await read();
    }
    const isDue = ({ dueAt, leaseUntil }: ChoreState) => dueAt <= clock.now() && leaseUntil <= clock.now();
    return this.chores.filter(({ name }) => {
      const state = states.get(name);
      return state !== undefined && isDue(state);
    });
  }

  private async attend(chore: Chore, total: { discarded: number; deliveries: number; events: number }): Promise<void> {
    const { database, clock } = this.parts;
    const { name, everyMs } = chore;
    const token = newLease();
    const lease = { token, now: clock.now(), until: clock.now() + LEASE_MS };
    if (!(await database.transaction(() => claimChore(database, name, lease)))) return;
    const discarded = new Map<string, number>();
    let isDone = false;
    try {
      while (!isDone && !this.isStopping) {
        const startedAt = performance.now();
        const done = await database.transaction(function* () {
          const position = yield* resumeChore(database, name, token);
          if (position === null) return null;
          const result = yield* chore.batch(position, clock.now());
          yield* advanceChore(database, name, {
            position: result.position,
            leaseUntil: clock.now() + LEASE_MS,
          });
          return result;
        });
        if (!done) return;
        isDone = done.isDone;
        done.committed?.();
        total.deliveries += done.deliveries ?? 0;
        total.events += done.events ?? 0;
        this.publishDone(name, done);
        for (const [listenerId, count] of done.discarded ?? []) {
          discarded.set(listenerId, (discarded.get(listenerId) ?? 0) + count);
          total.discarded += count;
        }
        if (!isDone) await pause(performance.now() - startedAt);
      }
      const dueAt = isDone ? clock.now() + everyMs : undefined;
      await database.transaction(() => releaseChore(database, name, token, dueAt));
    } finally {
      for (const [listenerId, count] of discarded) {
        this.parts.emit(LIFECYCLE_EVENTS.discarded, { listenerId, count, reason: TOO_OLD });
        this.publishDiscarded(listenerId, count);
      }
    }
  }

  private publishDone(chore: string, { events = 0, deliveries = 0 }: Batch): void {
    const { diagnostics } = this.parts;
    if (diagnostics.listens('upkeep')) diagnostics.publish('upkeep', { chore, deleted: { events, deliveries } });
  }

  private publishDiscarded(listenerId: string, count: number): void {
    const { diagnostics } = this.parts;
    if (diagnostics.listens('discarded')) diagnostics.publish('discarded', { listenerId, count, reason: TOO_OLD });
  }

  /** Runs one chore. A failed chore does not stop the other chores, and is retried. */
  private async guarded(name: string, work: () => Promise<void>): Promise<void> {
    const trouble = this.troubleOf(name);
    try {
      await work();
      if (trouble.recovered()) this.parts.logger.log(`The chore '${name}' works again.`);
    } catch (error) {
      const { diagnostics } = this.parts;
      if (diagnostics.listens('trouble')) diagnostics.publish('trouble', { work: 'upkeep' });
      if (trouble.failed()) this.parts.logger.error(`The chore '${name}' failed and is retried: ${messageOf(error)}`);
    }
  }

  private troubleOf(name: string): TroubleLog {
    const trouble = this.troubles.get(name) ?? new TroubleLog();
    this.troubles.set(name, trouble);
    return trouble;
  }
}

/** A lag of this length or longer is high. The alert rules in docs/grafana have the same thresholds. */
const HIGH_OUTBOX_LAG_MS = MINUTE;
const HIGH_QUEUE_LAG_MS = 5 * MINUTE;
/** Positions of the chore that watches the lag. */
const [NORMAL, HIGH] = [0, 1];

function lagChore(database: Database, operational: OperationalEvents, tablePaths: () => readonly string[]): Chore {
  return {
    name: 'lag',
    everyMs: MINUTE,
    *batch(position, now) {
      const backlog = yield* readBacklog(database, now, tablePaths());
      const queueLagMs = reportedLag(backlog.queueLagMs, yield* readSending(database), position === HIGH, now);
      // A high lag becomes normal at half of the threshold. So a lag near the threshold causes only a few events.
      const part = position === HIGH ? 0.5 : 1;
      const isHigh = backlog.outboxLagMs >= part * HIGH_OUTBOX_LAG_MS || queueLagMs >= part * HIGH_QUEUE_LAG_MS;
      if (isHigh !== (position === HIGH)) yield* operational.lag(isHigh, backlog, now);
      return { position: isHigh ? HIGH : NORMAL, isDone: true };
    },
  };
}

/**
 * The lag of the queue that people should know of. While an operator has paused sending, deliveries are late on purpose. After the pause, the
 * lag counts from its end, so that the dispatchers have time to send what waited. A lag that is reported already stays as it is.
 */
function reportedLag(lagMs: number, { paused, since }: SendingState, isReported: boolean, now: number): number {
  if (isReported || since === null) return lagMs;
  return paused ? 0 : Math.min(lagMs, now - since);
}

function choresOf(parts: UpkeepParts): Chore[] {
  const { database, operational, tablePaths, retention, logger } = parts;
  const archives = archivesOf(parts);
  const keptMs = retention ? Math.max(retention.succeededMs, retention.failedMs) : null;
  return [
    // First, so that a day is dropped before retention reads its rows.
    ...(database.isPartitioned
      ? [new PartitionChore({ database, logger, keptMs, daysAhead: DAYS_AHEAD, onlyEmpty: archives })]
      : []),
    ...cleaning(parts, archives),
    ...(operational ? [lagChore(database, operational, tablePaths)] : []),
  ];
}

function cleaning({ database, maxAgeMs, retention, archiver }: UpkeepParts, archives: Archives): Chore[] {
  /** The time that sending was paused does not count: a pause must not discard deliveries. */
  function* tooOldBefore(now: number): Script<number> {
    return now - maxAgeMs - pausedTime(yield* readSending(database), now, maxAgeMs);
  }
  const expire: Chore = {
    name: 'discard-waiting',
    everyMs: OFTEN_MS,
    *batch(afterSeq, now) {
      const before = yield* tooOldBefore(now);
      const { events, isEnd } = yield* readOldEvents(database, { afterSeq, before });
      const { discarded, firstLeft } = yield* discardPending(database, events, now);
      if (firstLeft === null) return { position: events.at(-1)?.seq ?? afterSeq, isDone: isEnd, discarded };
      // Go back to the first event with pending work, for example a leased delivery, because this chore passes an
      // event only once.
      return { position: Math.max(afterSeq, firstLeft - 1), isDone: discarded.size === 0, discarded };
    },
  };
  const erase: Chore = {
    name: 'erase-secrets',
    everyMs: DAILY_MS,
    *batch(after, now) {
      const last = yield* eraseSecrets(database, { now, after });
      if (last === null) {
        yield* pruneAnswers(database, now - KEY_KNOWN_FOR_MS);
        yield* pruneRevocations(database, now);
        yield* pruneTasks(database, now - TASKS_KEPT_FOR_MS);
      }
      return { position: last ?? 0, isDone: last === null };
    },
  };
  const audit: Chore = {
    name: 'prune-audit',
    everyMs: DAILY_MS,
    *batch(position, now) {
      return { position, isDone: !(yield* pruneAudit(database, now - AUDIT_KEPT_MS)) };
    },
  };
  const minutes: Chore = {
    name: 'roll-minute-stats',
    everyMs: HOUR,
    *batch(position, now) {
      const before = now - STATS_MINUTES_FOR_MS;
      const { last, hasMore } = yield* rollStats(database, position, { before, spanMs: STATS_FINE_SPAN_MS });
      return { position: last, isDone: !hasMore };
    },
  };
  const stats: Chore = {
    name: 'roll-stats',
    everyMs: HOUR,
    *batch(position, now) {
      const { last, hasMore } = yield* rollStats(database, position, { before: now - STATS_FINE_FOR_MS, spanMs: HOUR });
      const mayPrune = yield* pruneStats(database, now - STATS_KEPT_MS);
      return { position: last, isDone: !hasMore && !mayPrune };
    },
  };
  if (!retention) return [expire, erase, audit, minutes, stats];
  const { succeededMs, failedMs } = retention;
  const keptMs = Math.max(succeededMs, failedMs);
  /** Whole days are dropped at the longer age, so rows of that age are deleted only if a day could not be dropped. */
  const limit = (now: number, ageMs: number) =>
    database.isPartitioned && ageMs === keptMs ? rowsBefore(now - ageMs) : now - ageMs;
  const limits = (now: number) => ({
    succeededBefore: limit(now, succeededMs),
    failedBefore: limit(now, failedMs),
  });
  const early: Chore = {
    name: 'prune',
    everyMs: OFTEN_MS,
    *batch(afterSeq, now) {
      if (yield* archives(now)) return { position: afterSeq, isDone: true };
      const before = limit(now, Math.min(succeededMs, failedMs));
      const { events, isEnd } = yield* readOldEvents(database, { afterSeq, before });
      const { hasMore, ...pruned } = yield* prune(database, events, limits(now));
      if (hasMore) return { position: afterSeq, isDone: false, ...pruned };
      return { position: events.at(-1)?.seq ?? afterSeq, isDone: isEnd, ...pruned };
    },
  };
  const late: Chore = {
    name: 'prune-rest',
    everyMs: DAILY_MS,
    *batch(afterSeq, now) {
      const before = limit(now, keptMs);
      const { events, isEnd } = yield* readOldEvents(database, { afterSeq, before });
      const ageLimit = yield* tooOldBefore(now);
      const tooOld = events.filter(({ agedFrom }) => agedFrom < ageLimit);
      const { discarded, firstLeft } = yield* discardPending(database, tooOld, now);
      const { hasMore, ...pruned } = (yield* archives(now))
        ? NOTHING_PRUNED
        : yield* prune(database, events, limits(now));
      const result = { discarded, ...pruned };
      if (hasMore || (firstLeft !== null && discarded.size > 0)) {
        return { position: afterSeq, isDone: false, ...result };
      }
      const position = events.at(-1)?.seq ?? afterSeq;
      if (!isEnd) return { position, isDone: false, ...result };
      yield* pruneImages(database, now - failedMs);
      const listeners = yield* pruneListeners(database, before);
      if (listeners === LISTENERS_PER_BATCH) return { position, isDone: false, ...result };
      return { position: 0, isDone: true, ...result };
    },
  };
  return [expire, erase, audit, minutes, stats, ...(archiver ? [] : [early]), late];
}
