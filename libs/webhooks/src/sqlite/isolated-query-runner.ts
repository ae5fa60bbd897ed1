import { QueryResult, QueryRunnerAlreadyReleasedError, type ObjectLiteral } from 'typeorm';

import { captureCallSite } from './call-site.js';
import { SqliteTransactionLostError } from './errors.js';
import { queryWithHooks, runStatement } from './query-with-hooks.js';
import { isStaleSnapshot, retryWhileBusy, type BusyLimits } from './retry-while-busy.js';
import type { SqliteConnection, SqliteConnections } from './sqlite-connections.js';
import type { SqliteWriterLock } from './sqlite-writer-lock.js';
import { statementShape, type StatementShape } from './statement-shape.js';
import type { SqliteDatabase, SqliteStatement, StockQueryRunner, StockQueryRunnerClass } from './typeorm-driver.js';
import { dataSourceOf, namedPlaceholdersNotSupported } from '../typeorm-compat.js';

/** The parts that the query runners of one data source share. */
export interface Isolation {
  readonly connections: SqliteConnections;
  readonly lock: SqliteWriterLock;
  readonly limits: BusyLimits;
  /** Whether the file was opened read-only. Then transactions only read, and take no lock. */
  readonly isReadonly: boolean;
}

type Level = Parameters<StockQueryRunner['startTransaction']>[0];

/**
 * TypeORM's query runner with its own connection and a writer lock.
 *
 * The connection: a read borrows a connection for the tick in which it runs. From the first write, BEGIN or change of the session until
 * `release()`, the runner keeps one connection. So `last_insert_rowid()`, temporary tables and PRAGMAs stay valid.
 *
 * The lock: a write outside a transaction holds the lock while its statement runs. BEGIN takes the lock. The lock is released as soon as
 * the connection is no longer in a transaction, in whichever way the transaction has ended. After each statement the code checks
 * `database.inTransaction`, and never TypeORM's flags. Hooks before a statement run before the lock is taken. Hooks after a COMMIT run
 * after the release. So both kinds of hooks may wait for other writers. Statements that run on one runner at the same time share the lock
 * of the runner.
 */
