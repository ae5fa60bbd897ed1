import { dirname } from 'node:path';

import { ConfigurationError } from '../errors.js';
import { dataSourceOf, notConnected } from '../typeorm-compat.js';
import { retryWhileBusy, type BusyLimits } from './retry-while-busy.js';
import type { SqliteDatabase, SqliteStatement, StockDriver } from './typeorm-driver.js';

/** Kept open for the next query runner. Reads need one, each open transaction one more. */
const MAX_IDLE = 8;

/** TypeORM's default for `statementCacheSize`. */
const STATEMENTS_PER_CONNECTION = 100;

/** A connection with its prepared statements. */
export class SqliteConnection {
  /** It differs from a new one by a PRAGMA, an ATTACH or a temporary table. */
  sessionChanged = false;
  /** Somebody outside got the bare connection. */
  handedOut = false;
  private readonly statements = new Map<string, SqliteStatement>();

  constructor(
    readonly database: SqliteDatabase,
    private readonly cacheSize: number,
  ) {}

  prepare(sql: string): SqliteStatement {
    const known = this.statements.get(sql);
    if (known) return known;
    const statement = this.database.prepare(sql);
    if (this.cacheSize > 0) this.statements.set(sql, statement);
    for (const oldest of this.statements.keys()) {
      if (this.statements.size <= this.cacheSize) break;
      this.statements.delete(oldest);
    }
    return statement;
  }

  /** Whether the next query runner can have it without noticing that there was one before. */
  get isAsNew(): boolean {
    if (this.sessionChanged || this.database.inTransaction) return false;
    // A migration that failed leaves foreign keys unchecked on the connection that TypeORM got for it.
    return !this.handedOut || this.database.pragma('foreign_keys', { simple: true }) === 1;
  }
}

interface Waiter {
  resolve(connection: SqliteConnection): void;
  reject(error: unknown): void;
}

/**
 * The connections of one data source: opened as TypeORM opens its single one, with the same options, `prepareDatabase`
 * and attached databases.
 *
 * Whoever finds none idle waits for the next that is given back or opened, whichever is first, and one is opened at a
 * time: reads give theirs back within the same tick, so a burst of them shares a few. There is no upper bound, as a
 * transaction may wait for a query of another runner; those that wait for the writer lock hold none.
 */
export class SqliteConnections {
  private idle: SqliteConnection[] = [];
  private readonly all = new Set<SqliteConnection>();
  private waiting: Waiter[] = [];
  private opening = false;
  private lifetime = 0;
  private readonly openStock: () => Promise<SqliteDatabase>;

  constructor(
    private readonly driver: StockDriver,
    private readonly limits: BusyLimits,
  ) {
    this.openStock = driver.createDatabaseConnection;
  }

