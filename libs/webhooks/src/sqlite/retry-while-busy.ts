import { SqliteLockTimeoutError } from './errors.js';

/** How long another process or data source may lock the file before the work fails. */
export interface BusyLimits {
  readonly database: string;
  readonly lockTimeoutMs: number;
}

const LONGEST_PAUSE_MS = 50;

/**
 * Retries `work` while another process has locked the file. The pauses grow from 1, 2 and 4 ms to 50 ms. Each pause is shortened at random
 * by up to half, so that processes do not retry at the same moments.
 *
 * better-sqlite3 can wait by itself (`timeout`), but such a wait blocks the only JavaScript thread. Nothing else in the process would run,
 * and a lock holder in the same process could never finish.
 *
 * @param mayRetry whether the database can become free for this work
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

/** `SQLITE_BUSY_SNAPSHOT`: another writer has changed data that this transaction has read, so this transaction can never write. */
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
    `Another process, or another DataSource of this process, has locked the SQLite database "${database}" for ` +
      `${lockTimeoutMs} ms, so this statement did not run. Keep the other transactions short, or raise lockTimeoutMs.`,
    { cause, details: { database, lockTimeoutMs } },
  );
}
