import { AsyncLocalStorage } from 'node:async_hooks';
import type { DataSource, QueryRunner } from 'typeorm';
import { dataSourceOf } from '../typeorm-compat.js';

/** A transaction, as the chain of calls knows it that began it. */
interface BegunTransaction {
  readonly runner: QueryRunner;
  isOver: boolean;
}

interface Scope {
  readonly transaction: BegunTransaction | undefined;
}

// It holds nothing by itself: each scope belongs to one chain of calls.
const here = new AsyncLocalStorage<Scope>();
const begun = new WeakMap<QueryRunner, BegunTransaction>();

/**
 * Takes note that this chain of calls begins a transaction. Called in `startTransaction()`, before it waits for anything: who awaits that
 * goes on inside.
 */
export function enterTransaction(runner: QueryRunner): void {
  leaveTransaction(runner);
  const transaction = { runner, isOver: false };
  begun.set(runner, transaction);
  here.enterWith({ transaction });
}

/** The transaction of a query runner has ended. */
export function leaveTransaction(runner: QueryRunner): void {
  const transaction = begun.get(runner);
  if (transaction) transaction.isOver = true;
}

/** Whether this chain of calls is inside a transaction of a data source that it began: a second writer here would wait for itself. */
export function isInTransactionHere(dataSource: DataSource): boolean {
  const transaction = here.getStore()?.transaction;
  if (!transaction || transaction.isOver) return false;
  const { runner } = transaction;
  return dataSourceOf(runner) === dataSource && runner.isTransactionActive && !runner.isReleased;
}

/**
 * Makes transactions that `manager.transaction()` begins end with its call: what the caller does beside it, without waiting for it, is not
 * inside.
 *
 * @returns what restores the manager
 */
export function scopeTransactions(manager: DataSource['manager']): () => void {
  // Node.js follows chains of calls from the first use on. If `enterTransaction()` were that, its scope would belong to whatever the event
  // loop is just running, and other chains of calls would be inside, too.
  here.run({ transaction: undefined }, () => undefined);
  const methods = manager as unknown as { transaction?: (...args: unknown[]) => Promise<unknown> };
  const begin = manager.transaction.bind(manager) as (...args: unknown[]) => Promise<unknown>;
  const scoped = (...args: unknown[]) =>
    // A new object each time: Node.js opens no scope for the store that is there already.
    here.run({ transaction: here.getStore()?.transaction }, () => begin(...args));
  methods.transaction = scoped;
  return () => {
    // Whoever replaced it since calls ours.
    if (methods.transaction === scoped) delete methods.transaction;
  };
}