export function isolatedQueryRunner(Stock: StockQueryRunnerClass, shared: Isolation): StockQueryRunnerClass {
  return class IsolatedSqliteQueryRunner extends Stock {
    private kept: SqliteConnection | undefined;
    private keeping: Promise<SqliteConnection> | undefined;
    private unlock: (() => void) | undefined;
    private locking: Promise<void> | undefined;
    /** The number of statements outside a transaction that wait for the lock or hold the lock. */
    private lockUsers = 0;
    private transactionWasLost = false;
    private transactionCallSite: ReturnType<typeof captureCallSite> | undefined;

    override async connect(): Promise<SqliteDatabase> {
      const connection = await this.keepConnection();
      connection.handedOut = true;
      return connection.database;
    }

    override async query(
      query: string,
      parameters: unknown[] | ObjectLiteral = [],
      useStructuredResult = false,
    ): Promise<never> {
      if (!Array.isArray(parameters)) throw namedPlaceholdersNotSupported();
      const values = parameters.map((value: unknown) => (typeof value === 'boolean' ? Number(value) : value));
      const result = await queryWithHooks(this, query, values, () =>
        this.execute(statementShape(query, shared.isReadonly), values),
      );
      // TypeORM declares `any`, because the caller knows the type of the result: rows, a row id or a QueryResult.
      return (useStructuredResult ? result : result.raw) as never;
    }

    override async startTransaction(isolationLevel?: Level): Promise<void> {
      // If the application has opened a transaction with its own BEGIN, this method fails. That transaction then stays unchanged.
      const isOutermost = this.transactionDepth === 0 && !this.isInTransaction;
      if (isOutermost) this.transactionCallSite = captureCallSite();
      try {
        await super.startTransaction(isolationLevel);
      } catch (error) {
        // TypeORM's flags would be wrong: TypeORM assumes a transaction after a failed BEGIN, and no transaction after a failed
        // `afterQuery`.
        if (isOutermost && this.transactionDepth === 0) this.discardTransaction();
        else if (this.transactionDepth === 0) this.isTransactionActive = false;
        throw error;
      }
    }

    override async commitTransaction(): Promise<void> {
      try {
        await super.commitTransaction();
      } catch (error) {
        this.correctFlags();
        throw error;
      }
    }

    override async rollbackTransaction(): Promise<void> {
      try {
        await super.rollbackTransaction();
      } catch (error) {
        this.correctFlags();
        throw error;
      }
    }

    override async release(): Promise<void> {
      if (this.isReleased) return;
      if (this.isInTransaction || this.transactionWasLost) await this.rollBackLeftover();
      this.isReleased = true;
      await super.release();
      const connection = this.kept;
      this.kept = undefined;
      if (connection) shared.connections.giveBack(connection);
      this.giveLockBack();
    }

    /** Whether the database is in a transaction. The value does not depend on TypeORM's flags. Capture also reads this property. */
    get isInTransaction(): boolean {
      return this.kept?.database.open === true && this.kept.database.inTransaction;
    }

    private async execute(shape: StatementShape, values: unknown[]): Promise<QueryResult> {
      if (this.transactionWasLost) {
        if (!shape.rollsBack) throw new SqliteTransactionLostError();
        if (shape.rollsBack === 'transaction') this.transactionWasLost = false;
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
      const connection = kept ?? (await shared.connections.checkOut());
      try {
        if (this.isReleased) throw new QueryRunnerAlreadyReleasedError();
        const statement = connection.prepare(shape.sql);
        const isFree = this.isFree(statement, shape);
        if (!isFree && !(kept && this.unlock)) return undefined;
        return this.run(connection, statement, shape, values);
      } finally {
        if (!kept) shared.connections.giveBack(connection);
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
        this.transactionWasLost = wasInTransaction && !database.inTransaction;
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
      return retryWhileBusy(shared.limits, work, (error) => !(isStaleSnapshot(error) && this.isInTransaction));
    }

    private async keepConnection(): Promise<SqliteConnection> {
      if (this.kept) return this.kept;
      this.keeping ??= shared.connections
        .checkOut()
        .then((connection) => {
          if (!this.isReleased) return (this.kept = connection);
          shared.connections.giveBack(connection);
          throw new QueryRunnerAlreadyReleasedError();
        })
        .finally(() => (this.keeping = undefined));
      return this.keeping;
    }

    private async takeLock(shape: StatementShape): Promise<void> {
      if (this.unlock) return;
      const origin = shape.opensTransaction ? this.transactionOrigin() : () => `the statement ${excerpt(shape.sql)}`;
      this.locking ??= shared.lock
        .acquire(origin)
        .then((unlock) => void (this.unlock = unlock))
        .finally(() => (this.locking = undefined));
      await this.locking;
    }

    private transactionOrigin(): () => string {
      const callSite = this.transactionCallSite ?? captureCallSite();
      this.transactionCallSite = undefined;
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

    private async rollBackLeftover(): Promise<void> {
      try {
        if (this.isTransactionActive) {
          this.transactionDepth = 1; // rolls back the whole transaction, even if it has savepoints
          await super.rollbackTransaction();
        }
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        dataSourceOf(this).logger.log(
          'warn',
          `A hook failed while an open transaction was rolled back at the release of its query runner: ${reason}`,
          this,
        );
      } finally {
        this.discardTransaction();
      }
    }

    private discardTransaction(): void {
      if (this.isInTransaction) this.kept?.database.exec('ROLLBACK');
      this.transactionWasLost = false;
      this.correctFlags();
      this.giveLockBackWhenDone();
    }

    private correctFlags(): void {
      if (this.isInTransaction || this.transactionWasLost) return;
      this.isTransactionActive = false;
      this.transactionDepth = 0;
    }
  };
}

function excerpt(sql: string): string {
  const line = sql.replace(/\s+/g, ' ').trim();
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
}
