import { SECOND, MINUTE } from '../time.js';

const FIRST_PAUSE_MS = 5 * SECOND;
/** Longer, and somebody who has mended a receiver would wait for it. */
const LONGEST_PAUSE_MS = 5 * MINUTE;
/** After so long without a handshake a listener begins anew. */
const FORGOTTEN_AFTER_MS = 60 * MINUTE;

/** What of a listener says when it may be asked again. */
export interface HandshakePause {
  readonly handshakeFrom: number | null;
  readonly handshakeTries: number;
}

/**
 * A listener whose handshake begins now: the next one has to wait, twice as long as the one before. Neither `enable()` nor a new URL
 * ends the pause, nor does a handshake that passes: whoever owns the listener could otherwise have a stranger asked without end.
 */
export function afterHandshake<T extends HandshakePause>(before: T, now: number): T {
  const isForgotten = before.handshakeFrom === null || now - before.handshakeFrom > FORGOTTEN_AFTER_MS;
  const handshakeTries = isForgotten ? 1 : before.handshakeTries + 1;
  const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(handshakeTries - 1, 20));
  return { ...before, handshakeTries, handshakeFrom: now + pauseMs };
}
