import type { KeyType } from '../signing/signature-scheme.js';
import { InvalidListenerError } from '../listener-errors.js';
import type { Sealing } from './sealing.js';
import { DAY } from '../time.js';

/** A key of a listener as it is kept; times in ms. */
export interface StoredSecret {
  /** The secret or private key itself, or what {@link Sealing} made of it. */
  readonly value: string;
  readonly createdAt: number;
  /** When it stops signing; `null` while it is the present one. */
  readonly expiresAt: number | null;
  /** `whpk_…`, of an Ed25519 key; readable while the key itself is sealed. */
  readonly publicKey?: string;
}

interface SecretsDocument {
  v: 1;
  secrets: StoredSecret[];
}

/** How long a secret that no longer signs still answers the verify view. */
const VERIFIABLE_FOR_MS = 7 * DAY;

/** Keys of one type that sign at once: with more, the signatures of a listener would fill the headers that servers take. */
const MAX_SIGNING = 20;
/**
 * Keys of one type that a listener has at all, the newest: the verify view tries each of them, and a customer may rotate as often as they
 * like.
 */
const MAX_KEPT = MAX_SIGNING + 1;

export function writeSecrets(secrets: readonly StoredSecret[]): string {
  return JSON.stringify({ v: 1, secrets: [...secrets] } satisfies SecretsDocument);
}

export function readSecrets(text: string): StoredSecret[] {
  return (JSON.parse(text) as SecretsDocument).secrets;
}

export function keyTypeOf(secret: StoredSecret): KeyType {
  return secret.publicKey === undefined ? 'secret' : 'ed25519';
}

/** Those of a type that sign at this time, newest first. */
export function signingSecrets(
  secrets: readonly StoredSecret[],
  now: number,
  type: KeyType = 'secret',
): StoredSecret[] {
  return secrets.filter((secret) => keyTypeOf(secret) === type && (secret.expiresAt ?? Infinity) > now);
}

/** Those whose signature the verify view still knows, newest first: not too old, and no more than {@link MAX_KEPT} of a type. */
export function verifiableSecrets(secrets: readonly StoredSecret[], now: number): StoredSecret[] {
  const kept: Record<KeyType, number> = { secret: 0, ed25519: 0 };
  return secrets.filter((secret) => {
    const isYoung = secret.expiresAt === null || secret.expiresAt + VERIFIABLE_FOR_MS > now;
    return isYoung && kept[keyTypeOf(secret)]++ < MAX_KEPT;
  });
}

/**
 * Puts a new key first; those of its type before it sign on for the overlap, and what nobody may use any more is forgotten.
 * Each is sealed anew where it was not, or with an older key.
 *
 * @throws InvalidListenerError `TOO_MANY_SECRETS`
 * @throws UnreadableSecretError for one that would sign on, and cannot
 */
export function rotate(
  secrets: readonly StoredSecret[],
  added: StoredSecret,
  { now, overlapMs, sealing, listenerId }: { now: number; overlapMs: number; sealing: Sealing; listenerId: string },
): StoredSecret[] {
  const type = keyTypeOf(added);
  const older = verifiableSecrets(secrets, now)
    .map((secret) =>
      keyTypeOf(secret) === type
        ? { ...secret, expiresAt: Math.min(secret.expiresAt ?? Infinity, now + overlapMs) }
        : secret,
    )
    .flatMap((secret) => {
      try {
        return [{ ...secret, value: sealing.reseal(secret.value, 'secret', listenerId) }];
      } catch (error) {
        // Of the other type: not what this rotation is about.
        if (keyTypeOf(secret) !== type) return [secret];
        // What signs no more and cannot be read is of no use to anybody: a rotation without overlap is how one gets rid of it.
        if ((secret.expiresAt ?? Infinity) <= now) return [];
        throw error;
      }
    });
  if (signingSecrets(older, now, type).length >= MAX_SIGNING) {
    throw new InvalidListenerError(
      'TOO_MANY_SECRETS',
      `${MAX_SIGNING} secrets of this listener sign already: wait until an overlap is over, or rotate with overlapMs: 0.`,
      { httpStatus: 409 },
    );
  }
  return verifiableSecrets([added, ...older], now);
}

/** The document of a listener with all of it sealed by the first key, and without what is of no use any more. */
export function resealedSecrets(
  text: string,
  { sealing, now, listenerId }: { sealing: Sealing; now: number; listenerId: string },
): { text: string; isReadable: boolean } {
  let isReadable = true;
  const reseal = (secret: StoredSecret): StoredSecret => {
    try {
      // Also what is sealed by the first key already: that its id is the same says nothing of the key.
      sealing.open(secret.value, 'secret', listenerId);
      return { ...secret, value: sealing.reseal(secret.value, 'secret', listenerId) };
    } catch {
      isReadable = false;
      return secret;
    }
  };
  try {
    const secrets = verifiableSecrets(readSecrets(text), now).map(reseal);
    return { text: writeSecrets(secrets), isReadable };
  } catch {
    return { text, isReadable: false }; // a row that somebody changed by hand
  }
}
