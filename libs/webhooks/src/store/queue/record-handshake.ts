import type { Database } from '../database/database.js';
import type { ClaimedHandshake } from './claimed-delivery.js';
import { disableListener, lockListener, resumeListener, updateListener } from '../listeners/listener-rows.js';
import { lockListenerStates, writeListenerStates } from '../listeners/listener-state.js';
import type { Script } from '../database/script.js';

/** The result of one handshake attempt. */
export type HandshakeResult =
  /** `allowedRate` is the number of requests per minute that the receiver allows. `null`: no limit. */
  | { readonly state: 'passed'; readonly allowedRate: number | null; readonly at: number }
  | { readonly state: 'retry'; readonly error: string; readonly at: number; readonly next: number }
  | { readonly state: 'failed'; readonly error: string; readonly at: number; readonly reason: string }
  /** No request was sent, so the handshake does not count as an attempt. */
  | { readonly state: 'postponed'; readonly next: number };

/**
 * Records a handshake attempt: the listener becomes active, the handshake is retried later, or the listener is disabled.
 *
 * The call has an effect only while the attempt's lease is valid and the listener is unchanged. The call has no effect if the listener was
 * disabled, if the listener got another URL or handshake, or if another process has taken over the lease.
 *
 * @returns whether the call had an effect
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
    // No request was sent, so the backoff does not grow.
    const handshakeTries = Math.max(0, state.handshakeTries - 1);
    yield* writeListenerStates(database, [{ ...state, handshakeTries, handshakeAt: result.next }]);
    return true;
  }
  // The stored time is the start of the attempt. The end of the attempt could reveal details of the internal network.
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
