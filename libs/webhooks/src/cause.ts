import { AsyncLocalStorage } from 'node:async_hooks';
import type { JsonObject } from './json.js';

/** What a piece of work was caused by: an event that is being handled, or a request that told who it is. */
export interface Cause {
  /** Goes with every event that the work makes. */
  readonly context: JsonObject | null;
  /**
   * How many events in a row led here: 0 for a request, 1 for what is done while an event of that is handled, and so on. A
   * number that only grows is how a loop is told from work that takes long.
   */
  readonly depth: number;
}

/** What surrounds a write: everything that is said of it elsewhere than in its own call. */
interface WriteScope extends Cause {
  /** Data sources whose writes make no event. */
  readonly uncaptured: ReadonlySet<object>;
}

const OUTSIDE: WriteScope = { context: null, depth: 0, uncaptured: new Set() };

// It holds nothing by itself: what stands in it belongs to one chain of calls. It is one for all instances, so that a loop that
// goes through two data sources is still one.
const scopes = new AsyncLocalStorage<WriteScope>();

const current = () => scopes.getStore() ?? OUTSIDE;

/** What the work that is under way was caused by. */
export function currentCause(): Cause {
  return current();
}

/** Whether writes to a data source make events here. */
export function isCapturedHere(dataSource: object): boolean {
  return !current().uncaptured.has(dataSource);
}

/** Runs work whose writes to a data source make no event. */
export function runUncaptured<T>(dataSource: object, work: () => T): T {
  const scope = current();
  return scopes.run({ ...scope, uncaptured: new Set([...scope.uncaptured, dataSource]) }, work);
}

/** Runs work under another context. */
export function runWithContext<T>(context: JsonObject, work: () => T): T {
  return scopes.run({ ...current(), context }, work);
}

/** Runs work that handles an event, apart from whatever surrounds this call: the handler is nobody's seed or migration. */
export function runCausedBy<T>({ context, depth }: Cause, work: () => T): T {
  return scopes.run({ context, depth: depth + 1, uncaptured: OUTSIDE.uncaptured }, work);
}

/** Runs work that nothing led to. */
export function runOutside<T>(work: () => T): T {
  return scopes.run(OUTSIDE, work);
}

/** Runs work that an event of this depth led to, under the context that is there already. */
export function runDeeper<T>(depth: number, work: () => T): T {
  const scope = current();
  return scopes.run({ ...scope, depth: Math.max(scope.depth, depth + 1) }, work);
}
