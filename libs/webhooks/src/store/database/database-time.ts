import sql, { type Sql } from 'sql-template-tag';
import { SET_BACK_FROM_MS, type WebhookClock } from '../../clock.js';
import type { DialectName } from '../../dialect.js';
import type { Database } from './database.js';
import { query, type Script } from './script.js';
import { MINUTE } from '../../time.js';

/**
 * The server's clock in milliseconds since 1970, UTC. The value does not depend on the time zone of the session. On SQLite, the clock of
 * the host.
 */
export function databaseMs(dialect: DialectName): Sql {
  switch (dialect) {
    case 'postgres':
      return sql`cast(extract(epoch from clock_timestamp()) * 1000 as double precision)`;
    case 'mysql':
      // `unix_timestamp(now(6))` would be wrong for one hour when daylight saving time ends.
      return sql`timestampdiff(microsecond, timestamp '1970-01-01 00:00:00', utc_timestamp(6)) / 1000`;
    case 'sqlite':
      return sql`(julianday('now') - 2440587.5) * 86400000`;
  }
}

function* readTime(database: Database): Script<{ databaseMs: number }> {
  const [row] = yield* query<{ now: unknown }>(sql`select ${databaseMs(database.dialect)} as now`);
  return { databaseMs: Number(row?.now) };
}

/** Reads the time of the database, in milliseconds since 1970. */
export function* readDatabaseTime(database: Database): Script<number> {
  return Math.round((yield* readTime(database)).databaseMs);
}

/**
 * Passes the time of the database to a clock: at the start, and then once a minute. The dispatcher's poll also reads the time. So this
 * class sends a query only if the last poll was some time ago.
 */
export class DatabaseTime {
  private timer: NodeJS.Timeout | undefined;
  private answeredAt = 0;
  private isRead = false;
  /** Called after the clock was set back by `aheadMs` milliseconds. */
  onSetBack: ((aheadMs: number) => void) | null = null;

  constructor(
    private readonly database: Database,
    private readonly clock: WebhookClock,
  ) {}

  /** Starts the readings. Rejects if the database does not answer the first reading. Later readings that fail are skipped. */
  async start(): Promise<void> {
    await this.ask();
    this.timer = setInterval(() => {
      if (performance.now() - this.answeredAt > MINUTE / 2) this.ask().catch(() => undefined);
    }, MINUTE).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Runs a query that also selects the time of the database, and passes that time to the clock. */
  async from<T extends { readonly databaseMs: number }>(ask: () => Promise<T>): Promise<T> {
    const askedAt = performance.now();
    const result = await ask();
    this.answeredAt = performance.now();
    if (!this.clock.read) return result;
    const before = this.clock.now();
    this.clock.read({ databaseMs: result.databaseMs, askedAt, answeredAt: this.answeredAt });
    const aheadMs = before - this.clock.now();
    // Before the first reading, nothing was stored with the clock's time. So the first correction does not count.
    if (aheadMs > SET_BACK_FROM_MS && this.isRead) this.onSetBack?.(aheadMs);
    this.isRead = true;
    return result;
  }

  private async ask(): Promise<void> {
    await this.from(() => this.database.single(() => readTime(this.database), 'work'));
  }
}
