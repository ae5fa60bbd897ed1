import { AsyncLocalStorage } from 'node:async_hooks';
import type { EntitySubscriberInterface, QueryRunner } from 'typeorm';
import { dataSourceOf } from '../../typeorm-compat.js';

/** A statement that is being sent. Hooks of the application may run meanwhile. */
interface Sending {
  readonly runner: QueryRunner;
  /** The statement whose hook sends this statement. */
  readonly outer: Sending | undefined;
  isOver: boolean;
}

// The store belongs to one chain of calls, so that no state is shared between instances.
const sendings = new AsyncLocalStorage<Sending>();

/** Hooks that run inside a captured statement. */
const HOOKS = ['beforeQuery', 'afterQuery', 'afterLoad'] as const;

/**
 * Runs the captured statements of one query runner one after the other, each together with the read of its rows. Otherwise a statement of
 * another `save()` in the same transaction could come between. Hooks of writes (`afterInsert` and the like) run outside the queue, so they
 * may write. Hooks of the statement itself (`beforeQuery`, `afterQuery`, `afterLoad`) may write, too: an AsyncLocalStorage identifies their
 * writes. It is used only if the application has such a hook.
 */
export class StatementQueue {
  /** How many writes have begun, including writes that are not captured. */
  count = 0;
  /** How many captured statements are running or queued. */
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

  /** Whether hooks of the application run while a statement is sent, or while TypeORM reads the written rows. */
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
