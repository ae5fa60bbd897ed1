import type { QueryRunner } from 'typeorm';
import sql from 'sql-template-tag';
import type { Database } from '../../store/database.js';
import { CONTEXT_MARK, SKIP_MARK, TRANSACTION_MARK } from '../../store/images.js';
import type { TransactionStatement } from '../transaction-statement.js';

/** What triggers are told of the writes that follow. */
export interface TriggerMark {
  /** They write nothing down. */
  readonly skip: boolean;
  /** What they write down beside each image: the text of `contextText()`. */
  readonly context: string | null;
  /** In which transaction; `null` where nobody wants to know, or the database knows by itself. */
  readonly transaction: string | null;
}

const NO_MARK: TriggerMark = { skip: false, context: null, transaction: null };

interface Marked {
  /** As the database holds it; `null`: a savepoint was rolled back, and only the database knows. */
  key: string | null;
  /** The transaction was opened for one statement. */
  isOwnTransaction: boolean;
}

const keyOf = ({ skip, context, transaction }: TriggerMark) => JSON.stringify([skip, context, transaction]);
const NO_KEY = keyOf(NO_MARK);

/**
 * Tells triggers in the writer's own transaction what they cannot know: that this write is not to be told, by whom it is, and, where
 * the database cannot say it, in which transaction.
 *
 * On PostgreSQL by settings that end with the transaction, on MySQL and MariaDB by variables of the connection that are emptied when
 * the transaction ends, and on SQLite, which has neither, by rows of the images' table that are taken away before the COMMIT: nobody
 * else ever sees them. A statement outside a transaction is given one, except on MySQL and MariaDB.
 */
export class TransactionMarks {
  private readonly marked = new WeakMap<QueryRunner, Marked>();

  constructor(private readonly database: Database) {}

  /** Whether this runner's writes are marked, or were in this transaction. */
  has(runner: QueryRunner): boolean {
    return this.marked.has(runner);
  }

  /** Before a statement that may fire triggers. Costs nothing where nothing is marked, nor was. @param isOpen whether a transaction is */
  async beforeWrite(runner: QueryRunner, mark: TriggerMark, isOpen: boolean): Promise<void> {
    const key = keyOf(mark);
    const before = this.marked.get(runner);
    if ((before ? before.key : NO_KEY) === key) return;
    const isOwnTransaction = !isOpen && this.database.dialect !== 'mysql';
    if (isOwnTransaction) await runner.query('BEGIN');
    // First: what follows passes here again.
    this.marked.set(runner, { key, isOwnTransaction });
    await this.set(runner, mark);
  }

  /** After it, whether it succeeded or not. @param isOpen whether a transaction of the application is */
  async afterWrite(runner: QueryRunner, hasSucceeded: boolean, isOpen: boolean): Promise<void> {
    const marked = this.marked.get(runner);
    if (!marked || (isOpen && !marked.isOwnTransaction)) return;
    this.marked.delete(runner);
    if (!marked.isOwnTransaction) return this.set(runner, NO_MARK);
    if (!hasSucceeded) return void (await runner.query('ROLLBACK'));
    if (this.database.dialect === 'sqlite') await this.set(runner, NO_MARK);
    await runner.query('COMMIT');
  }

  /** Before a statement that ends a transaction. */
  async beforeEnd(runner: QueryRunner, { kind }: TransactionStatement): Promise<void> {
    const marked = this.marked.get(runner);
    if (!marked || marked.isOwnTransaction || this.database.dialect !== 'sqlite') return;
    if (kind !== 'commit' || marked.key === NO_KEY) return;
    await this.set(runner, NO_MARK);
    // Should the COMMIT fail, the transaction goes on without the mark.
    marked.key = NO_KEY;
  }

  /** After a statement that ends or divides a transaction. */
  async afterEnd(runner: QueryRunner, { kind }: TransactionStatement): Promise<void> {
    const marked = this.marked.get(runner);
    if (!marked || marked.isOwnTransaction) return;
    if (kind === 'rollback_to') {
      marked.key = null;
      return;
    }
    if (kind !== 'commit' && kind !== 'rollback' && kind !== 'prepare') return;
    this.marked.delete(runner);
    if (this.database.dialect === 'mysql') await this.set(runner, NO_MARK);
    // A statement that nobody awaited set the mark between `beforeEnd()` and the COMMIT, which then kept it.
    else if (this.database.dialect === 'sqlite' && kind === 'commit' && marked.key !== NO_KEY) {
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
