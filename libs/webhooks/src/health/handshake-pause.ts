import { SECOND, MINUTE } from '../time.js';

const FIRST_PAUSE_MS = 5 * SECOND;
/** A longer pause would delay the handshake of a receiver that was just repaired. */
const LONGEST_PAUSE_MS = 5 * MINUTE;
/** After this time without a handshake, the pause starts again from its first length. */
const FORGOTTEN_AFTER_MS = 60 * MINUTE;

/** The part of a listener that decides when its next handshake may begin. */
export interface HandshakePause {
  readonly handshakeFrom: number | null;
  readonly handshakeTries: number;
}

/**
 * Returns the listener when a handshake begins: the next handshake must wait, twice as long as the previous one. The
 * pause does not end when the owner calls `enable()` or changes the URL, nor when a handshake succeeds. Otherwise the
 * owner could make this application send endless requests to a third party.
 */
export function afterHandshake<T extends HandshakePause>(before: T, now: number): T {
  const isForgotten = before.handshakeFrom === null || now - before.handshakeFrom > FORGOTTEN_AFTER_MS;
  const handshakeTries = isForgotten ? 1 : before.handshakeTries + 1;
  const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(handshakeTries - 1, 20));
  return { ...before, handshakeTries, handshakeFrom: now + pauseMs };
}
