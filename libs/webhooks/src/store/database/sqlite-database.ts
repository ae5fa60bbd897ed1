import { isFileSqlite, sqliteWriterLock } from '../../sqlite/isolate-sqlite.js';
import { isInTransactionHere } from '../../sqlite/transaction-here.js';
import { DataSource } from '../../typeorm-compat.js';
import type { Sql } from 'sql-template-tag';
import { isRetryable } from './database-errors.js';
import { assertNewShape, withRunner } from './old-shape.js';
import { Database, ownDataSourceOptions } from './database.js';
import { pause } from '../../time.js';
import { type Script, type StatementResult, Together } from './script.js';
import { tablesSql, webhookEntities, type TablesSql } from './tables.js';
import type { WebhookTablesOptions } from './table-names.js';
import { TransactionError } from './transaction-errors.js';

/** The part of a better-sqlite3 connection that this file uses. The library never imports better-sqlite3 itself. */
interface SqliteConnection {
  readonly inTransaction: boolean;
  prepare(sql: string): SqliteStatement;
}

interface SqliteStatement {
  readonly reader: boolean;
  all(...values: unknown[]): StatementResult['rows'];
  run(...values: unknown[]): { changes: number };
}

/** Another transaction is open on the connection that the driver shares. */
const CONNECTION_IN_USE = Symbol('connection in use');

/** How long a script waits for another writer. `isolateSqlite` has the same default. */
const WRITER_TIMEOUT_MS = 10_000;

/**
 * SQLite through better-sqlite3. Every script is one synchronous transaction. So no other code of this process runs between the statements
 * of a script.
 *
 * For a file, the module has its own connection. A `:memory:` database has only the application's connection, and the driver shares this
 * connection among all query runners. In this case a script runs when the connection is in no transaction.
 */
export class SqliteDatabase extends Database {
  readonly dialect = 'sqlite';
  readonly returnsInserted = true;
  readonly isPartitioned = false;
  private readonly statements = new Map<string, SqliteStatement>();

  private constructor(
    private readonly application: DataSource,
    private readonly own: DataSource,
    private readonly connection: SqliteConnection,
    readonly tables: TablesSql,
  ) {
    super();
  }

  static async open(application: DataSource, at: WebhookTablesOptions): Promise<SqliteDatabase> {
    const file = isFileSqlite(application);
    const own = await new DataSource({
      ...ownDataSourceOptions(
        application,
        webhookEntities({
          ...at,
          type: 'better-sqlite3',
          namingStrategy: application.namingStrategy,
        }),
        1,
      ),
      // With a timeout, better-sqlite3 would wait synchronously for a busy file, and block the event loop. This class retries
      // asynchronously instead.
      timeout: 0,
      ...(file ? {} : { database: ':memory:' }),
    } as DataSource['options']).initialize();
    try {
      const driver = own.driver as unknown as { databaseConnection: SqliteConnection };
      const unusedConnection = driver.databaseConnection;
      if (!file) {
        driver.databaseConnection = (application.driver as unknown as typeof driver).databaseConnection;
        (unusedConnection as unknown as { close(): void }).close();
      }
      const connection = driver.databaseConnection;
      const database = new SqliteDatabase(application, own, connection, tablesSql(own, at));
      await database.retryUntilFree(() => withRunner(own, (runner) => assertNewShape(own, runner, at)));
      if (application.options.synchronize) await database.asWriter(() => own.synchronize());
      return database;
    } catch (error) {
      await own.destroy();
      throw error;
    }
  }

  async transaction<T>(script: () => Script<T>): Promise<T> {
    return this.asWriter(() => this.runTransaction(script));
  }

  single<T>(script: () => Script<T>): Promise<T> {
    // A shared `:memory:` connection may be in a transaction of the application. Readers of a file never wait.
    return isFileSqlite(this.application)
      ? this.retryUntilFree(() => this.runScript(script))
      : this.transaction(script);
  }

  async close(): Promise<void> {
    this.statements.clear();
    if (isFileSqlite(this.application)) await this.own.destroy();
  }

  /** Waits for the writer lock of this process, then tries until the file is free. */
  private async asWriter<T>(work: () => T | Promise<T>): Promise<T> {
    if (isInTransactionHere(this.application)) throw managerMissing();
    return this.retryUntilFree(async () => {
      const release = await sqliteWriterLock(this.application)?.acquire('the webhooks module');
      try {
        return this.connection.inTransaction ? CONNECTION_IN_USE : await work();
      } finally {
        release?.();
      }
    });
  }

  private async retryUntilFree<T>(
    work: () => T | typeof CONNECTION_IN_USE | Promise<T | typeof CONNECTION_IN_USE>,
  ): Promise<T> {
    const deadline = performance.now() + WRITER_TIMEOUT_MS;
    for (let attempt = 1; ; attempt++) {
      try {
        const result = await work();
        if (result !== CONNECTION_IN_USE) return result;
      } catch (error) {
        if (!isRetryable(error) || performance.now() > deadline) throw error;
      }
      await pause(Math.min(attempt, 20));
    }
  }

  private runTransaction<T>(script: () => Script<T>): T {
    this.run('BEGIN IMMEDIATE', []);
    try {
      const result = this.runScript(script);
      this.run('COMMIT', []);
      return result;
    } catch (error) {
      if (this.connection.inTransaction) this.run('ROLLBACK', []);
      throw error;
    }
  }

  private runScript<T>(script: () => Script<T>): T {
    const running = script();
    let step = running.next();
    while (!step.done) step = running.next(this.results(step.value));
    return step.value;
  }

  private results(step: Sql | Together): StatementResult {
    if (!(step instanceof Together)) return this.run(step.sql, step.values);
    return { rows: [], affected: 0, all: step.statements.map(({ sql, values }) => this.run(sql, values)) };
  }

  private run(text: string, values: unknown[]): StatementResult {
    let statement = this.statements.get(text);
    if (!statement) {
      // Batches of different sizes have different statement texts. Empty the cache before it grows too large.
      if (this.statements.size > 200) this.statements.clear();
      statement = this.connection.prepare(text);
      this.statements.set(text, statement);
    }
    if (statement.reader) return { rows: statement.all(...values), affected: 0 };
    return { rows: [], affected: statement.run(...values).changes };
  }
}

function managerMissing(): TransactionError {
  return new TransactionError(
    'MANAGER_MISSING',
    'The webhooks module was called inside a transaction, but without the manager of that transaction. SQLite has one writer at a time, so this call would wait for the transaction, and the transaction waits for this call. Pass the manager of the transaction: publish(type, data, { manager }), listeners.withManager(manager) or deliveries.withManager(manager). Or make the call after the commit.',
  );
}
