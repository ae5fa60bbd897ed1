import { setTimeout as sleep } from 'node:timers/promises';
import type { WebhookClock } from '../clock.js';
import { newLease } from '../ids.js';
import { insertChores, keepChore, releaseChore } from '../store/database/chores.js';
import type { Database } from '../store/database/database.js';
import { NO_BACKLOG, type Backlog } from '../store/queue/read-backlog.js';
import { SECOND } from '../time.js';

const EVERY_MS = 15 * SECOND;
/**
 * Length of the lease of the reader. If the reading process dies or cannot reach the database, another process replaces
 * it after this time. Then the last reading of the replaced process is no longer valid.
 */
const LEASE_MS = 3 * EVERY_MS;
const CHORE = 'measure';

export interface BacklogReaderParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly read: () => Promise<Backlog>;
  readonly failed: () => void;
}

/**
 * Reads the backlog every 15 seconds, in one process at a time. If each process exported these values, a sum over
 * all processes would count each value several times.
 */
export class BacklogReader {
  private readonly token = newLease();
  private readonly stopping = new AbortController();
  private latest: { readonly backlog: Backlog; readonly readAt: number } | null = null;
  private hasRead = false;
  private running: Promise<void> | null = null;

  constructor(private readonly parts: BacklogReaderParts) {}

  /** Whether this process is the process that reads the backlog, and can read the backlog. */
  get isReading(): boolean {
    return this.latest !== null && performance.now() - this.latest.readAt < LEASE_MS;
  }

  /**
   * The last reading of this process; `null` if this process has never read the backlog. If another process reads
   * now, the reading is empty. Without an empty reading, the SDK would export the last values of this process without
   * end.
   */
  get backlog(): Backlog | null {
    if (this.isReading && this.latest) return this.latest.backlog;
    return this.hasRead ? NO_BACKLOG : null;
  }

  start(): void {
    this.running ??= this.run();
  }

  /** Releases the lease, so another process can continue immediately. The promise never rejects. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
    const { database } = this.parts;
    if (!this.latest) return;
    this.latest = null;
    await database.transaction(() => releaseChore(database, CHORE, this.token)).catch(() => undefined);
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      await this.readOnce().catch(() => this.parts.failed());
      await sleep(EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** @throws errors of the database */
  async readOnce(): Promise<void> {
    const { read } = this.parts;
    if (!(await this.hasLease())) {
      this.latest = null;
      return;
    }
    const backlog = await read();
    this.latest = { backlog, readAt: performance.now() };
    this.hasRead = true;
  }

  private async hasLease(): Promise<boolean> {
    const { database, clock } = this.parts;
    const { token } = this;
    return database.transaction(function* () {
      const now = clock.now();
      const lease = { token, now, until: now + LEASE_MS };
      if (yield* keepChore(database, CHORE, lease)) return true;
      // If the row exists, this statement does nothing. Another process may then have the lease.
      yield* insertChores(database, [CHORE], now);
      return yield* keepChore(database, CHORE, lease);
    }, 'work');
  }
}
