import { QueryResult, QueryRunnerAlreadyReleasedError } from 'typeorm';

import { captureCallSite } from './call-site.js';
import { SqliteTransactionLostError } from './errors.js';
import { runStatement } from './query-with-hooks.js';
import { isStaleSnapshot, retryWhileBusy, type BusyLimits } from './retry-while-busy.js';
import type { SqliteConnection, SqliteConnections } from './sqlite-connections.js';
import type { SqliteWriterLock } from './sqlite-writer-lock.js';
import type { StatementShape } from './statement-shape.js';
import type { SqliteDatabase, SqliteStatement } from './typeorm-driver.js';

/** The parts that the query runners of one data source share. */
export interface Isolation {
  readonly connections: SqliteConnections;
  readonly lock: SqliteWriterLock;
  readonly limits: BusyLimits;
  /** Whether the file was opened read-only. Then transactions only read, and take no lock. */
  readonly isReadonly: boolean;
}

/**
 * The connection of one query runner, and its hold on the writer lock.
 *
 * The connection: a read borrows a connection for the tick in which it runs. From the first write, BEGIN or change of the session until
 * `release()`, the runner keeps one connection. So `last_insert_rowid()`, temporary tables and PRAGMAs stay valid.
 *
 * The lock: a write outside a transaction holds the lock while its statement runs. BEGIN takes the lock. The lock is released as soon as
 * the connection is no longer in a transaction, in whichever way the transaction has ended. After each statement the code checks
 * `database.inTransaction`, and never TypeORM's flags. Statements that run on one runner at the same time share the lock of the runner.
 */
export class RunnerSession {
  private kept: SqliteConnection | undefined;
  private keeping: Promise<SqliteConnection> | undefined;
  private unlock: (() => void) | undefined;
  private locking: Promise<void> | undefined;
  /** The number of statements outside a transaction that wait for the lock or hold the lock. */
  private lockUsers = 0;
  private wasLost = false;
  private callSite: ReturnType<typeof captureCallSite> | undefined;

  constructor(
    private readonly shared: Isolation,
    private readonly runner: { readonly isReleased: boolean },
  ) {}

  /** Whether the database is in a transaction. */
  get isInTransaction(): boolean {
    return this.kept?.database.open === true && this.kept.database.inTransaction;
  }

  /** Whether a statement that failed has ended the transaction, and no ROLLBACK has followed. */
  get hasLostTransaction(): boolean {
    return this.wasLost;
  }

  /** Remembers who begins the next transaction, for the writers that will wait for it. */
  willBegin(callSite: ReturnType<typeof captureCallSite>): void {
    this.callSite = callSite;
  }

  /** The connection, for code that uses it directly. */
  async handOut(): Promise<SqliteDatabase> {
    const connection = await this.keepConnection();
    connection.handedOut = true;
    return connection.database;
  }

  /** Runs a statement, under the lock if it needs the lock. */
  async execute(shape: StatementShape, values: unknown[]): Promise<QueryResult> {
    if (this.wasLost) {
      if (!shape.rollsBack) throw new SqliteTransactionLostError();
      if (shape.rollsBack === 'transaction') this.wasLost = false;
      return new QueryResult();
    }
    if (shape.needsOwnConnection) await this.keepConnection();
    if (!this.opensWriteTransaction(shape)) {
      const result = await this.retry(() => this.runUnlessItMustWait(shape, values));
      if (result) return result;
    }
    return this.runUnderLock(shape, values);
  }

  /**
   * Runs a statement if it needs no lock, or if this runner already holds the lock. Returns `undefined` if the statement must wait for
   * the lock.
   */
  private async runUnlessItMustWait(shape: StatementShape, values: unknown[]): Promise<QueryResult | undefined> {
    const { kept } = this;
    const connection = kept ?? (await this.shared.connections.checkOut());
    try {
      if (this.runner.isReleased) throw new QueryRunnerAlreadyReleasedError();
      const statement = connection.prepare(shape.sql);
      const isFree = this.isFree(statement, shape);
      if (!isFree && !(kept && this.unlock)) return undefined;
      return this.run(connection, statement, shape, values);
    } finally {
      if (!kept) this.shared.connections.giveBack(connection);
    }
  }

