import { PerMinute } from '../per-minute.js';

/** A refused handshake is tried again within this time after the next minute has begun, at a random moment. */
const SPREAD_MS = 5_000;

/**
 * Maximum number of handshake requests a minute from one process: to one host, to one host by one owner, and by one
 * owner.
 */
const HANDSHAKES_PER_MINUTE = { host: 60, ownersHost: 10, owner: 30 } as const;

/**
 * Limits how often handshakes are sent. The pause between two handshakes of one listener does not protect a host that
 * many listeners name. The limits for one owner keep room for other owners at a shared host.
 */
export class HandshakeLimits {
  private readonly counts = new PerMinute();

  /**
   * @param hosts hosts that the handshake would send requests to; a host may occur twice
   * @returns when to try again; `null` when the handshake may be sent now, and is counted
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
