import { AsyncLocalStorage } from 'node:async_hooks';
import type { QueryRunner } from 'typeorm';
import type { CaptureError } from '../../entities/errors.js';
import type { Transaction } from './transaction-log.js';

/** Who comes one after the other. */
export class Queue {
  /** Who waits, and who had their turn and has not left. */
  length = 0;
  private last: Promise<void> = Promise.resolve();

  /** Waits for all that came before. Returns what lets the next one in. */
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
 * - `other`: a read or another statement that has waited for its turn.
 */
export type WorkKind = 'write' | 'transaction' | 'end' | 'other';

// The store of one chain of calls, like the scopes of `cause.ts`: nothing is kept in it.
const chains = new AsyncLocalStorage<Work | undefined>();

/** Something under way on one query runner, together with all that its chain of calls does: hooks, and what these write. */
export class Work {
  readonly outer = chains.getStore();
  /** For what is written inside. It never waits for what is outside, which may wait for it. */
  readonly queue = new Queue();
  /** Whatever goes on in this chain of calls has nothing to do with it any more. */
  isOver = false;
  /** Set when its transaction has ended under it: it sends nothing more. */
  ended: CaptureError | undefined;
  /** Statements of its chain of calls that are under way. */
  statements = 0;
  lastStatementAt = performance.now();
  /** The transaction that it was called in. */
  transaction: Transaction | null = null;
  /** The transaction that it has begun itself. */
  begun: Transaction | null = null;
  /** The transaction that its last write was sent in; `undefined` before the first. */
  wroteIn: Transaction | null | undefined;

  /**
   * @param label names it in an error; called only for one
   * @param data what `save(x, { data })` was given
   */
  constructor(
    readonly kind: WorkKind,
    readonly runner: QueryRunner,
    readonly label: () => string,
    readonly data?: unknown,
  ) {}

  /** Whether it was called in another one, at whatever depth. */
  isInside(other: Work): boolean {
    for (let work = this.outer; work; work = work.outer) if (work === other) return true;
    return false;
  }

  run<T>(part: () => T): T {
    return chains.run(this, part);
  }
}

/** What is under way on a query runner in this chain of calls, from the inside out. */
export function* worksOn(runner: QueryRunner, from: Work | undefined = chains.getStore()): Generator<Work> {
  for (let work = from; work; work = work.outer) if (work.runner === runner && !work.isOver) yield work;
}

/** The write that this chain of calls is in. A `transaction()` or a COMMIT around it is none. */
export function writeOn(runner: QueryRunner): Work | undefined {
  for (const work of worksOn(runner)) if (work.kind === 'write' || work.kind === 'other') return work;
  return undefined;
}

/**
 * @param isRollback whoever has begun a transaction itself may roll it back, although the server has
 * @throws CaptureError `TRANSACTION_ENDED`: this chain of calls is of a write whose transaction is over
 */
export function refuseEnded(runner: QueryRunner, isRollback: boolean): void {
  for (const work of worksOn(runner)) if (work.ended && !(isRollback && work.begun)) throw work.ended;
}

/** Runs something outside every chain of calls. */
export function outsideChains<T>(part: () => T): T {
  return chains.run(undefined, part);
}