  private async runUnderLock(shape: StatementShape, values: unknown[]): Promise<QueryResult> {
    this.lockUsers++;
    try {
      await this.takeLock(shape);
      await this.keepConnection();
      return await this.retry(() => {
        const connection = this.kept;
        if (!connection) throw new QueryRunnerAlreadyReleasedError();
        return this.run(connection, connection.prepare(shape.sql), shape, values);
      });
    } finally {
      this.lockUsers--;
      this.giveLockBackWhenDone();
    }
  }

  private run(
    connection: SqliteConnection,
    statement: SqliteStatement,
    shape: StatementShape,
    values: unknown[],
  ): QueryResult {
    const { database } = connection;
    const wasInTransaction = database.inTransaction;
    try {
      return runStatement(statement, values);
    } catch (error) {
      this.wasLost = wasInTransaction && !database.inTransaction;
      throw error;
    } finally {
      if (shape.changesSession) connection.sessionChanged = true;
      this.giveLockBackWhenDone();
    }
  }

  private opensWriteTransaction(shape: StatementShape): boolean {
    return shape.opensTransaction && !this.isInTransaction;
  }

  private isFree(statement: SqliteStatement, shape: StatementShape): boolean {
    if (shape.writes !== 'ask SQLite') return shape.writes === 'no';
    return statement.readonly;
  }

  private retry<T>(work: () => T | Promise<T>): Promise<T> {
    return retryWhileBusy(this.shared.limits, work, (error) => !(isStaleSnapshot(error) && this.isInTransaction));
  }

  private async keepConnection(): Promise<SqliteConnection> {
    if (this.kept) return this.kept;
    this.keeping ??= this.shared.connections
      .checkOut()
      .then((connection) => {
        if (!this.runner.isReleased) return (this.kept = connection);
        this.shared.connections.giveBack(connection);
        throw new QueryRunnerAlreadyReleasedError();
      })
      .finally(() => (this.keeping = undefined));
    return this.keeping;
  }

  private async takeLock(shape: StatementShape): Promise<void> {
    if (this.unlock) return;
    const origin = shape.opensTransaction ? this.transactionOrigin() : () => `the statement ${excerpt(shape.sql)}`;
    this.locking ??= this.shared.lock
      .acquire(origin)
      .then((unlock) => void (this.unlock = unlock))
      .finally(() => (this.locking = undefined));
    await this.locking;
  }

  private transactionOrigin(): () => string {
    const callSite = this.callSite ?? captureCallSite();
    this.callSite = undefined;
    return () => {
      const place = callSite.describe();
      return place
        ? `the transaction that began at ${place}`
        : 'a transaction whose caller is not in the call stack (probably a transaction that save() opened)';
    };
  }

  private giveLockBackWhenDone(): void {
    if (this.lockUsers === 0 && !this.isInTransaction) this.giveLockBack();
  }

  private giveLockBack(): void {
    const { unlock } = this;
    this.unlock = undefined;
    unlock?.();
  }

  /** Rolls the transaction back, if there is one, without hooks. */
  discardTransaction(): void {
    if (this.isInTransaction) this.kept?.database.exec('ROLLBACK');
    this.wasLost = false;
    this.giveLockBackWhenDone();
  }

  /** Gives the connection and the lock back. Call it when the query runner is released. */
  giveBack(): void {
    const connection = this.kept;
    this.kept = undefined;
    if (connection) this.shared.connections.giveBack(connection);
    this.giveLockBack();
  }
}

function excerpt(sql: string): string {
  const line = sql.replace(/\s+/g, ' ').trim();
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
}
