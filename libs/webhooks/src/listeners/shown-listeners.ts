import type { RateLimit } from '../health/rate-limit.js';
import type { JsonObject } from '../json.js';
import type { Handshake } from '../options/handshake-methods.js';
import type { ListenerRow, OwnerScope } from '../store/listeners/listener-rows.js';
import { shownAuth } from './credentials/listener-auth.js';
import { shownTls } from './credentials/listener-tls.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { Listener, Where } from './listener.js';
import type { SigningKeys } from './signing-keys.js';

const SHOWN_TIME_MS = 10_000;

/** Turns rows into listeners in the form that a service returns. */
export class ShownListeners {
  constructor(
    private readonly parts: Pick<ListenerServiceParts, 'clock' | 'versions'>,
    private readonly boundTo: OwnerScope,
    private readonly keys: SigningKeys,
  ) {}

  toListener(row: ListenerRow): Listener {
    const listener = toListener(row);
    const subscribed = { patterns: listener.events, isOwned: row.owner !== null };
    return {
      ...listener,
      pausedUntil: Number(listener.pausedUntil) > this.parts.clock.now() ? this.shownTime(listener.pausedUntil) : null,
      nextAttemptAt: this.shownTime(listener.nextAttemptAt),
      publicKeys: this.keys.publicKeysOf(row, listener.schemes),
      oldSecretUntil: dateOrNull(this.keys.oldKeyUntil(row, 'secret')),
      oldSigningKeyUntil: dateOrNull(this.keys.oldKeyUntil(row, 'ed25519')),
      versions: this.parts.versions.shown(row.versions, subscribed),
      missingVersions: this.parts.versions.missing(row.versions, subscribed),
    };
  }

  /**
   * Rounds times for customers. With exact times, the duration of a blocked attempt would reveal which hosts the internal network
   * has.
   */
  private shownTime(at: Date | null): Date | null {
    if (at === null || this.boundTo === undefined) return at;
    return new Date(Math.ceil(Number(at) / SHOWN_TIME_MS) * SHOWN_TIME_MS);
  }
}

function toListener(row: ListenerRow): Listener {
  return {
    id: row.id,
    owner: row.owner,
    url: row.url,
    events: JSON.parse(row.patterns) as string[],
    where: JSON.parse(row.definition) as Where,
    name: row.name,
    externalId: row.externalId,
    metadata: row.metadata === null ? null : (JSON.parse(row.metadata) as JsonObject),
    description: row.description,
    headers: JSON.parse(row.headers) as Record<string, string>,
    schemes: JSON.parse(row.schemes) as string[],
    publicKeys: [],
    oldSecretUntil: null,
    oldSigningKeyUntil: null,
    auth: shownAuth(row.auth),
    tls: shownTls(row.tls),
    format: row.format,
    versions: {},
    missingVersions: [],
    ordering: row.ordering as Listener['ordering'],
    sequence: Number(row.sequence) === 1,
    rateLimit: row.rateLimit === null ? null : (JSON.parse(row.rateLimit) as RateLimit),
    handshake: row.handshake as Handshake,
    handshakeError: row.handshakeError,
    allowedRate: row.allowedRate === null ? null : Number(row.allowedRate),
    state: row.state as Listener['state'],
    disabledReason: row.disabledReason,
    revision: Number(row.revision),
    failuresInARow: Number(row.failuresInARow ?? 0),
    failingSince: dateOrNull(row.failingSince),
    pausedUntil: dateOrNull(row.pausedUntil),
    nextAttemptAt: row.state === 'disabled' ? null : dateOrNull(row.readyAt),
    createdAt: new Date(Number(row.createdAt)),
    updatedAt: new Date(Number(row.updatedAt)),
  };
}

function dateOrNull(milliseconds: unknown): Date | null {
  return milliseconds === null || milliseconds === undefined ? null : new Date(Number(milliseconds));
}