  /** A connection that is nobody else's until it is given back. */
  async checkOut(): Promise<SqliteConnection> {
    if (!this.driver.databaseConnection?.open) throw notConnected(dataSourceOf(this.driver));
    const idle = this.idle.pop();
    if (idle) return idle;
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      void this.openForWaiting();
    });
  }

  giveBack(connection: SqliteConnection): void {
    if (!connection.database.open) {
      this.all.delete(connection);
    } else if (connection.isAsNew && (this.waiting.length > 0 || this.idle.length < MAX_IDLE)) {
      connection.handedOut = false;
      this.offer(connection);
    } else {
      this.all.delete(connection);
      connection.database.close();
    }
  }

  /** Closes every connection, busy ones too: SQLite rolls their transactions back. */
  closeAll(reason: Error): void {
    this.lifetime++;
    this.idle = [];
    for (const { database } of this.all) if (database.open) database.close();
    this.all.clear();
    this.refuseWaiting(reason);
  }

  /** Opens a connection as TypeORM would, but waits for other processes without blocking this one, and with WAL. */
  async open(): Promise<SqliteDatabase> {
    return retryWhileBusy(this.limits, () => this.openOnce());
  }

  /** The attached databases are known only when the entities are, which is after TypeORM opened its own connection. */
  async attachTo(database: SqliteDatabase): Promise<void> {
    await retryWhileBusy(this.limits, () => this.attachMissing(database));
  }

  private async attachMissing(database: SqliteDatabase): Promise<void> {
    const attached = new Set(
      (database.pragma('database_list') as { name: string }[]).map(({ name }) => name.toLowerCase()),
    );
    for (const { attachHandle, attachFilepathAbsolute } of Object.values(this.driver.attachedDatabases)) {
      if (attached.has(attachHandle.toLowerCase())) continue;
      await this.driver.createDatabaseDirectory(dirname(attachFilepathAbsolute));
      const handle = `"${attachHandle.replaceAll('"', '""')}"`;
      database.prepare(`ATTACH ? AS ${handle}`).run(attachFilepathAbsolute);
      this.writeAhead(database, `${handle}.`);
    }
  }

  private async openOnce(): Promise<SqliteDatabase> {
    const { options } = this.driver;
    let opened: SqliteDatabase | undefined;
    const withoutBusyWait = Object.create(this.driver, {
      options: {
        value: {
          ...options,
          timeout: 0,
          enableWAL: false,
          prepareDatabase: async (database: SqliteDatabase) => {
            opened = database;
            await options.prepareDatabase?.(database);
          },
        },
      },
    }) as StockDriver;
    try {
      const database = await this.openStock.call(withoutBusyWait);
      assertKnownShape(database);
      database.pragma('busy_timeout = 0');
      this.writeAhead(database, '');
      await this.attachMissing(database);
      return database;
    } catch (error) {
      opened?.close();
      throw error;
    }
  }

  private writeAhead(database: SqliteDatabase, schema: string): void {
    if (this.driver.options.readonly) return;
    const mode = database.pragma(`${schema}journal_mode = WAL`, { simple: true });
    if (mode === 'wal') return;
    throw new ConfigurationError(
      'SQLITE_WAL_REFUSED',
      `SQLite keeps "${this.driver.options.database}" in journal_mode ${String(mode)}, and readers beside a writer need ` +
        'WAL. It cannot be had on most network file systems: put the file on a local disk, or set ' +
        'sqlite: { isolate: false } and have one writer at a time.',
    );
  }

  private async openForWaiting(): Promise<void> {
    if (this.opening) return;
    this.opening = true;
    while (this.waiting.length > 0) {
      const { lifetime } = this;
      try {
        const database = await this.open();
        if (lifetime === this.lifetime) this.offer(this.adopt(database));
        else database.close();
      } catch (error) {
        // What fails for one fails for all, and each would find it out after a wait of its own.
        if (lifetime === this.lifetime) this.refuseWaiting(error);
      }
    }
    this.opening = false;
  }

  private adopt(database: SqliteDatabase): SqliteConnection {
    const { statementCacheSize = STATEMENTS_PER_CONNECTION } = this.driver.options;
    const connection = new SqliteConnection(database, statementCacheSize);
    this.all.add(connection);
    return connection;
  }

  private refuseWaiting(reason: unknown): void {
    for (const waiter of this.waiting.splice(0)) waiter.reject(reason);
  }

  private offer(connection: SqliteConnection): void {
    const waiter = this.waiting.shift();
    if (waiter) waiter.resolve(connection);
    else this.idle.push(connection);
  }
}

function assertKnownShape(database: SqliteDatabase): void {
  if (typeof database.inTransaction === 'boolean' && typeof database.prepare('SELECT 1').readonly === 'boolean') return;
  throw new ConfigurationError(
    'UNKNOWN_SQLITE_DRIVER',
    'The driver of this DataSource does not tell, as better-sqlite3 does, whether a connection is in a transaction ' +
      '(inTransaction) and whether a statement only reads (readonly). Use better-sqlite3, or sqlite: { isolate: false } ' +
      'and one writer at a time.',
  );
}
