import { AsyncLocalStorage } from 'node:async_hooks';
import type { JsonObject } from './json.js';

/** The cause of a write: an event that is being handled, or a request whose context was set by `withContext()`. */
export interface Cause {
  /** The context of every event that the work makes. */
  readonly context: JsonObject | null;
  /**
   * The number of events in the chain of causes: 0 for a request, 1 while an event of that request is handled, and so on. In a loop the
   * number grows without end. In long work without a loop the number stays small.
   */
  readonly depth: number;
}

/** The settings that a write gets from its surrounding calls, not from its own arguments. */
interface WriteScope extends Cause {
  /** Data sources whose writes make no events. */
  readonly uncaptured: ReadonlySet<object>;
}

const OUTSIDE: WriteScope = { context: null, depth: 0, uncaptured: new Set() };

// All instances share this AsyncLocalStorage, so a loop through two data sources is detected, too. Its values belong to one chain of calls,
// so instances do not affect each other.
const scopes = new AsyncLocalStorage<WriteScope>();

const current = () => scopes.getStore() ?? OUTSIDE;

/** The cause of the work in this chain of calls. */
export function currentCause(): Cause {
  return current();
}

/** Whether writes to a data source make events in this chain of calls. */
export function isCapturedHere(dataSource: object): boolean {
  return !current().uncaptured.has(dataSource);
}

/** Runs work whose writes to a data source make no events. */
export function runUncaptured<T>(dataSource: object, work: () => T): T {
  const scope = current();
  return scopes.run({ ...scope, uncaptured: new Set([...scope.uncaptured, dataSource]) }, work);
}

/** Runs work with another context. */
export function runWithContext<T>(context: JsonObject, work: () => T): T {
  return scopes.run({ ...current(), context }, work);
}

/**
 * Runs work that handles an event. The settings of the surrounding calls do not apply: writes of the handler are captured, even inside
 * `withoutCapture()`.
 */
export function runCausedBy<T>({ context, depth }: Cause, work: () => T): T {
  return scopes.run({ context, depth: depth + 1, uncaptured: OUTSIDE.uncaptured }, work);
}

/** Runs work without a cause: the surrounding context and depth do not apply. */
export function runOutside<T>(work: () => T): T {
  return scopes.run(OUTSIDE, work);
}

/** Runs work that is caused by an event of this depth, and keeps the surrounding context. */
export function runDeeper<T>(depth: number, work: () => T): T {
  const scope = current();
  return scopes.run({ ...scope, depth: Math.max(scope.depth, depth + 1) }, work);
}
