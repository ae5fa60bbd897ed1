import type { QueryRunner } from 'typeorm';

interface Statements {
  /** How many are under way or wait. */
  length: number;
  last: Promise<unknown>;
  /** How many have begun, and writes that are not captured. */
  count: number;
}

/**
 * Lets the captured statements of one query runner come one after the other: each with the read of the rows before it, as a statement
 * of another `save()` in the same transaction could come between. Hooks of the application are no part of it, so that they may write.
 */
export class StatementQueue {
  private readonly statements = new WeakMap<QueryRunner, Statements>();

  run<T>(runner: QueryRunner, statement: () => Promise<T>): Promise<T> {
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
