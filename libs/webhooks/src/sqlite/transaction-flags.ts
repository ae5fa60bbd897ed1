import { dataSourceOf } from '../typeorm-compat.js';
import type { RunnerSession } from './runner-session.js';
import type { StockQueryRunner } from './typeorm-driver.js';

/**
 * Keeps TypeORM's flags of a query runner, `isTransactionActive` and `transactionDepth`, equal to the state of its connection. TypeORM's
 * own methods leave wrong flags after an error: a transaction after a failed BEGIN, and none after a failed `afterQuery`.
 */
export class TransactionFlags {
  constructor(
    private readonly runner: StockQueryRunner,
    private readonly session: RunnerSession,
  ) {}

  /** Whether the next transaction is no savepoint. If the application has opened a transaction with its own BEGIN, TypeORM's BEGIN fails. */
  get areOutermost(): boolean {
    return this.runner.transactionDepth === 0 && !this.session.isInTransaction;
  }

  /** @param begin TypeORM's `startTransaction()` */
  async begin(begin: () => Promise<void>): Promise<void> {
    const { areOutermost } = this;
    try {
      await begin();
    } catch (error) {
      if (areOutermost && this.runner.transactionDepth === 0) this.discardTransaction();
      else if (this.runner.transactionDepth === 0) this.runner.isTransactionActive = false;
      throw error;
    }
  }

  /** @param end TypeORM's `commitTransaction()` or `rollbackTransaction()` */
  async end(end: () => Promise<void>): Promise<void> {
    try {
      await end();
    } catch (error) {
      this.correct();
      throw error;
    }
  }

  /** Whether a transaction has not ended, as the release of its query runner finds it. */
  get haveLeftover(): boolean {
    return this.session.isInTransaction || this.session.hasLostTransaction;
  }

  /**
   * Ends a transaction that is still open when its query runner is released.
   *
   * @param rollBack TypeORM's `rollbackTransaction()`
   */
  async rollBackLeftover(rollBack: () => Promise<void>): Promise<void> {
    const { runner } = this;
    try {
      if (!runner.isTransactionActive) return;
      runner.transactionDepth = 1; // rolls back the whole transaction, even if it has savepoints
      await rollBack();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      dataSourceOf(runner).logger.log(
        'warn',
        `A hook failed while an open transaction was rolled back at the release of its query runner: ${reason}`,
        runner,
      );
    } finally {
      this.discardTransaction();
    }
  }

  private discardTransaction(): void {
    this.session.discardTransaction();
    this.correct();
  }

  private correct(): void {
    if (this.haveLeftover) return;
    this.runner.isTransactionActive = false;
    this.runner.transactionDepth = 0;
  }
}
