import type { WebhookClock } from '../clock.js';
import { assertSigningKey, generateSigningKey, publicKeyOf } from '../signing/ed25519-key.js';
import type { KeyType, SignatureScheme } from '../signing/signature-scheme.js';
import { BadRequestError } from '../errors.js';
import { assertSecret, assertSecretText } from '../signing/secret.js';
import { InvalidListenerError } from '../listener-errors.js';
import type { Sealing } from '../secrets/sealing.js';
import { readSecrets, rotate, signingSecrets, writeSecrets, type StoredSecret } from '../secrets/stored-secrets.js';

/** The dependencies of {@link SigningKeys}. */
export interface SigningKeysParts {
  readonly clock: WebhookClock;
  readonly schemes: ReadonlyMap<string, SignatureScheme>;
  readonly sealing: Sealing;
}

/** The columns of a listener's row that matter for its keys. */
interface KeysRow {
  readonly id: string;
  readonly secrets: string;
  /** The schemes of the listener, as JSON. */
  readonly schemes: string;
}

/**
 * Checks, stores and rotates the keys that sign the requests of a listener: its secret, and an Ed25519 key if a scheme needs an
 * Ed25519 key.
 */
export class SigningKeys {
  constructor(private readonly parts: SigningKeysParts) {}

  /**
   * Returns the stored keys of a new listener.
   *
   * @param privateKey `whsk_…`, for schemes with Ed25519 keys @defaultValue a new key
   * @throws InvalidListenerError `INVALID_LISTENER` if no scheme uses the private key; BadRequestError `INVALID_SECRET`
   */
  firstOf(listenerId: string, schemes: readonly string[], secret: string, privateKey: string | undefined): string {
    this.assertFits(secret, schemes);
    const isKeyUsed = this.areUsed(schemes);
    if (privateKey !== undefined && !isKeyUsed) {
      throw new InvalidListenerError(
        'INVALID_LISTENER',
        '`privateKey` needs a scheme with Ed25519 keys in `schemes`, such as `standard-v1a`. Add such a scheme, or leave `privateKey` out.',
      );
    }
    const keys = [this.secretOf(listenerId, secret)];
    if (isKeyUsed) keys.push(this.pairOf(listenerId, privateKey));
    return writeSecrets(keys);
  }

  /**
   * Returns the stored keys, with a new secret as the first key. For `overlapMs`, the old secret also signs. @throws the errors of
   * {@link rotate}
   */
  withSecret(row: KeysRow, secret: string, overlapMs: number): string {
    this.assertFits(secret, JSON.parse(row.schemes) as string[]);
    return this.rotated(row, this.secretOf(row.id, secret), overlapMs);
  }

  /** Returns the stored keys, with a new Ed25519 key as the first key. @param privateKey `whsk_…` @defaultValue a new key */
  withPair(row: KeysRow, privateKey: string | undefined, overlapMs: number): string {
    return this.rotated(row, this.pairOf(row.id, privateKey), overlapMs);
  }

  /**
   * Returns the stored keys after a change of `schemes`. If a new scheme needs an Ed25519 key and the listener has no such key,
   * a key is added.
   *
   * @returns `undefined` if the keys do not change
   */
  changed(row: KeysRow, schemes: readonly string[] | undefined): { readonly secrets: string } | undefined {
    if (!schemes) return undefined;
    const secrets = this.fitting(row, schemes);
    const needsPair = this.areUsed(schemes) && !signingSecrets(secrets, this.parts.clock.now(), 'ed25519').length;
    const text = writeSecrets(needsPair ? [this.pairOf(row.id), ...secrets] : secrets);
    return text === row.secrets ? undefined : { secrets: text };
  }

  /** Returns when the last replaced key of a type stops signing, in ms since 1970. `null` if no replaced key signs. */
  oldKeyUntil(row: KeysRow, type: KeyType): number | null {
    const signing = signingSecrets(readSecrets(row.secrets), this.parts.clock.now(), type);
    const ends = signing.map(({ expiresAt }) => expiresAt).filter((at) => at !== null);
    return ends.length ? Math.max(...ends) : null;
  }

  /**
   * Returns the public keys (`whpk_…`) of the Ed25519 keys that sign now, newest first. The list is empty if no scheme
   * uses Ed25519 keys.
   */
  publicKeysOf(row: KeysRow, schemes: readonly string[]): string[] {
    if (!this.areUsed(schemes)) return [];
    const keys = signingSecrets(readSecrets(row.secrets), this.parts.clock.now(), 'ed25519');
    const { sealing } = this.parts;
    if (!sealing.requireSealed) return keys.map(({ publicKey }) => publicKey as string);
    // Each public key is derived from the sealed private key, because an attacker who can write the tables could change the
    // stored public key.
    return keys.flatMap(({ value }) => {
      try {
        return [publicKeyOf(sealing.open(value, 'secret', row.id))];
      } catch {
        return []; // An unreadable key cannot sign either. The dispatcher logs the error.
      }
    });
  }

  /** @throws BadRequestError `INVALID_SECRET` if a scheme cannot sign with this secret */
  private assertFits(secret: string, schemes: readonly string[]): void {
    if (this.needWhsec(schemes)) assertSecret(secret);
    else assertSecretText(secret);
  }

  private needWhsec(schemes: readonly string[]): boolean {
    return schemes.some((name) => this.parts.schemes.get(name)?.secretForm === 'whsec');
  }

  /**
   * Returns the stored keys that the new schemes can use. Unusable keys that no longer sign are dropped.
   *
   * @throws InvalidListenerError `INVALID_SECRET` if an unusable secret still signs
   */
  private fitting(row: KeysRow, schemes: readonly string[]): StoredSecret[] {
    const secrets = readSecrets(row.secrets);
    if (!this.needWhsec(schemes) || this.needWhsec(JSON.parse(row.schemes) as string[])) return secrets;
    const misfits = secrets.filter((secret) => secret.publicKey === undefined && !this.isWhsec(row.id, secret));
    if (signingSecrets(misfits, this.parts.clock.now()).length) {
      throw new InvalidListenerError(
        'INVALID_SECRET',
        'A scheme in `schemes` needs a `whsec_` secret, but the listener has another secret. First rotate to a `whsec_` secret with `overlapMs: 0`.',
      );
    }
    return secrets.filter((secret) => !misfits.includes(secret));
  }

  private isWhsec(listenerId: string, { value }: StoredSecret): boolean {
    try {
      assertSecret(this.parts.sealing.open(value, 'secret', listenerId));
      return true;
    } catch (error) {
      if (error instanceof BadRequestError) return false;
      throw error;
    }
  }

  private areUsed(schemes: readonly string[]): boolean {
    return schemes.some((name) => this.parts.schemes.get(name)?.keyType === 'ed25519');
  }

  private rotated(row: KeysRow, added: StoredSecret, overlapMs: number): string {
    const { sealing, clock } = this.parts;
    const options = { now: clock.now(), overlapMs, sealing, listenerId: row.id };
    return writeSecrets(rotate(readSecrets(row.secrets), added, options));
  }

  private secretOf(listenerId: string, secret: string): StoredSecret {
    const { sealing, clock } = this.parts;
    return { value: sealing.seal(secret, 'secret', listenerId), createdAt: clock.now(), expiresAt: null };
  }

  private pairOf(listenerId: string, given?: string): StoredSecret {
    const pair = given === undefined ? generateSigningKey() : { privateKey: given, publicKey: assertSigningKey(given) };
    return { ...this.secretOf(listenerId, pair.privateKey), publicKey: pair.publicKey };
  }
}
