import type { KeyType } from '../signing/signature-scheme.js';
import { InvalidListenerError } from '../listener-errors.js';
import type { Sealing } from './sealing.js';
import { DAY } from '../time.js';

/** A stored key of a listener. Times are in milliseconds. */
export interface StoredSecret {
  /** The secret or private key, as text or sealed by {@link Sealing}. */
  readonly value: string;
  readonly createdAt: number;
  /** When the key stops signing; `null` while it is the current key. */
  readonly expiresAt: number | null;
  /** `whpk_…` of an Ed25519 key. It can be read while the private key is sealed. */
  readonly publicKey?: string;
}

interface SecretsDocument {
  v: 1;
  secrets: StoredSecret[];
}

/** How long the verify view accepts a secret after it stopped signing. */
const VERIFIABLE_FOR_MS = 7 * DAY;

/** Maximum number of keys of one type that sign: more signatures would not fit into the headers that servers accept. */
const MAX_SIGNING = 20;
/**
 * Maximum number of keys of one type that a listener keeps. The newest are kept. The verify view tries each key, and a
 * customer may rotate as often as they like.
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

/** Returns the keys of a type that sign at `now`, newest first. */
export function signingSecrets(
  secrets: readonly StoredSecret[],
  now: number,
  type: KeyType = 'secret',
): StoredSecret[] {
  return secrets.filter((secret) => keyTypeOf(secret) === type && (secret.expiresAt ?? Infinity) > now);
}

/**
 * Returns the keys whose signatures the verify view accepts, newest first: not older than {@link VERIFIABLE_FOR_MS}
 * after their end, and at most {@link MAX_KEPT} of a type.
 */
export function verifiableSecrets(secrets: readonly StoredSecret[], now: number): StoredSecret[] {
  const kept: Record<KeyType, number> = { secret: 0, ed25519: 0 };
  return secrets.filter((secret) => {
    const isYoung = secret.expiresAt === null || secret.expiresAt + VERIFIABLE_FOR_MS > now;
    return isYoung && kept[keyTypeOf(secret)]++ < MAX_KEPT;
  });
}

/**
 * Puts a new key first. Older keys of its type keep signing during the overlap. Keys that no longer verify are removed.
 * A key that is not sealed, or is sealed with an older sealing key, is sealed again.
 *
 * @throws InvalidListenerError `TOO_MANY_SECRETS`
 * @throws UnreadableSecretError when an older key should keep signing but cannot be read
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
        // A key of the other type is not part of this rotation.
        if (keyTypeOf(secret) !== type) return [secret];
        // A key that no longer signs and cannot be read is useless. A rotation without overlap is the way to remove an
        // unreadable key.
        if ((secret.expiresAt ?? Infinity) <= now) return [];
        throw error;
      }
    });
  if (signingSecrets(older, now, type).length >= MAX_SIGNING) {
    throw new InvalidListenerError(
      'TOO_MANY_SECRETS',
      `This listener already has ${MAX_SIGNING} secrets that sign, which is the maximum. Wait until an overlap ends, or rotate with overlapMs: 0.`,
      { httpStatus: 409 },
    );
  }
  return verifiableSecrets([added, ...older], now);
}

/**
 * Returns the document of a listener with every key sealed by the first sealing key, and without keys that no longer
 * verify.
 */
export function resealedSecrets(
  text: string,
  { sealing, now, listenerId }: { sealing: Sealing; now: number; listenerId: string },
): { text: string; isReadable: boolean } {
  let isReadable = true;
  const reseal = (secret: StoredSecret): StoredSecret => {
    try {
      // Open it even if it is sealed with the first key: an equal key id does not prove that the key is the same.
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
    return { text, isReadable: false }; // the row was edited by hand
  }
}
