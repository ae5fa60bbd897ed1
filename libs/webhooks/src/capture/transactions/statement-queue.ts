import { AsyncLocalStorage } from 'node:async_hooks';
import type { EntitySubscriberInterface, QueryRunner } from 'typeorm';
import { dataSourceOf } from '../../typeorm-compat.js';

/** A statement that is being sent, with what hooks of the application do meanwhile. */
interface Sending {
  readonly runner: QueryRunner;
  /** The statement whose hook sends this one. */
  readonly outer: Sending | undefined;
  isOver: boolean;
}

// It holds nothing by itself: what stands in it belongs to one chain of calls.
const sendings = new AsyncLocalStorage<Sending>();

/** Hooks that run inside of a captured statement. */
const HOOKS = ['beforeQuery', 'afterQuery', 'afterLoad'] as const;

/**
 * Lets the captured statements of one query runner come one after the other: each with the read of the rows before it, as a statement
 * of another `save()` in the same transaction could come between. Hooks of writes are no part of it, so that they may write. A hook of the
 * statement itself (`beforeQuery`, `afterQuery`, `afterLoad`) may write, too: it is told by its chain of calls, only where there is such a hook.
 */
export class StatementQueue {
  /** How many writes have begun, those that are not captured among them. */
  count = 0;
  /** How many captured statements are under way or wait. */
  private length = 0;
  private last: Promise<unknown> = Promise.resolve();

  /** @param own the subscriber of this library */
  constructor(
    private readonly runner: QueryRunner,
    private readonly own: object,
  ) {}

  run<T>(statement: () => Promise<T>): Promise<T> {
    const { runner } = this;
    if (!this.hasHooks()) return this.inTurn(statement);
    if (isSentInside(runner)) {
      this.count++;
      return statement();
    }
    return this.inTurn(async () => {
      const sending: Sending = { runner, outer: sendings.getStore(), isOver: false };
      try {
        return await sendings.run(sending, statement);
      } finally {
        sending.isOver = true;
      }
    });
  }

  /** Whether hooks of the application run while a statement is sent, or while TypeORM reads again what it has written. */
  private hasHooks(): boolean {
    const subscribers: readonly EntitySubscriberInterface[] = dataSourceOf(this.runner).subscribers;
    return subscribers.some((one) => one !== this.own && HOOKS.some((hook) => hook in one));
  }

  private inTurn<T>(statement: () => Promise<T>): Promise<T> {
    const begin = () => {
      this.count++;
      return statement();
    };
    const result = this.length ? this.last.then(begin, begin) : begin();
    const leave = () => {
      this.length--;
    };
    this.length++;
    this.last = result;
    result.then(leave, leave);
    return result;
  }
}

function isSentInside(runner: QueryRunner): boolean {
  for (let sending = sendings.getStore(); sending; sending = sending.outer) {
    if (sending.runner === runner && !sending.isOver) return true;
  }
  return false;
}
