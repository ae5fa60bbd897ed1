import type { QueryRunner } from 'typeorm';
import sql from 'sql-template-tag';
import type { Database } from '../../store/database/database.js';
import { CONTEXT_MARK, SKIP_MARK, TRANSACTION_MARK } from '../../store/outbox/marks.js';
import type { TransactionStatement } from '../transactions/transaction-statement.js';
import { keyOf, MarkedWrites, NO_KEY, NO_MARK, type TriggerMark } from './marked-writes.js';

/**
 * Sets transaction marks: values that triggers need in the transaction of the writer, but cannot find out by themselves. The values say
 * whether the write is captured, and which context the write has. A mark also contains an id of the transaction, if the database does not
 * provide such an id.
 *
 * On PostgreSQL, marks are settings that end with the transaction. On MySQL and MariaDB, marks are variables of the connection. These
 * variables are set to NULL when the transaction ends. On SQLite, marks are rows of the images table, because SQLite has neither such
 * settings nor variables. These rows are deleted before the COMMIT, so no other connection sees these rows. A statement outside a
 * transaction gets its own transaction, except on MySQL and MariaDB.
 */
export class TransactionMarks {
  private readonly writes = new WeakMap<QueryRunner, MarkedWrites>();

  /**
   * @param ask sends a statement although the write around the statement may be over. Otherwise the mark of a transaction that the server
   * has rolled back would stay on the connection
   */
  constructor(
    private readonly database: Database,
    private readonly ask: (runner: QueryRunner, text: string, values: unknown[]) => Promise<unknown>,
  ) {}

  /** Whether writes of this query runner are marked, or were marked in this transaction. */
  has(runner: QueryRunner): boolean {
    return this.writes.get(runner)?.isMarked ?? false;
  }

  /** Whether a statement has passed {@link beforeWrite} and is under way. */
  isUnderWay(runner: QueryRunner, query: string): boolean {
    return this.writes.get(runner)?.isUnderWay(query) ?? false;
  }

  /** Whether a statement sets marks. Such statements also run through the hooks. */
  isOwn(query: string): boolean {
    return this.database.dialect === 'sqlite' && query.includes(` ${this.database.tables.images.path} `);
  }

  /**
   * Must be called before a statement that may fire triggers. The method sends nothing if the connection already has the mark of the
   * statement.
   *
   * @param isOpen returns whether a transaction is open when the statement may run
   */
  async beforeWrite(runner: QueryRunner, query: string, mark: TriggerMark, isOpen: () => boolean): Promise<void> {
    let writes = this.writes.get(runner);
    if (!writes) this.writes.set(runner, (writes = new MarkedWrites()));
    const key = keyOf(mark);
    const marked = writes;
    await marked.enter({
      query,
      key,
      isAlone: key !== NO_KEY && !isOpen(),
      mark: () =>
        isOpen() || this.database.dialect === 'mysql' ? this.set(runner, mark) : this.beginWith(runner, marked, mark),
    });
  }

  /** Begins a transaction for one statement. */
  private async beginWith(runner: QueryRunner, marked: MarkedWrites, mark: TriggerMark): Promise<void> {
    await runner.query('BEGIN');
    marked.isOwnTransaction = true;
    try {
      await this.set(runner, mark);
    } catch (error) {
      // Roll back before `forget()`: afterwards this ROLLBACK would count as the application's, and would wait for this mark.
      await rollBack(runner);
      marked.forget();
      throw error;
    }
  }

  /**
   * Must be called after the statement, both after success and after failure. @param isOpen whether a transaction of the application is
   * open
   */
  async afterWrite(runner: QueryRunner, query: string, hasSucceeded: boolean, isOpen: boolean): Promise<void> {
    const writes = this.writes.get(runner);
    if (!writes?.isUnderWay(query)) return;
    try {
      await this.unmark(runner, writes, hasSucceeded, isOpen);
    } finally {
      writes.leave(query);
    }
  }

