import { AsyncLocalStorage } from 'node:async_hooks';
import type { DataSource, QueryRunner } from 'typeorm';
import { dataSourceOf } from '../typeorm-compat.js';

/** A transaction, as the asynchronous call chain that began it sees it. */
interface BegunTransaction {
  readonly runner: QueryRunner;
  isOver: boolean;
}

interface Scope {
  readonly transaction: BegunTransaction | undefined;
}

// The storage itself holds no state: each scope belongs to one call chain.
const here = new AsyncLocalStorage<Scope>();
const begun = new WeakMap<QueryRunner, BegunTransaction>();

/**
 * Records that this call chain begins a transaction. `startTransaction()` must call this function before its first `await`. A caller that
 * awaits `startTransaction()` then continues inside the scope.
 */
export function enterTransaction(runner: QueryRunner): void {
  leaveTransaction(runner);
  const transaction = { runner, isOver: false };
  begun.set(runner, transaction);
  here.enterWith({ transaction });
}

/** Records that the transaction of a query runner has ended. */
export function leaveTransaction(runner: QueryRunner): void {
  const transaction = begun.get(runner);
  if (transaction) transaction.isOver = true;
}

/**
 * Whether this call chain is inside a transaction of the data source, and has begun this transaction. A second writer in the same call
 * chain would wait for the first writer, and the first writer would wait for the second.
 */
export function isInTransactionHere(dataSource: DataSource): boolean {
  const transaction = here.getStore()?.transaction;
  if (!transaction || transaction.isOver) return false;
  const { runner } = transaction;
  return dataSourceOf(runner) === dataSource && runner.isTransactionActive && !runner.isReleased;
}

/**
 * Ends the scope of a transaction from `manager.transaction()` at the end of that call. The caller may run other code beside the
 * transaction without awaiting the transaction. Such code is not inside the transaction.
 *
 * @returns a function that restores the manager
 */
export function scopeTransactions(manager: DataSource['manager']): () => void {
  // Node.js tracks call chains from the first use of this storage. If `enterTransaction()` were the first use, its scope would belong to
  // the code that the event loop is running at that moment, and other call chains would seem to be inside the transaction.
  here.run({ transaction: undefined }, () => undefined);
  const methods = manager as unknown as { transaction?: (...args: unknown[]) => Promise<unknown> };
  const begin = manager.transaction.bind(manager) as (...args: unknown[]) => Promise<unknown>;
  const scoped = (...args: unknown[]) =>
    // Create a new object each time: Node.js opens no scope if the store is the same object.
    here.run({ transaction: here.getStore()?.transaction }, () => begin(...args));
  methods.transaction = scoped;
  return () => {
    // Other code may have replaced the method in the meantime. Then that code calls this replacement.
    if (methods.transaction === scoped) delete methods.transaction;
  };
}
