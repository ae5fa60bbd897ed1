import { createHmac, createSecretKey, sign, verify, type KeyObject } from 'node:crypto';

import { isEd25519Key, privateKeyObject, publicKeyObject } from './ed25519-key.js';
import { decodeBase64, secretKeyBytes } from './secret.js';
import { anyMatches } from './signature-match.js';
import { type KeyType, SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';

/** Decoded keys that are kept: enough for the listeners that are busy now, and 64 bytes each. */
const MAX_CACHED_KEYS = 10_000;

const V1 = 'v1,';
/** How an Ed25519 signature begins. @internal */
export const V1A = 'v1a,';
const ED25519_SIGNATURE_BYTES = 64;
/**
 * Ed25519 signatures of one request that are looked at. Each costs a tenth of a millisecond, and whoever sends a request
 * chooses their number; no sender has so many keys.
 *
 * @internal
 */
export const MAX_V1A_SIGNATURES = 32;

/**
 * Standard Webhooks: `webhook-signature` lists one signature over `id.timestamp.body` for each key, separated by spaces, so
 * that a receiver that still has the old one accepts too. The key decides how:
 *
 * - `whsec_` and base64, a secret that both sides have: `v1,` and the base64 of HMAC-SHA256. The prefix may be missing, as
 *   in the reference libraries.
 * - `whsk_`, a private key, to sign; `whpk_`, its public key, to verify: `v1a,` and the base64 of the Ed25519 signature.
 *
 * To a listener, `standard` is `v1`, and {@link StandardV1aScheme} is `v1a`.
 *
 * @see https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export class StandardScheme extends SignatureScheme {
  readonly name: string = 'standard';
  override readonly keyType: KeyType = 'secret';
  override readonly secretForm: 'whsec' | 'text' = 'whsec';

  /** Private by `#`, so that no `inspect` or logger prints the secrets that are its keys. */
  readonly #keys = new Map<string, KeyObject>();

  sign(input: SigningInput): Record<string, string> {
    const signatures = input.secrets.map((secret) =>
      isEd25519Key(secret)
        ? V1A + sign(null, signedBytes(input), this.#cached(secret, privateKeyObject)).toString('base64')
        : V1 + this.#hmac(secret, input),
    );
    return { 'webhook-signature': signatures.join(' ') };
  }

  verify(input: VerifyInput): boolean {
    const given = (input.headers['webhook-signature'] ?? '').split(' ');
    const publicKeys = input.secrets.filter(isEd25519Key);
    const expected = input.secrets
      .filter((secret) => !isEd25519Key(secret))
      .map((secret) => Buffer.from(this.#hmac(secret, input)));
    const isV1 = anyMatches(
      given.filter((part) => part.startsWith(V1)).map((part) => Buffer.from(part.slice(V1.length))),
      expected,
    );
    return this.#holdsV1a(given, publicKeys, input) || isV1;
  }

  #holdsV1a(given: readonly string[], keys: readonly string[], input: SigningInput): boolean {
    const publicKeys = keys.map((key) => this.#cached(key, publicKeyObject, 'public:'));
    const signatures = given
      .filter((part) => part.startsWith(V1A))
      .slice(0, MAX_V1A_SIGNATURES)
      .map((part) => decodeBase64(part.slice(V1A.length)))
      .filter((signature) => signature?.length === ED25519_SIGNATURE_BYTES);
    if (!signatures.length || !publicKeys.length) return false;
    const bytes = signedBytes(input);
    // Nothing secret takes part in this, so the first that fits ends it.
    return publicKeys.some((key) => signatures.some((signature) => verify(null, bytes, key, signature as Buffer)));
  }

  #hmac(secret: string, input: SigningInput): string {
    return createHmac('sha256', this.#cached(secret, secretKey))
      .update(signedPrefix(input))
      .update(input.body)
      .digest('base64');
  }

  #cached(text: string, read: (text: string) => KeyObject, use = ''): KeyObject {
    const name = use + text;
    const cached = this.#keys.get(name);
    if (cached !== undefined) return cached;
    const key = read(text);
    if (this.#keys.size >= MAX_CACHED_KEYS) this.#keys.clear();
    this.#keys.set(name, key);
    return key;
  }
}

/**
 * `v1a` of Standard Webhooks, for listeners: Ed25519 signatures, which a receiver can check with a public key and cannot make.
 *
 * Receivers need no class of its own: {@link StandardScheme} verifies with `whpk_` keys.
 */
export class StandardV1aScheme extends StandardScheme {
  override readonly name = 'standard-v1a';
  override readonly keyType = 'ed25519';
  // Its secret signs nothing.
  override readonly secretForm = 'text';
}

function secretKey(secret: string): KeyObject {
  return createSecretKey(secretKeyBytes(secret));
}

function signedPrefix({ id, timestamp }: SigningInput): string {
  return `${id}.${timestamp}.`;
}

/** Ed25519 takes the whole message at once. */
function signedBytes(input: SigningInput): Buffer {
  return Buffer.concat([Buffer.from(signedPrefix(input)), input.body]);
}
