/**
 * A listener in the queue of listeners: the row that says when the listener may next have work.
 *
 * `readyAt` is never later than the time at which a due delivery of the listener may be sent. A transaction that makes
 * a delivery due, or changes when a delivery may be sent, holds the lock of this row until its commit. A claim skips
 * locked rows. So neither misses a change of the other. `readyAt` may be too early, for example for a disabled
 * listener: then a claim reads the listener and corrects it.
 */
export interface ListenerState {
  readonly seq: string;
  readonly listenerId: string;
  readonly readyAt: number | null;
  /** Number of failed attempts since the last success. */
  readonly failuresInARow: number;
  /** When the first of these failed attempts began. */
  readonly failingSince: number | null;
  /** A failed attempt that began before this time does not count. It is the end of the last pause since a success. */
  readonly failuresCountFrom: number | null;
  /** Nothing is sent before this time: the circuit is open, the receiver asked to wait, or a probe is in flight. */
  readonly pausedUntil: number | null;
  /** Requests of a listener with a rate limit that were taken lately; see `rate-limit.ts`. */
  readonly rateTaken: string | null;
  /**
   * When the next handshake begins, or when the handshake in flight times out; `null`: no handshake is pending. Nothing
   * else is sent in the meantime.
   */
  readonly handshakeAt: number | null;
  /** No handshake begins before this time, whatever the owner does; `null`: no handshake has begun yet. */
  readonly handshakeFrom: number | null;
  /** Number of handshakes that began shortly after each other. The pause grows with this number. */
  readonly handshakeTries: number;
}
