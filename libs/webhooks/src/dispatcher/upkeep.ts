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
import { TroubleLog } from './troubles.js';
import { messageOf } from '../foreign-text.js';

/** What upkeep works with. @internal */
export interface UpkeepParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly maxAgeMs: number;
  readonly retention: ResolvedWebhooksOptions['retention'];
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent) => void;
}

/** What chores did in this process. */
export interface UpkeepResult {
  /** Deliveries discarded because they waited for too long. */
  readonly discarded: number;
  /** Deliveries deleted, with their attempts. */
  readonly deliveries: number;
  /** Events deleted. */
  readonly events: number;
}

/** One transaction of a chore. */
interface Batch {
  /** Sequence, of an event or a listener, from which the next batch goes on. */
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

/** How often one looks for chores that are due: one cheap query. */
const LOOK_EVERY_MS = MINUTE;
const OFTEN_MS = 5 * MINUTE;
const DAILY_MS = DAY;
/** After this another process goes on with a chore whose process died. */
const LEASE_MS = MINUTE;

/**
 * Periodic work in the process whose dispatcher runs, one process at a time for each chore: a leased row says whose it is and
 * how far it has come, so the next one goes on there.
 *
 * Rotated secrets that are of no use any more are erased daily, along the listeners. The rest passes along the events
 * in the order of their sequence, and each event is passed three times in its life: when
 * what waits of it is too old, when the younger of the two ages of retention is over, and when every age is. The last pass
 * is made daily, from the first event that is left: few are, and among them what had been under way before.
 *
 * It rests after each batch for as long as that took, so it never takes more than half of one connection.
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

  /** Does nothing when it runs. */
  start(): void {
    if (this.loop) return;
    this.isStopping = false;
    this.loop = this.run();
  }

  /** Waits for the batch under way; the rest is for whoever runs next. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.signal.raise();
    await this.loop;
    this.loop = null;
  }

  /** Does what is due now, and not being done by another process. @throws what the database does */
  async runDue(): Promise<UpkeepResult> {
    const total = { discarded: 0, deliveries: 0, events: 0 };
    for (const chore of await this.due()) await this.attend(chore, total);
    return total;
  }

  private async run(): Promise<void> {
    while (!this.isStopping) {
      // Processes that started together do not look together.
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

  /** A chore that fails stops nothing, and is tried again. */
  private async guarded(name: string, work: () => Promise<void>): Promise<void> {
    const trouble = this.troubleOf(name);
    try {
      await work();
      if (trouble.mended()) this.parts.logger.log(`The chore '${name}' works again.`);
    } catch (error) {
      if (trouble.failed())
        this.parts.logger.error(`The chore '${name}' failed, and is tried again: ${messageOf(error)}`);
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
      // What could not be judged yet is met again: this chore passes an event but once.
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
