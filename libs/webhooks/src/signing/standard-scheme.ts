import { createHmac, createSecretKey, sign, verify, type KeyObject } from 'node:crypto';

import { isEd25519Key, privateKeyObject, publicKeyObject } from './ed25519-key.js';
import { decodeBase64, secretKeyBytes } from './secret.js';
import { anyMatches } from './signature-match.js';
import { type KeyType, SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';

/** How many decoded keys are cached, at 64 bytes each: enough for the listeners that are busy now. */
const MAX_CACHED_KEYS = 10_000;

const V1 = 'v1,';
/** Prefix of an Ed25519 signature. */
const V1A = 'v1a,';
const ED25519_SIGNATURE_BYTES = 64;
/**
 * How many Ed25519 signatures of one request are verified. Each verification costs a tenth of a millisecond, and the
 * sender of the request chooses their number. No real sender has this many keys.
 */
const MAX_V1A_SIGNATURES = 32;
/**
 * How many bytes one call hashes for Ed25519, about 10 ms. Each pair of a signature and a key hashes the whole message, and the curve costs as
 * much as {@link V1A_PAIR_BYTES} more. A body of 256 KiB leaves 21 pairs, a body of 1 MiB 7.
 */
const MAX_V1A_BYTES = 8 * 1_024 * 1_024;
const V1A_PAIR_BYTES = 128 * 1_024;

/**
 * Standard Webhooks. `webhook-signature` lists one signature over `id.timestamp.body` for each key, separated by
 * spaces, so that a receiver that still has the old key accepts the request too. The type of the key decides the
 * algorithm:
 *
 * - A shared secret starts with `whsec_`, followed by base64. As in the reference libraries, the prefix may be missing. The signature starts
 *   with `v1,`, followed by the base64 of the HMAC-SHA256.
 * - A private key (`whsk_`) signs, and its public key (`whpk_`) verifies. The signature starts with `v1a,`, followed by the base64 of
 *   the Ed25519 signature.
 *
 * In a listener, the scheme name `standard` means `v1`, and {@link StandardV1aScheme} means `v1a`.
 *
 * @see https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export class StandardScheme extends SignatureScheme {
  readonly name: string = 'standard';
  override readonly keyType: KeyType = 'secret';
  override readonly secretForm: 'whsec' | 'text' = 'whsec';

  /** A `#` field, so that no `inspect` and no logger prints the secrets, which are the keys of this map. */
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
    // No secret is involved, so the first match can end the search.
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
 * `v1a` of Standard Webhooks, for listeners: Ed25519 signatures, which a receiver can verify with a public key but
 * cannot create.
 *
 * Receivers need no separate class: {@link StandardScheme} verifies with `whpk_` keys.
 */
export class StandardV1aScheme extends StandardScheme {
  override readonly name = 'standard-v1a';
  override readonly keyType = 'ed25519';
  // The secret of the listener signs nothing here, so any text is allowed.
  override readonly secretForm = 'text';
}

function secretKey(secret: string): KeyObject {
  return createSecretKey(secretKeyBytes(secret));
}

function signedPrefix({ id, timestamp }: SigningInput): string {
  return `${id}.${timestamp}.`;
}

/** The sender's newest key signs first: the signatures that are left out belong to its oldest keys. */
function mostSignatures(keys: number, bodyLength: number): number {
  const pairs = Math.floor(MAX_V1A_BYTES / (bodyLength + V1A_PAIR_BYTES));
  return Math.min(MAX_V1A_SIGNATURES, Math.max(1, Math.floor(pairs / Math.max(1, keys))));
}

/** Ed25519 needs the whole message in one buffer. */
function signedBytes(input: SigningInput): Buffer {
  return Buffer.concat([Buffer.from(signedPrefix(input)), input.body]);
}

/** How many body bytes Ed25519 signatures may hash in one step: each hashes the whole body, and the sender chooses their number. */
const SIGNED_BYTES_AT_ONCE = 256 * 1_024;

/**
 * The same headers, with some of the Ed25519 signatures each. The secrets' schemes compute one HMAC for a key, however many signatures there are.
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
