import { SqliteLockTimeoutError } from './errors.js';

/** The holder of the lock, as a noun phrase for an error message. A function is called only when a message is written. */
export type LockOrigin = string | (() => string);

interface Waiter {
  readonly origin: LockOrigin;
  grant(): void;
  refuse(reason: Error): void;
}

/**
 * Lets one writer of a data source write at a time, in the order of arrival.
 *
 * SQLite also locks the file. But a writer that finds the file locked can only retry later, and keeps no place in a queue. So the writers
 * of one process queue here, and compete for the file only with other processes.
 */
export class SqliteWriterLock {
  private holder: Waiter | undefined;
  private readonly waiting = new Set<Waiter>();

  /** @internal `isolateSqlite` creates the lock. */
  constructor(
    private readonly database: string,
    private readonly timeoutMs: number,
  ) {}

  /**
   * Waits until no other writer is active, and resolves to a function that releases the lock. A second call of that function has no effect.
   * Use this method for work on your own connection. Statements of the data source take the lock themselves. So do not await a statement
   * that writes while you hold the lock: that statement would wait for you.
   *
   * @param origin names the caller in the errors of other writers, as a noun phrase
   * @throws SqliteLockTimeoutError after `lockTimeoutMs`
   */
  async acquire(origin: LockOrigin = 'a caller of acquire() without a name'): Promise<() => void> {
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

  /** Rejects all waiting writers, because the connections are closed. @internal */
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
    const origin = this.holder?.origin ?? 'no writer';
    const heldBy = typeof origin === 'string' ? origin : origin();
    return new SqliteLockTimeoutError(
      `This write waited ${this.timeoutMs} ms for its turn to write to the SQLite database "${this.database}", which has ` +
        `one writer at a time: ${heldBy} is still active. If this write belongs to that transaction, use the manager of ` +
        'the transaction: the argument of dataSource.transaction(), or queryRunner.manager. Otherwise keep slow ' +
        'work (HTTP calls, timers) out of that transaction, or raise lockTimeoutMs.',
      { details: { database: this.database, lockTimeoutMs: this.timeoutMs, heldBy } },
    );
  }
}