  private async unmark(
    runner: QueryRunner,
    writes: MarkedWrites,
    hasSucceeded: boolean,
    isOpen: boolean,
  ): Promise<void> {
    const { isMarked, isOwnTransaction } = writes;
    if (!isMarked || (isOpen && !isOwnTransaction)) return;
    writes.forget();
    if (!isOwnTransaction) return this.remove(runner);
    if (!hasSucceeded) return void (await runner.query('ROLLBACK'));
    try {
      if (this.database.dialect === 'sqlite') await this.set(runner, NO_MARK);
      await runner.query('COMMIT');
    } catch (error) {
      await rollBack(runner);
      throw error;
    }
  }

  /** Must be called before a statement that ends a transaction. */
  async beforeEnd(runner: QueryRunner, { kind }: TransactionStatement): Promise<void> {
    const writes = this.writes.get(runner);
    if (!writes?.isMarked || writes.isOwnTransaction || this.database.dialect !== 'sqlite') return;
    if (kind !== 'commit') return;
    await writes.marked();
    if (writes.key === NO_KEY) return;
    // Change the key before the statement runs, so that `afterEnd()` notices a write that sets its mark in the meantime. If the COMMIT
    // fails, the transaction continues without the mark.
    writes.key = NO_KEY;
    await this.set(runner, NO_MARK);
  }

  /** Must be called after a statement that ends a transaction, or that creates or ends a savepoint. */
  async afterEnd(runner: QueryRunner, { kind }: TransactionStatement): Promise<void> {
    const writes = this.writes.get(runner);
    if (!writes || writes.isOwnTransaction) return;
    if (kind === 'rollback_to') {
      if (writes.isMarked) writes.key = null;
      return;
    }
    if (kind !== 'commit' && kind !== 'rollback' && kind !== 'prepare') return;
    const { key } = writes;
    if (!(await writes.end())) return;
    if (this.database.dialect === 'mysql') await this.remove(runner);
    // The application did not await a statement, and this statement has set the mark between `beforeEnd()` and the COMMIT. So the mark was
    // committed.
    else if (this.database.dialect === 'sqlite' && kind === 'commit' && key !== NO_KEY) {
      await this.remove(runner);
    }
  }

  /** Removes the mark after its transaction. */
  private async remove(runner: QueryRunner): Promise<void> {
    for (const statement of this.statements(NO_MARK)) {
      const { text, values } = this.database.statement(statement);
      await this.ask(runner, text, values);
    }
  }

  private async set(runner: QueryRunner, mark: TriggerMark): Promise<void> {
    for (const statement of this.statements(mark)) {
      const { text, values } = this.database.statement(statement);
      await runner.query(text, values);
    }
  }

  private statements({ skip, context, transaction }: TriggerMark) {
    const { dialect, tables } = this.database;
    switch (dialect) {
      case 'postgres':
        return [
          sql`select set_config('webhooks.skip', ${skip ? 'on' : ''}, true), set_config('webhooks.context', ${context ?? ''}, true)`,
        ];
      case 'mysql':
        return [
          sql`set @webhooks_skip = ${skip ? 1 : null}, @webhooks_context = ${context}, @webhooks_transaction = ${transaction}`,
        ];
      case 'sqlite': {
        const { sql: path, $ } = tables.images;
        const mark = (seq: number, text: string | null) =>
          sql`insert into ${path} (${$.seq}, ${$.tablePath}, ${$.op}, ${$.context}, ${$.createdAt}, ${$.reason}) values (${seq}, ${''}, ${'mark'}, ${text}, ${0}, ${'mark'})`;
        return [
          sql`delete from ${path} where ${$.seq} < 0`,
          ...(skip ? [mark(SKIP_MARK, null)] : []),
          ...(context === null ? [] : [mark(CONTEXT_MARK, context)]),
          ...(transaction === null ? [] : [mark(TRANSACTION_MARK, transaction)]),
        ];
      }
    }
  }
}

/** Ends a transaction after an error. That error is more useful than an error of this ROLLBACK. */
async function rollBack(runner: QueryRunner): Promise<void> {
  await runner.query('ROLLBACK').catch(() => undefined);
}
