import { createHmac, createSecretKey, sign, verify, type KeyObject } from 'node:crypto';

import { isEd25519Key, privateKeyObject, publicKeyObject } from './ed25519-key.js';
import { decodeBase64, secretKeyBytes } from './secret.js';
import { anyMatches } from './signature-match.js';
import { type KeyType, SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';

/**
 * Maximum number of decoded keys in the cache. Each key has 64 bytes. This is enough for the listeners that are busy at
 * the same time.
 */
const MAX_CACHED_KEYS = 10_000;

const V1 = 'v1,';
/** Prefix of an Ed25519 signature. */
const V1A = 'v1a,';
const ED25519_SIGNATURE_BYTES = 64;
/**
 * Maximum number of Ed25519 signatures of one request that are verified. Each verification takes a tenth of a
 * millisecond, and the sender of the request chooses the number of signatures. No real sender has this many keys.
 */
const MAX_V1A_SIGNATURES = 32;
/**
 * How many bytes one call may hash for Ed25519. To hash this many bytes takes about 10 ms. Each pair of a signature and a key hashes the
 * whole message. In addition, the computation on the curve takes the time of hashing {@link V1A_PAIR_BYTES} bytes. So 21 pairs are tried
 * for a body of 256 KiB, and 7 pairs for a body of 1 MiB.
 */
const MAX_V1A_BYTES = 8 * 1_024 * 1_024;
const V1A_PAIR_BYTES = 128 * 1_024;

/**
 * The scheme of Standard Webhooks. The header `webhook-signature` contains one signature over
 * `id.timestamp.body` for each key, separated by spaces. So a receiver that still has the old key also accepts
 * the request. The type of the key decides the algorithm:
 *
 * - A shared secret starts with `whsec_`, followed by base64. The prefix may be missing, as in the reference libraries. The signature starts
 *   with `v1,`, followed by the base64 of the HMAC-SHA256.
 * - A private key (`whsk_`) signs, and its public key (`whpk_`) verifies. The signature starts with `v1a,`, followed by the base64 of
 *   the Ed25519 signature.
 *
 * In a listener, the scheme `standard` signs with `v1`, and the scheme `standard-v1a` ({@link StandardV1aScheme}) signs
 * with `v1a`.
 *
 * @see https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export class StandardScheme extends SignatureScheme {
  readonly name: string = 'standard';
  override readonly keyType: KeyType = 'secret';
  override readonly secretForm: 'whsec' | 'text' = 'whsec';

  /** The secrets are the keys of this map. In a `#` field, no `inspect` and no logger prints them. */
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
    return this.#verifiesV1a(given, publicKeys, input) || isV1;
  }

  #verifiesV1a(given: readonly string[], keys: readonly string[], input: SigningInput): boolean {
    const publicKeys = keys.map((key) => this.#cached(key, publicKeyObject, 'public:'));
    const signatures = given
      .filter((part) => part.startsWith(V1A))
      .slice(0, mostSignatures(publicKeys.length, input.body.length))
      .map((part) => decodeBase64(part.slice(V1A.length)))
      .filter((signature) => signature?.length === ED25519_SIGNATURE_BYTES);
    if (!signatures.length || !publicKeys.length) return false;
    const bytes = signedBytes(input);
    // Public keys are not secret, so the time of the search may depend on the position of the match.
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
 * The scheme `v1a` of Standard Webhooks, for listeners. It makes Ed25519 signatures. A receiver can verify them
 * with a public key, but cannot create them.
 *
 * Receivers need no separate class: {@link StandardScheme} verifies with `whpk_` keys.
 */
export class StandardV1aScheme extends StandardScheme {
  override readonly name = 'standard-v1a';
  override readonly keyType = 'ed25519';
  // This scheme does not sign with the secret of the listener. So any text is allowed as the secret.
  override readonly secretForm = 'text';
}

function secretKey(secret: string): KeyObject {
  return createSecretKey(secretKeyBytes(secret));
}

function signedPrefix({ id, timestamp }: SigningInput): string {
  return `${id}.${timestamp}.`;
}

/**
 * The maximum number of signatures that are verified. The signature of the sender's newest key comes first. So the
 * ignored signatures belong to the oldest keys.
 */
function mostSignatures(keys: number, bodyLength: number): number {
  const pairs = Math.floor(MAX_V1A_BYTES / (bodyLength + V1A_PAIR_BYTES));
  return Math.min(MAX_V1A_SIGNATURES, Math.max(1, Math.floor(pairs / Math.max(1, keys))));
}

/** Ed25519 needs the whole message in one buffer. */
function signedBytes(input: SigningInput): Buffer {
  return Buffer.concat([Buffer.from(signedPrefix(input)), input.body]);
}

/**
 * How many bytes the verification of Ed25519 signatures may hash in one step. Each signature hashes the whole body, and the sender
 * chooses the number of signatures.
 */
const SIGNED_BYTES_AT_ONCE = 256 * 1_024;

/**
 * Returns several copies of the headers, each with a part of the Ed25519 signatures. Schemes with secrets need no parts: for any number of
 * signatures, they compute only one HMAC for each key.
 *
 * @internal
 */
export function signaturesInPieces<T extends Readonly<Record<string, string | undefined>>>(
  headers: T,
  bodyLength: number,
): readonly T[] {
  const signatures = (headers['webhook-signature'] ?? '').split(' ').filter((part) => part.startsWith(V1A));
  const atOnce = Math.max(1, Math.floor(SIGNED_BYTES_AT_ONCE / (bodyLength + 1)));
  const pieces: T[] = [];
  for (let from = 0; from < Math.min(signatures.length, MAX_V1A_SIGNATURES); from += atOnce) {
    const some = signatures.slice(from, Math.min(from + atOnce, MAX_V1A_SIGNATURES));
    pieces.push({ ...headers, 'webhook-signature': some.join(' ') });
  }
  return pieces;
}
