import { PerMinute } from '../per-minute.js';

/**
 * A refused handshake is tried again at a random moment of the next minute. The moment is within this time after the
 * minute has begun.
 */
const SPREAD_MS = 5_000;

/**
 * Maximum numbers of handshake requests per minute of one process. There are three limits: for one host, for one owner at one host, and
 * for one owner.
 */
const HANDSHAKES_PER_MINUTE = { host: 60, ownersHost: 10, owner: 30 } as const;

/**
 * Limits how often handshakes are sent. The pause between two handshakes of one listener does not protect a host that
 * many listeners name. With the limits for one owner, other owners of a shared host can still send handshakes.
 */
export class HandshakeLimits {
  private readonly counts = new PerMinute();

  /**
   * @param hosts hosts to which the handshake would send requests; a host may occur twice
   * @returns when to try again. `null` if the handshake may be sent now; then the handshake is counted
   */
  take(owner: string | null, hosts: readonly string[], now: number): number | null {
    const limits = new Map<string, number>();
    for (const host of hosts) {
      limits.set(JSON.stringify([host]), HANDSHAKES_PER_MINUTE.host);
      if (owner !== null) limits.set(JSON.stringify([host, owner]), HANDSHAKES_PER_MINUTE.ownersHost);
    }
    if (owner !== null) limits.set(JSON.stringify([null, owner]), HANDSHAKES_PER_MINUTE.owner);
    const next = this.counts.take(limits, now);
    return next === null ? null : Math.ceil(next + Math.random() * SPREAD_MS);
  }
}
