import { dirname } from 'node:path';

import { ConfigurationError } from '../errors.js';
import { dataSourceOf, notConnected } from '../typeorm-compat.js';
import { retryWhileBusy, type BusyLimits } from './retry-while-busy.js';
import type { SqliteDatabase, SqliteStatement, StockDriver } from './typeorm-driver.js';

/**
 * The number of connections that stay open for the next query runner. All reads together need one connection. Each open transaction needs
 * one more connection.
 */
const MAX_IDLE = 8;

/** TypeORM's default for `statementCacheSize`. */
const STATEMENTS_PER_CONNECTION = 100;

/** A connection with its prepared statements. */
export class SqliteConnection {
  /** Whether a PRAGMA, an ATTACH or a temporary table has changed the session. */
  sessionChanged = false;
  /** Whether code outside this folder has got the bare connection. */
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

  /** Whether the next query runner can use this connection like a new connection. */
  get isReusable(): boolean {
    if (this.sessionChanged || this.database.inTransaction) return false;
    // After a failed migration, foreign keys stay unchecked on the connection that TypeORM got for the migration.
    return !this.handedOut || this.database.pragma('foreign_keys', { simple: true }) === 1;
  }
}

interface Waiter {
  resolve(connection: SqliteConnection): void;
  reject(error: unknown): void;
}

/**
 * The connections of one data source. The connections are opened in the same way as TypeORM's single connection, with the same options,
 * `prepareDatabase` and attached databases.
 *
 * If a caller finds no idle connection, the caller waits until a connection is returned or opened. Only one connection is opened at a time.
 * Reads return their connections within the same tick, so many concurrent reads share a few connections. There is no upper limit, because a
 * transaction may wait for a query of another runner. Callers that wait for the writer lock hold no connection.
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

  /** Returns a connection. No other caller uses this connection until it is returned. */
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
    } else if (connection.isReusable && (this.waiting.length > 0 || this.idle.length < MAX_IDLE)) {
      connection.handedOut = false;
      this.offer(connection);
    } else {
      this.all.delete(connection);
      connection.database.close();
    }
  }

  /** Closes every connection, also connections that are in use. SQLite rolls back their transactions. */
  closeAll(reason: Error): void {
    this.lifetime++;
    this.idle = [];
    for (const { database } of this.all) if (database.open) database.close();
    this.all.clear();
    this.refuseWaiting(reason);
  }

  /**
   * Opens a connection in the same way as TypeORM, but with WAL. If another process has locked the file, the method waits asynchronously.
   */
  async open(): Promise<SqliteDatabase> {
    return retryWhileBusy(this.limits, () => this.openOnce());
  }

  /**
   * Attaches the databases of the entities. TypeORM opens its own connection before it knows the entities, so the attached databases are
   * known only later.
   */
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
      `SQLite keeps "${this.driver.options.database}" in journal_mode ${String(mode)}, but readers during a write need ` +
        'WAL. Most network file systems do not support WAL. Put the file on a local disk, or set ' +
        'sqlite: { isolate: false } and allow only one writer at a time.',
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
        // Each waiting caller would get the same error after one more wait. So reject all waiting callers now.
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
    'The driver of this DataSource does not report whether a connection is in a transaction (inTransaction) or ' +
      'whether a statement only reads (readonly), as better-sqlite3 does. Use better-sqlite3, or set ' +
      'sqlite: { isolate: false } and allow only one writer at a time.',
  );
}
