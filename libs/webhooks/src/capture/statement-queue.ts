import { AsyncLocalStorage } from 'node:async_hooks';
import type { EntitySubscriberInterface, QueryRunner } from 'typeorm';

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

interface Statements {
  /** How many are under way or wait. */
  length: number;
  last: Promise<unknown>;
  /** How many have begun, and writes that are not captured. */
  count: number;
}

/**
 * Lets the captured statements of one query runner come one after the other: each with the read of the rows before it, as a statement
 * of another `save()` in the same transaction could come between. Hooks of writes are no part of it, so that they may write. A hook of the
 * statement itself (`beforeQuery`, `afterQuery`, `afterLoad`) may write, too: it is told by its chain of calls, only where there is such a hook.
 */
export class StatementQueue {
  private readonly statements = new WeakMap<QueryRunner, Statements>();

  /** @param own the subscriber of this library */
  constructor(private readonly own: object) {}

  run<T>(runner: QueryRunner, statement: () => Promise<T>): Promise<T> {
    if (!this.hasHooks(runner)) return this.inTurn(runner, statement);
    if (isSentInside(runner)) {
      this.stateOf(runner).count++;
      return statement();
    }
    return this.inTurn(runner, async () => {
      const sending: Sending = { runner, outer: sendings.getStore(), isOver: false };
      try {
        return await sendings.run(sending, statement);
      } finally {
        sending.isOver = true;
      }
    });
  }

  /** Whether hooks of the application run while a statement is sent, or while TypeORM reads again what it has written. */
  private hasHooks({ dataSource }: QueryRunner): boolean {
    const subscribers: readonly EntitySubscriberInterface[] = dataSource.subscribers;
    return subscribers.some((one) => one !== this.own && HOOKS.some((hook) => hook in one));
  }

  private inTurn<T>(runner: QueryRunner, statement: () => Promise<T>): Promise<T> {
    const state = this.stateOf(runner);
    const begin = () => {
      state.count++;
      return statement();
    };
    const result = state.length ? state.last.then(begin, begin) : begin();
    const leave = () => {
      state.length--;
    };
    state.length++;
    state.last = result;
    result.then(leave, leave);
    return result;
  }

  /** How many writes have begun. */
  countOn(runner: QueryRunner): number {
    return this.stateOf(runner).count;
  }

  /** A write has begun that is not captured. */
  noteUncaptured(runner: QueryRunner): void {
    this.stateOf(runner).count++;
  }

  private stateOf(runner: QueryRunner): Statements {
    let state = this.statements.get(runner);
    if (!state) this.statements.set(runner, (state = { length: 0, last: Promise.resolve(), count: 0 }));
    return state;
  }
}

function isSentInside(runner: QueryRunner): boolean {
  for (let sending = sendings.getStore(); sending; sending = sending.outer) {
    if (sending.runner === runner && !sending.isOver) return true;
  }
  return false;
}
