import type { WebhookClock } from '../clock.js';
import { newLease } from '../ids.js';
import {
  advanceChore,
  claimChore,
  insertChores,
  readChores,
  releaseChore,
  resumeChore,
} from '../store/database/chores.js';
import type { Database } from '../store/database/database.js';
import type { Script } from '../store/database/script.js';
import { HOUR, MINUTE, SECOND } from '../time.js';

/** If the process dies, another process continues after this time. */
const LEASE_MS = MINUTE;
const EXTEND_EVERY_MS = 15 * SECOND;
/** Work that makes no progress for this time is stopped. */
const STALLED_AFTER_MS = HOUR;

interface HeldChoreParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  /** Ends the work, for example because the process stops. */
  readonly signal: AbortSignal;
}

/**
 * The lease of a chore whose work is not one transaction after the other: it also waits for code of the application. The lease is extended
 * meanwhile.
 */
export class HeldChore {
  /** Aborted when the work must end. */
  readonly signal: AbortSignal;
  private readonly ended = new AbortController();
  private readonly timer: NodeJS.Timeout;
  private progressedAt = performance.now();

  private constructor(
    private readonly parts: HeldChoreParts,
    private readonly name: string,
    private readonly token: string,
  ) {
    this.signal = AbortSignal.any([parts.signal, this.ended.signal]);
    this.timer = setInterval(() => void this.extend(), EXTEND_EVERY_MS);
    this.timer.unref();
  }

  /** @returns `null` if the chore is not due, or if another process works on it */
  static async take(parts: HeldChoreParts, name: string): Promise<HeldChore | null> {
    const { database, clock } = parts;
    const state = (await database.single(() => readChores(database), 'work')).find((one) => one.name === name);
    if (!state) await database.transaction(() => insertChores(database, [name], clock.now()), 'work');
    else if (state.dueAt > clock.now() || state.leaseUntil > clock.now()) return null;
    const token = newLease();
    const lease = { token, now: clock.now(), until: clock.now() + LEASE_MS };
    const isTaken = await database.transaction(() => claimChore(database, name, lease), 'work');
    return isTaken ? new HeldChore(parts, name, token) : null;
  }

  /**
   * Runs a transaction that fails if another process has the lease now. So nobody else deletes what this process reads.
   * @throws the reason of {@link signal}, or an error of the database
   */
  async transaction<T>(script: () => Script<T>): Promise<T> {
    const { parts, name, token, signal } = this;
    const { database } = parts;
    signal.throwIfAborted();
    const result = await database.transaction(function* (): Script<{ value: T } | null> {
      if ((yield* resumeChore(database, name, token)) === null) return null;
      return { value: yield* script() };
    }, 'work');
    if (!result) this.lose();
    signal.throwIfAborted();
    this.progressedAt = performance.now();
    return (result as { value: T }).value;
  }

  /** Releases the lease. @param dueAt when the chore is due again, in ms since 1970 */
  async release(dueAt: number): Promise<void> {
    const { database } = this.parts;
    clearInterval(this.timer);
    await database.transaction(() => releaseChore(database, this.name, this.token, dueAt), 'work');
  }

  private async extend(): Promise<void> {
    const { database, clock } = this.parts;
    if (performance.now() - this.progressedAt > STALLED_AFTER_MS) {
      this.ended.abort(new Error(`no line was read for ${STALLED_AFTER_MS / MINUTE} minutes`));
      return;
    }
    const { name, token } = this;
    try {
      const isHeld = await database.transaction(function* (): Script<boolean> {
        // A lease that another process has had meanwhile is lost, even if it is free again: that process has worked on the rows.
        if ((yield* resumeChore(database, name, token)) === null) return false;
        yield* advanceChore(database, name, { position: 0, leaseUntil: clock.now() + LEASE_MS });
        return true;
      }, 'work');
      if (!isHeld) this.lose();
    } catch {
      // The next transaction of the work fails, too, or finds out whether the lease is lost.
    }
  }

  private lose(): void {
    this.ended.abort(new Error('another process has taken over'));
  }
}
