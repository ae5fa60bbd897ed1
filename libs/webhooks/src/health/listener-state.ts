/**
 * A listener in the queue of listeners: the row that says when the listener may next have work.
 *
 * `readyAt` is never later than the time at which a due delivery of the listener may be sent. A transaction may make a delivery due, or
 * change when a delivery may be sent. Such a transaction holds the lock of this row until its commit. A claim skips locked rows. So
 * neither the transaction nor the claim misses a change of the other. `readyAt` may be too early, for example for a disabled listener:
 * then a claim reads the listener and corrects it.
 */
export interface ListenerState {
  readonly seq: string;
  readonly listenerId: string;
  readonly readyAt: number | null;
  /** Number of failed attempts since the last success. */
  readonly failuresInARow: number;
  /** When the first of these failed attempts began. */
  readonly failingSince: number | null;
  /** The end of the last pause since a success. A failed attempt that began before this time does not count. */
  readonly failuresCountFrom: number | null;
  /** Nothing is sent before this time: the circuit is open, the receiver asked to wait, or a probe is in flight. */
  readonly pausedUntil: number | null;
  /** Recent requests of a listener with a rate limit; see `rate-limit.ts`. */
  readonly rateTaken: string | null;
  /**
   * When the next handshake begins, or when the handshake in flight times out. `null` if no handshake is pending. While
   * a handshake is pending, nothing else is sent.
   */
  readonly handshakeAt: number | null;
  /** No handshake begins before this time. The owner cannot change this time. `null` if no handshake has begun yet. */
  readonly handshakeFrom: number | null;
  /** Number of consecutive handshakes with only a short time between them. The pause grows with this number. */
  readonly handshakeTries: number;
}
