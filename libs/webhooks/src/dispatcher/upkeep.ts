import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import { newId } from '../ids.js';
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
import { pause, MINUTE, DAY } from '../time.js';
import {
  discardPending,
  LISTENERS_PER_BATCH,
  prune,
  pruneListeners,
  readOldEvents,
  TOO_OLD,
} from '../store/queue/old-events.js';
import { pruneImages } from '../store/outbox/images.js';
import { eraseSecrets } from '../store/listeners/listener-rows.js';
import type { Script } from '../store/database/script.js';
import { LIFECYCLE_EVENTS, type LifecycleEvent } from './lifecycle-events.js';
import { Signal } from './signal.js';
import { TroubleLog } from '../webhooks-logger.js';
import { messageOf } from '../foreign-text.js';

/** Dependencies of the upkeep. @internal */
export interface UpkeepParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly maxAgeMs: number;
  readonly retention: ResolvedWebhooksOptions['retention'];
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent) => void;
}

/** What the chores did in this process. */
export interface UpkeepResult {
  /** Deliveries discarded because they were pending for too long. */
  readonly discarded: number;
  /** Deliveries deleted, with their attempts. */
  readonly deliveries: number;
  /** Events deleted. */
  readonly events: number;
}

/** Result of one transaction of a chore. */
interface Batch {
  /** Sequence of an event or a listener, after which the next batch begins. */
  readonly position: number;
  /** Nothing is left to do until the chore is due again. */
  readonly isDone: boolean;
  readonly discarded?: ReadonlyMap<string, number>;
  readonly deliveries?: number;
  readonly events?: number;
}

interface Chore {
  readonly name: string;
  readonly everyMs: number;
  batch(position: number, now: number): Script<Batch>;
}

/** How often to look for due chores, which is one cheap query. */
const LOOK_EVERY_MS = MINUTE;
const OFTEN_MS = 5 * MINUTE;
const DAILY_MS = DAY;
/** Lease of a chore. If its process dies, another process continues after this time. */
const LEASE_MS = MINUTE;

/**
 * Runs periodic chores in the process whose dispatcher runs. Only one process at a time runs a chore: a row stores
 * the lease and the position, so that the next process continues there.
 *
 * One chore erases rotated secrets that are no longer valid; it passes along the listeners daily. The other chores
 * pass along the events in the order of their sequence. Each event is passed three times: when its pending deliveries
 * are too old, when the shorter retention period is over, and when both retention periods are over. The last pass
 * begins daily at the first event that is left. Few events are left, for example events that had unfinished
 * deliveries before.
 *
 * A chore pauses after each batch for as long as the batch took, so it uses at most half of one connection.
 */
export class Upkeep {
  private readonly chores: readonly Chore[];
  private readonly signal = new Signal();
  private readonly troubles = new Map<string, TroubleLog>();
  private loop: Promise<void> | null = null;
  private isStopping = false;

  /** @internal */
  constructor(private readonly parts: UpkeepParts) {
    this.chores = choresOf(parts);
  }

  /** Does nothing if it runs already. */
  start(): void {
    if (this.loop) return;
    this.isStopping = false;
    this.loop = this.run();
  }

  /** Waits for the current batch. The next process continues with the rest. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.signal.raise();
    await this.loop;
    this.loop = null;
  }

  /**
   * Runs the chores that are due and that no other process runs.
   * @throws errors of the database
   */
  async runDue(): Promise<UpkeepResult> {
    const total = { discarded: 0, deliveries: 0, events: 0 };
    for (const chore of await this.due()) await this.attend(chore, total);
    return total;
  }

  private async run(): Promise<void> {
    while (!this.isStopping) {
      // Random, so that processes that started together do not look at the same time.
      await this.signal.wait(LOOK_EVERY_MS * (0.5 + Math.random()));
      if (this.isStopping) return;
      let due: readonly Chore[] = [];
      await this.guarded('chores', async () => {
        due = await this.due();
      });
      for (const chore of due) {
        await this.guarded(chore.name, () => this.attend(chore, { discarded: 0, deliveries: 0, events: 0 }));
      }
    }
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
    const token = newId('lease');
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
        total.deliveries += done.deliveries ?? 0;
        total.events += done.events ?? 0;
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
      }
    }
  }

  /** A chore that fails does not stop the other chores, and is retried. */
  private async guarded(name: string, work: () => Promise<void>): Promise<void> {
    const trouble = this.troubleOf(name);
    try {
      await work();
      if (trouble.recovered()) this.parts.logger.log(`The chore '${name}' works again.`);
    } catch (error) {
      if (trouble.failed()) this.parts.logger.error(`The chore '${name}' failed and is retried: ${messageOf(error)}`);
    }
  }

  private troubleOf(name: string): TroubleLog {
    const trouble = this.troubles.get(name) ?? new TroubleLog();
    this.troubles.set(name, trouble);
    return trouble;
  }
}

function choresOf({ database, maxAgeMs, retention }: UpkeepParts): Chore[] {
  const expire: Chore = {
    name: 'discard-waiting',
    everyMs: OFTEN_MS,
    *batch(afterSeq, now) {
      const { events, isEnd } = yield* readOldEvents(database, { afterSeq, before: now - maxAgeMs });
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
      return { position: last ?? 0, isDone: last === null };
    },
  };
  if (!retention) return [expire, erase];
  const { succeededMs, failedMs } = retention;
  const limits = (now: number) => ({ succeededBefore: now - succeededMs, failedBefore: now - failedMs });
  const early: Chore = {
    name: 'prune',
    everyMs: OFTEN_MS,
    *batch(afterSeq, now) {
      const before = now - Math.min(succeededMs, failedMs);
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
      const before = now - Math.max(succeededMs, failedMs);
      const { events, isEnd } = yield* readOldEvents(database, { afterSeq, before });
      const tooOld = events.filter(({ createdAt }) => createdAt < now - maxAgeMs);
      const { discarded, firstLeft } = yield* discardPending(database, tooOld, now);
      const { hasMore, ...pruned } = yield* prune(database, events, limits(now));
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
  return [expire, erase, early, late];
}
