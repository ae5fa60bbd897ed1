import { DAY } from '../time.js';
import { disablesAt, isOpen, type JudgingPolicy } from './circuit.js';
import type { ListenerState } from './listener-state.js';

/** A change of a listener's health that is reported to people. */
export interface Outage {
  readonly listenerId: string;
  /**
   * - `failing`: the circuit of the listener opened.
   * - `disabling_soon`: the listener will be disabled within a day, unless an attempt succeeds.
   * - `recovered`: an attempt succeeded after the circuit was open.
   */
  readonly change: 'failing' | 'disabling_soon' | 'recovered';
  /** When the first of the failed attempts began, in ms since 1970. */
  readonly failingSince: number;
  readonly failuresInARow: number;
  /** When the listener will be disabled, in ms since 1970. */
  readonly disablesAt: number;
}

/** The owner is warned this long before the listener is disabled. */
const WARNED_BEFORE_MS = DAY;

/**
 * The changes that attempts caused and that people want to know. `disabling_soon` is repeated for each attempt of the last day. `failing` is
 * repeated each time that the circuit opens. Of each outage, the caller reports only the first change of each kind.
 */
export function outagesOf(
  before: ListenerState,
  after: Pick<ListenerState, 'failuresInARow' | 'failingSince'>,
  now: number,
  policy: JudgingPolicy,
): Outage[] {
  const { listenerId } = before;
  const wasOpen = isOpen(before.failuresInARow, policy);
  const { failuresInARow, failingSince } = after;
  const of = (change: Outage['change'], since: number): Outage => ({
    listenerId,
    change,
    failingSince: since,
    failuresInARow,
    disablesAt: disablesAt(since, policy),
  });
  if (failingSince === null) {
    return wasOpen && before.failingSince !== null ? [of('recovered', before.failingSince)] : [];
  }
  const outages = !wasOpen && isOpen(failuresInARow, policy) ? [of('failing', failingSince)] : [];
  const leftMs = disablesAt(failingSince, policy) - now;
  if (isOpen(failuresInARow, policy) && leftMs > 0 && leftMs <= WARNED_BEFORE_MS) {
    outages.push(of('disabling_soon', failingSince));
  }
  return outages;
}
