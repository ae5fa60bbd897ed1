import { SqliteLockTimeoutError } from './errors.js';

/** Who holds the lock, as a noun phrase for an error message; a function is called only when one is written. */
export type LockOrigin = string | (() => string);

interface Waiter {
  readonly origin: LockOrigin;
  grant(): void;
  refuse(reason: Error): void;
}

/**
 * One writer at a time for one data source, first come, first served.
 *
 * SQLite has a lock of its own on the file, but whoever finds that taken can only ask again later, without a place in
 * the queue. So writers of one process queue here, and only meet other processes on the file.
 */
export class SqliteWriterLock {
  private holder: Waiter | undefined;
  private readonly waiting = new Set<Waiter>();

  /** @internal `isolateSqlite` makes it. */
  constructor(
    private readonly database: string,
    private readonly timeoutMs: number,
  ) {}

  /**
   * Waits until no other writer is at work, and resolves to a function that lets the next one go; calling it twice does
   * no harm. For work on a connection of your own: statements of the data source itself wait for the lock by themselves,
   * so awaiting one that writes while you hold it waits for you.
   *
   * @param origin who you are, as a noun phrase for the error of those who wait in vain
   * @throws SqliteLockTimeoutError after `lockTimeoutMs`
   */
  async acquire(origin: LockOrigin = 'a caller of acquire() that gave no name'): Promise<() => void> {
    const waiter = await new Promise<Waiter>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const entry: Waiter = {
        origin,
        grant: () => {
          clearTimeout(timer);
          resolve(entry);
        },
        refuse: (reason) => {
          clearTimeout(timer);
          reject(reason);
        },
      };
      if (!this.holder) {
        this.holder = entry;
        return resolve(entry);
      }
      this.waiting.add(entry);
      timer = setTimeout(() => {
        this.waiting.delete(entry);
        reject(this.waitedTooLong());
      }, this.timeoutMs);
    });
    return () => this.release(waiter);
  }

  /** @internal The connections are gone: nobody holds anything, and who waits is told so. */
  abandon(reason: Error): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    this.holder = undefined;
    for (const waiter of waiting) waiter.refuse(reason);
  }

  private release(waiter: Waiter): void {
    if (this.holder !== waiter) return;
    const [next] = this.waiting;
    this.holder = next;
    if (!next) return;
    this.waiting.delete(next);
    next.grant();
  }

  private waitedTooLong(): SqliteLockTimeoutError {
    const origin = this.holder?.origin ?? 'nobody';
    const heldBy = typeof origin === 'string' ? origin : origin();
    return new SqliteLockTimeoutError(
      `This write waited ${this.timeoutMs} ms for its turn to write to the SQLite database "${this.database}", which has ` +
        `one writer at a time: ${heldBy} is still at work. If this write belongs to that transaction, do it through the ` +
        "transaction's own manager: the argument of dataSource.transaction(), or queryRunner.manager. If not, keep slow " +
        'work (HTTP calls, timers) out of that transaction, or raise lockTimeoutMs.',
      { details: { database: this.database, lockTimeoutMs: this.timeoutMs, heldBy } },
    );
  }
}
