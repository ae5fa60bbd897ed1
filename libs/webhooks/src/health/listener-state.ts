/**
 * A listener in the queue of listeners: the row that says when it is next worth looking at.
 *
 * `readyAt` is never later than the time at which one of its due deliveries may be sent. Whoever makes a delivery due, or
 * changes when one may be sent, holds the row's lock until the commit; a claim skips rows that are locked. So neither can
 * miss what the other does. It may be too early, as it is for a disabled listener: then a claim looks, and corrects it.
 */
export interface ListenerState {
  readonly seq: string;
  readonly listenerId: string;
  readonly readyAt: number | null;
  /** Attempts that failed since the last one that succeeded. */
  readonly failuresInARow: number;
  /** When the first of these was made. */
  readonly failingSince: number | null;
  /** Attempts that began before it say nothing new by failing: the end of the last pause since a success. */
  readonly failuresCountFrom: number | null;
  /** Nothing is sent before this time: an open circuit, or a receiver that asked to wait, or its probe is under way. */
  readonly pausedUntil: number | null;
  /** How many requests were taken lately, of a listener with a rate limit; see `rate-limit.ts`. */
  readonly rateTaken: string | null;
  /** When its handshake is tried next, or given up by who is at it; `null`: it has none to pass. Nothing else may go meanwhile. */
  readonly handshakeAt: number | null;
  /** No handshake begins before this time, whatever its owner does meanwhile; `null`: none has begun. */
  readonly handshakeFrom: number | null;
  /** Handshakes that began, each soon after the one before: the pause grows with them. */
  readonly handshakeTries: number;
}
