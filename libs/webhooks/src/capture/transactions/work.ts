import { AsyncLocalStorage } from 'node:async_hooks';
import type { QueryRunner } from 'typeorm';
import type { CaptureError } from '../../entities/errors.js';
import type { Transaction } from './transaction-log.js';

/** A queue of calls that run one after another. */
export class Queue {
  /** How many calls wait or have their turn. */
  length = 0;
  private last: Promise<void> = Promise.resolve();

  /** Waits for all earlier calls. Returns a function that ends the turn. */
  async enter(): Promise<() => void> {
    this.length++;
    const before = this.last;
    let leave = () => {};
    this.last = new Promise((resolve) => {
      leave = () => {
        this.length--;
        resolve();
      };
    });
    await before;
    return leave;
  }
}

/**
 * - `write`: a write of the application.
 * - `transaction`: a call of `manager.transaction()`.
 * - `end`: a statement that ends or divides a transaction.
 * - `other`: a read, or another statement that waited for its turn.
 */
export type WorkKind = 'write' | 'transaction' | 'end' | 'other';

// All instances share this AsyncLocalStorage. Its values belong to one chain of calls, so instances do not affect each other.
const chains = new AsyncLocalStorage<Work | undefined>();

/**
 * A call on one query runner, until the call is done. The calls of its hooks belong to the work: `isInside()` finds these calls by an
 * AsyncLocalStorage.
 */
export class Work {
  readonly outer = chains.getStore();
  /** The queue for writes inside this work. Such writes never wait for works outside, because the works outside may wait for this work. */
  readonly queue = new Queue();
  /** Whether the work is done. Later calls in the same chain of calls do not belong to the work. */
  isOver = false;
  /** Set if the transaction of the work has ended before the work was done. The work then sends no more statements. */
  ended: CaptureError | undefined;
  /** How many statements of the work's chain of calls are running. */
  statements = 0;
  lastStatementAt = performance.now();
  /** The transaction in which the work was called. */
  transaction: Transaction | null = null;
  /** The transaction that the work has begun. */
  begun: Transaction | null = null;
  /**
   * The transaction at the answer to a write statement whose hooks are still running. `undefined` if the log does not know the transaction.
   */
  answeredIn: Transaction | null | undefined;
  /**
   * The transaction in which the last write statement was sent. `undefined` before the first write statement; `null` if no transaction was
   * open.
   */
  wroteIn: Transaction | null | undefined;

  /**
   * @param label names the work in an error; called only for an error
   * @param data the `data` of `save(x, { data })`
   */
  constructor(
    readonly kind: WorkKind,
    readonly runner: QueryRunner,
    readonly label: () => string,
    readonly data?: unknown,
  ) {}

  /** Whether this work was called inside `other`, at any depth. */
  isInside(other: Work): boolean {
    for (let work = this.outer; work; work = work.outer) if (work === other) return true;
    return false;
  }

  run<T>(part: () => T): T {
    return chains.run(this, part);
  }
}

/** The works of a query runner in this chain of calls, the innermost first. */
export function* worksOn(runner: QueryRunner, from: Work | undefined = chains.getStore()): Generator<Work> {
  for (let work = from; work; work = work.outer) if (work.runner === runner && !work.isOver) yield work;
}

/** The innermost write or statement around this call. A `transaction()` or a COMMIT does not count. */
export function writeOn(runner: QueryRunner): Work | undefined {
  for (const work of worksOn(runner)) if (work.kind === 'write' || work.kind === 'other') return work;
  return undefined;
}

/**
 * Refuses a statement of a write whose transaction is over.
 *
 * @param isRollback whether the statement is a ROLLBACK. The work that began a transaction may roll it back, even if the server has already
 * done so
 * @throws CaptureError `TRANSACTION_ENDED`: this chain of calls belongs to a write whose transaction is over
 */
export function refuseEnded(runner: QueryRunner, isRollback: boolean): void {
  for (const work of worksOn(runner)) if (work.ended && !(isRollback && work.begun)) throw work.ended;
}

/** Runs `part` outside every chain of calls. */
export function outsideChains<T>(part: () => T): T {
  return chains.run(undefined, part);
}
