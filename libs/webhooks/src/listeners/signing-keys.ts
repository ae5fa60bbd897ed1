import type { WebhookClock } from '../clock.js';
import { assertSigningKey, generateSigningKey, publicKeyOf } from '../signing/ed25519-key.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';
import { BadRequestError } from '../errors.js';
import { assertSecret, assertSecretText } from '../signing/secret.js';
import { InvalidListenerError } from '../listener-errors.js';
import type { Sealing } from '../secrets/sealing.js';
import { readSecrets, rotate, signingSecrets, writeSecrets, type StoredSecret } from '../secrets/stored-secrets.js';

/** What {@link SigningKeys} work with. */
export interface SigningKeysParts {
  readonly clock: WebhookClock;
  readonly schemes: ReadonlyMap<string, SignatureScheme>;
  readonly sealing: Sealing;
}

/** What of a listener's row its keys are in. */
interface KeysRow {
  readonly id: string;
  readonly secrets: string;
  /** JSON. */
  readonly schemes: string;
}

/** What a listener's requests are signed with, as it is given and as it is stored: its secret, and its Ed25519 keys where a scheme has some. */
export class SigningKeys {
  constructor(private readonly parts: SigningKeysParts) {}

  /**
   * Of a new listener.
   *
   * @param privateKey `whsk_…`, for schemes with Ed25519 keys; made where it is not given
   * @throws InvalidListenerError `INVALID_LISTENER` for one that nothing would sign with; BadRequestError `INVALID_SECRET`
   */
  firstOf(listenerId: string, schemes: readonly string[], secret: string, privateKey: string | undefined): string {
    this.assertFits(secret, schemes);
    const isKeyUsed = this.areUsed(schemes);
    if (privateKey !== undefined && !isKeyUsed) {
      throw new InvalidListenerError(
        'INVALID_LISTENER',
        '`privateKey` is for schemes with Ed25519 keys: name one, such as `standard-v1a`, in `schemes`.',
      );
    }
    const keys = [this.secretOf(listenerId, secret)];
    if (isKeyUsed) keys.push(this.pairOf(listenerId, privateKey));
    return writeSecrets(keys);
  }

  /** With a new secret in front, beside which the one before it signs for `overlapMs`. @throws as {@link rotate} does */
  withSecret(row: KeysRow, secret: string, overlapMs: number): string {
    this.assertFits(secret, JSON.parse(row.schemes) as string[]);
    return this.rotated(row, this.secretOf(row.id, secret), overlapMs);
  }

  /** With a new Ed25519 key, in the same way. @param privateKey `whsk_…`; made where it is not given */
  withPair(row: KeysRow, privateKey: string | undefined, overlapMs: number): string {
    return this.rotated(row, this.pairOf(row.id, privateKey), overlapMs);
  }

  /** A listener that comes to a scheme with Ed25519 keys gets one, unless it has one from before. @returns `undefined`: as they were */
  changed(row: KeysRow, schemes: readonly string[] | undefined): { readonly secrets: string } | undefined {
    if (!schemes) return undefined;
    const secrets = this.fitting(row, schemes);
    const needsPair = this.areUsed(schemes) && !signingSecrets(secrets, this.parts.clock.now(), 'ed25519').length;
    const text = writeSecrets(needsPair ? [this.pairOf(row.id), ...secrets] : secrets);
    return text === row.secrets ? undefined : { secrets: text };
  }

  /** `whpk_…`, of the Ed25519 keys that sign now, newest first; none where no scheme uses them. */
  publicKeysOf(row: KeysRow, schemes: readonly string[]): string[] {
    if (!this.areUsed(schemes)) return [];
    const keys = signingSecrets(readSecrets(row.secrets), this.parts.clock.now(), 'ed25519');
    const { sealing } = this.parts;
    if (!sealing.requireSealed) return keys.map(({ publicKey }) => publicKey as string);
    // What stands beside the sealed key could have been written by whoever can write the tables.
    return keys.flatMap(({ value }) => {
      try {
        return [publicKeyOf(sealing.open(value, 'secret', row.id))];
      } catch {
        return []; // such a key signs nothing either, and says so in the log when it is to
      }
    });
  }

  /** @throws BadRequestError `INVALID_SECRET` for one that a scheme cannot sign with */
  private assertFits(secret: string, schemes: readonly string[]): void {
    if (this.needWhsec(schemes)) assertSecret(secret);
    else assertSecretText(secret);
  }

  private needWhsec(schemes: readonly string[]): boolean {
    return schemes.some((name) => this.parts.schemes.get(name)?.secretForm === 'whsec');
  }

  /** The keys that schemes can use. What signs no more and does not fit is forgotten. @throws as {@link changed} does */
  private fitting(row: KeysRow, schemes: readonly string[]): StoredSecret[] {
    const secrets = readSecrets(row.secrets);
    if (!this.needWhsec(schemes) || this.needWhsec(JSON.parse(row.schemes) as string[])) return secrets;
    const misfits = secrets.filter((secret) => secret.publicKey === undefined && !this.isWhsec(row.id, secret));
    if (signingSecrets(misfits, this.parts.clock.now()).length) {
      throw new InvalidListenerError(
        'INVALID_SECRET',
        'The secret of this listener is not a `whsec_` secret, and a scheme in `schemes` needs one. First rotate to a `whsec_` secret with overlapMs: 0.',
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
