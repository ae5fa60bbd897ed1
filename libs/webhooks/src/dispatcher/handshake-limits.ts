import { PerMinute } from '../per-minute.js';

/** Whoever was refused comes back within this time after the next minute has begun, and not all at once. */
const SPREAD_MS = 5_000;

/** Requests of handshakes a minute, by one process: to one host, to one host by one owner, and by one owner. */
const HANDSHAKES_PER_MINUTE = { host: 60, ownersHost: 10, owner: 30 } as const;

/**
 * How often handshakes may ask. The pause between two handshakes of one listener does not help a stranger whom many listeners name, and
 * the limits of one owner keep room for the others at a host that many use.
 */
export class HandshakeLimits {
  private readonly counts = new PerMinute();

  /**
   * @param hosts that would be asked; the same one may stand twice
   * @returns when to come back; `null`: it may be asked now, and is counted
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
