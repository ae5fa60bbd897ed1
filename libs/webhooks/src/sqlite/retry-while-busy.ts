import { SqliteLockTimeoutError } from './errors.js';

/** How long somebody who shares the file may keep it from us. */
export interface BusyLimits {
  readonly database: string;
  readonly lockTimeoutMs: number;
}

const LONGEST_PAUSE_MS = 50;

/**
 * Does `work` again while another process has the file, in pauses of 1, 2, 4… to 50 ms, each shortened at random by up to
 * half so that processes do not keep step.
 *
 * better-sqlite3 can wait by itself (`timeout`), but in C and on the only thread: nothing else in the process would
 * run, and a holder in this very process could never finish.
 *
 * @param mayRetry whether a busy database can become free for this work
 * @throws SqliteLockTimeoutError after `lockTimeoutMs`
 */
export async function retryWhileBusy<T>(
  limits: BusyLimits,
  work: () => T | Promise<T>,
  mayRetry: (error: unknown) => boolean = () => true,
): Promise<T> {
  const start = performance.now();
  for (let attempt = 0; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isBusy(error) || !mayRetry(error)) throw error;
      if (performance.now() - start >= limits.lockTimeoutMs) throw heldByAnother(limits, error);
    }
    const longest = Math.min(2 ** attempt, LONGEST_PAUSE_MS);
    await new Promise((resolve) => setTimeout(resolve, longest * (1 - Math.random() / 2)));
  }
}

/** `SQLITE_BUSY_SNAPSHOT`: the transaction read what has changed since, so it can never write. */
export function isStaleSnapshot(error: unknown): boolean {
  return sqliteCode(error) === 'SQLITE_BUSY_SNAPSHOT';
}

function isBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === 'SQLITE_BUSY' || code.startsWith('SQLITE_BUSY_');
}

function sqliteCode(error: unknown): string {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : '';
}

function heldByAnother({ database, lockTimeoutMs }: BusyLimits, cause: unknown): SqliteLockTimeoutError {
  return new SqliteLockTimeoutError(
    `Another process, or another DataSource of this one, has kept the SQLite database "${database}" locked for ` +
      `${lockTimeoutMs} ms. Keep its transactions short, or raise lockTimeoutMs.`,
    { cause, details: { database, lockTimeoutMs } },
  );
}
