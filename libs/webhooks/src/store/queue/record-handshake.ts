import type { Database } from '../database/database.js';
import type { ClaimedHandshake } from './claim-deliveries.js';
import { disableListener, lockListener, resumeListener, updateListener } from '../listeners/listener-rows.js';
import { lockListenerStates, writeListenerStates } from '../listeners/listener-state.js';
import type { Script } from '../database/script.js';

/** What one try of a handshake makes of its listener. */
export type HandshakeResult =
  /** `allowedRate`: requests a minute that the receiver granted; `null`: it set no limit. */
  | { readonly state: 'passed'; readonly allowedRate: number | null; readonly at: number }
  | { readonly state: 'retry'; readonly error: string; readonly at: number; readonly next: number }
  | { readonly state: 'failed'; readonly error: string; readonly at: number; readonly reason: string }
  /** Nobody was asked, and it counts as no try. */
  | { readonly state: 'postponed'; readonly next: number };

/**
 * Records a try of a handshake: what was held for its listener may go, it is tried again later, or the listener is disabled.
 *
 * Only while the try's lease stands and the listener is as it was: one that was disabled, sent elsewhere or asked anew meanwhile, or whose
 * lease another process has taken over, is left alone.
 *
 * @returns whether it counted
 */
export function* recordHandshake(
  database: Database,
  { listener: { id, url, handshake }, leaseUntil }: ClaimedHandshake,
  result: HandshakeResult,
): Script<boolean> {
  const row = yield* lockListener(database, id, undefined);
  if (row?.state !== 'pending' || row.url !== url || row.handshake !== handshake) return false;
  const [state] = yield* lockListenerStates(database, [id]);
  if (state?.handshakeAt !== leaseUntil) return false;
  if (result.state === 'passed') {
    const { allowedRate, at } = result;
    yield* updateListener(database, id, { state: 'active', handshakeError: null, allowedRate }, null, at);
    yield* resumeListener(database, id);
    return true;
  }
  if (result.state === 'postponed') {
    // Nobody was asked, so the pause does not grow by it.
    const handshakeTries = Math.max(0, state.handshakeTries - 1);
    yield* writeListenerStates(database, [{ ...state, handshakeTries, handshakeAt: result.next }]);
    return true;
  }
  // The time at which the try began, as its end may tell of the inner network.
  yield* updateListener(database, id, { handshakeError: result.error }, null, result.at);
  const failed = { ...state, failuresInARow: state.failuresInARow + 1, failingSince: state.failingSince ?? result.at };
  if (result.state === 'retry') {
    const handshakeAt = Math.max(result.next, state.handshakeFrom ?? 0);
    yield* writeListenerStates(database, [{ ...failed, handshakeAt }]);
    return true;
  }
  yield* disableListener(database, id, result.reason, result.at);
  yield* writeListenerStates(database, [{ ...failed, handshakeAt: null, readyAt: null }]);
  return true;
}
