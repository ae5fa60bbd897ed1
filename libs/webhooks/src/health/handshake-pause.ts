import { SECOND, MINUTE } from '../time.js';

const FIRST_PAUSE_MS = 5 * SECOND;
/** The longest pause between two handshakes. A longer pause would delay the handshake of a receiver that was just repaired. */
const LONGEST_PAUSE_MS = 5 * MINUTE;
/** After this time without a handshake, the pause starts again from its first length. */
const FORGOTTEN_AFTER_MS = 60 * MINUTE;

/** The properties of a listener that decide when its next handshake may begin. */
export interface HandshakePause {
  readonly handshakeFrom: number | null;
  readonly handshakeTries: number;
}

/**
 * Returns the listener after a handshake has begun. The next handshake must wait twice as long as the previous
 * handshake. A call of `enable()`, a change of the URL or a successful handshake does not end the pause. Otherwise
 * the owner could make this application send endless requests to a third party.
 */
export function afterHandshake<T extends HandshakePause>(before: T, now: number): T {
  const isForgotten = before.handshakeFrom === null || now - before.handshakeFrom > FORGOTTEN_AFTER_MS;
  const handshakeTries = isForgotten ? 1 : before.handshakeTries + 1;
  const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(handshakeTries - 1, 20));
  return { ...before, handshakeTries, handshakeFrom: now + pauseMs };
}
