import type { QueryRunner } from 'typeorm';
import sql from 'sql-template-tag';
import type { Database } from '../../store/database/database.js';
import { CONTEXT_MARK, SKIP_MARK, TRANSACTION_MARK } from '../../store/outbox/marks.js';
import type { TransactionStatement } from '../transactions/transaction-statement.js';
import { keyOf, MarkedWrites, NO_KEY, NO_MARK, type TriggerMark } from './marked-writes.js';

/**
 * Tells triggers in the writer's own transaction what they cannot know: that this write is not to be told, by whom it is, and, where
 * the database cannot say it, in which transaction.
 *
 * On PostgreSQL by settings that end with the transaction, on MySQL and MariaDB by variables of the connection that are emptied when
 * the transaction ends, and on SQLite, which has neither, by rows of the images' table that are taken away before the COMMIT: nobody
 * else ever sees them. A statement outside a transaction is given one, except on MySQL and MariaDB.
 */
export class TransactionMarks {
  private readonly writes = new WeakMap<QueryRunner, MarkedWrites>();

  constructor(private readonly database: Database) {}

  /** Whether this runner's writes are marked, or were in this transaction. */
  has(runner: QueryRunner): boolean {
    return this.writes.get(runner)?.isMarked ?? false;
  }

  /** Whether a statement passed {@link beforeWrite} and is under way. */
  isUnderWay(runner: QueryRunner, query: string): boolean {
    return this.writes.get(runner)?.isUnderWay(query) ?? false;
  }

  /** Whether a statement is one that sets marks: these pass the hooks, too. */
  isOwn(query: string): boolean {
    return this.database.dialect === 'sqlite' && query.includes(` ${this.database.tables.images.path} `);
  }

  /**
   * Before a statement that may fire triggers. Where it and the statements under way have no mark, or the same, it costs nothing.
   *
   * @param isOpen whether a transaction is, when the statement's turn has come
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
      mark: async () => {
        if (!isOpen() && this.database.dialect !== 'mysql') {
          await runner.query('BEGIN');
          marked.isOwnTransaction = true;
        }
        await this.set(runner, mark);
      },
    });
  }

  /** After it, whether it succeeded or not. @param isOpen whether a transaction of the application is */
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
    if (!isOwnTransaction) return this.set(runner, NO_MARK);
    if (!hasSucceeded) return void (await runner.query('ROLLBACK'));
    if (this.database.dialect === 'sqlite') await this.set(runner, NO_MARK);
    await runner.query('COMMIT');
  }

  /** Before a statement that ends a transaction. */
  async beforeEnd(runner: QueryRunner, { kind }: TransactionStatement): Promise<void> {
    const writes = this.writes.get(runner);
    if (!writes?.isMarked || writes.isOwnTransaction || this.database.dialect !== 'sqlite') return;
    if (kind !== 'commit') return;
    await writes.marked();
    if (writes.key === NO_KEY) return;
    // Before the statement: a write that sets its mark meanwhile is seen by `afterEnd()`. Should the COMMIT fail, the transaction goes
    // on without the mark.
    writes.key = NO_KEY;
    await this.set(runner, NO_MARK);
  }

  /** After a statement that ends or divides a transaction. */
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
    if (this.database.dialect === 'mysql') await this.set(runner, NO_MARK);
    // A statement that nobody awaited set the mark between `beforeEnd()` and the COMMIT, which then kept it.
    else if (this.database.dialect === 'sqlite' && kind === 'commit' && key !== NO_KEY) {
      await this.set(runner, NO_MARK);
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
