import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import { messageOf } from '../foreign-text.js';
import { newLease } from '../ids.js';
import {
  advanceChore,
  claimChore,
  insertChores,
  readChores,
  releaseChore,
  resumeChore,
  type ChoreState,
} from '../store/database/chores.js';
import { hasMoreRows } from '../store/outbox/outbox-rows.js';
import { TOO_OLD } from '../store/queue/old-events.js';
import { MINUTE, pause } from '../time.js';
import { TroubleLog } from '../webhooks-logger.js';
import type { Archiver } from './archiver.js';
import { archivesOf } from './archives.js';
import type { Chore, ChoreBatch, ChoreParts } from './chore.js';
import { choresOf } from './upkeep-chores.js';
import { LIFECYCLE_EVENTS, type LifecycleEvent } from './lifecycle-events.js';
import { Signal } from './signal.js';

/** Dependencies of the upkeep. @internal */
export interface UpkeepParts extends Omit<ChoreParts, 'archives'> {
  /** Deletes the old rows in place of the chores; `null` if this process has no archive. */
  readonly archiver: Archiver | null;
  readonly clock: WebhookClock;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent) => void;
  readonly diagnostics: Diagnostics;
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

/** How often to search for due chores. A search is one cheap query. */
const LOOK_EVERY_MS = MINUTE;
/** If the outbox contains at least this many events, a warning is logged. */
const LONG_OUTBOX = 1_000_000;
/** Lease of a chore. If its process dies, another process continues after this time. */
const LEASE_MS = MINUTE;

/**
 * Runs periodic chores in processes whose dispatcher runs. Only one process at a time runs a chore. A row stores
 * the lease and the position of the chore. So the next process continues at that position.
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
    this.chores = choresOf({ ...parts, archives: archivesOf(parts) });
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

  private publishDone(chore: string, { events = 0, deliveries = 0 }: ChoreBatch): void {
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
