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
  /** The public key (`whpk_…`) of an Ed25519 key. The public key is not sealed, so it can be read without a sealing key. */
  readonly publicKey?: string;
}

interface SecretsDocument {
  v: 1;
  secrets: StoredSecret[];
}

/** How long the verify view accepts a secret after it stopped signing. */
const VERIFIABLE_FOR_MS = 7 * DAY;

/**
 * Maximum number of keys of one type that sign. With more keys, the signatures would be too long for the headers that
 * servers accept.
 */
const MAX_SIGNING = 20;
/**
 * Maximum number of keys of one type that a listener keeps. The newest keys are kept. Without a limit, a customer who rotates very
 * often could slow down the verify view, because the verify view tries each key.
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
 * Returns the keys whose signatures the verify view accepts, newest first. A key is accepted until {@link
 * VERIFIABLE_FOR_MS} after it stopped signing. At most {@link MAX_KEPT} keys of a type are accepted.
 */
export function verifiableSecrets(secrets: readonly StoredSecret[], now: number): StoredSecret[] {
  const kept: Record<KeyType, number> = { secret: 0, ed25519: 0 };
  return secrets.filter((secret) => {
    const isYoung = secret.expiresAt === null || secret.expiresAt + VERIFIABLE_FOR_MS > now;
    return isYoung && kept[keyTypeOf(secret)]++ < MAX_KEPT;
  });
}

/**
 * Puts a new key first. Older keys of the same type still sign during the overlap. Keys that the verify view no longer
 * accepts are removed. A key that is not sealed, or that an older sealing key sealed, is sealed again.
 *
 * @throws InvalidListenerError `TOO_MANY_SECRETS`
 * @throws UnreadableSecretError when an older key must still sign but cannot be read
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
        // An unreadable key that no longer signs is of no use. So a rotation without overlap also removes an unreadable
        // key.
        if ((secret.expiresAt ?? Infinity) <= now) return [];
        throw error;
      }
    });
  if (signingSecrets(older, now, type).length >= MAX_SIGNING) {
    throw new InvalidListenerError(
      'TOO_MANY_SECRETS',
      `This listener already has ${MAX_SIGNING} secrets that sign. This is the maximum. Wait until an overlap ends, or rotate with overlapMs: 0.`,
      { httpStatus: 409 },
    );
  }
  return verifiableSecrets([added, ...older], now);
}

/**
 * Returns the document of a listener with every key sealed by the first sealing key. Keys that the verify view no
 * longer accepts are left out.
 */
export function resealedSecrets(
  text: string,
  { sealing, now, listenerId }: { sealing: Sealing; now: number; listenerId: string },
): { text: string; isReadable: boolean } {
  let isReadable = true;
  const reseal = (secret: StoredSecret): StoredSecret => {
    try {
      // Open the secret even if it is sealed with the first key: an equal key id does not prove that the key is
      // the same.
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
