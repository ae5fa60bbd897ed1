import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';

import { BadRequestError, ConfigurationError } from '../errors.js';
import { decodeBase64 } from './secret.js';

/** How an Ed25519 private key begins, by the Standard Webhooks specification. Only the sender has it. */
const PRIVATE_KEY_PREFIX = 'whsk_';

/** How an Ed25519 public key begins. Anybody may have it. */
const PUBLIC_KEY_PREFIX = 'whpk_';

const KEY_BYTES = 32;

/** What comes before the 32 bytes of a key in DER (RFC 8410): Node reads and writes no bare Ed25519 keys. */
const PKCS8_HEADER = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_HEADER = Buffer.from('302a300506032b6570032100', 'hex');

/** An Ed25519 key pair as Standard Webhooks writes it. */
export interface SigningKeyPair {
  /** `whsk_` and the base64 of the 32 bytes of the private key with the 32 of the public one behind them. */
  readonly privateKey: string;
  /** `whpk_` and the base64 of 32 bytes: what receivers verify with. */
  readonly publicKey: string;
}

/** A public key as a JSON Web Key (RFC 8037). */
export interface WebhookJwk {
  readonly kty: 'OKP';
  readonly crv: 'Ed25519';
  readonly alg: 'EdDSA';
  readonly use: 'sig';
  /** The key's thumbprint (RFC 7638): the same for the same key, wherever it is served. */
  readonly kid: string;
  /** The 32 bytes of the key in base64url. */
  readonly x: string;
  /** The same key as Standard Webhooks writes it, for libraries that read no JWK. */
  readonly whpk: string;
}

/** What a team serves so that receivers find its keys: the shape of a JSON Web Key Set (RFC 7517). */
export interface WebhookKeySet {
  readonly keys: readonly WebhookJwk[];
}

/** A new Ed25519 key pair, for signatures that receivers can check and not make. */
export function generateSigningKey(): SigningKeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const seed = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(PKCS8_HEADER.length);
  const point = rawPublicKey(publicKey);
  return {
    privateKey: PRIVATE_KEY_PREFIX + Buffer.concat([seed, point]).toString('base64'),
    publicKey: PUBLIC_KEY_PREFIX + point.toString('base64'),
  };
}

/** Whether a key of a listener or a receiver is one of a pair, by its prefix alone. */
export function isEd25519Key(key: string): boolean {
  return key.startsWith(PRIVATE_KEY_PREFIX) || key.startsWith(PUBLIC_KEY_PREFIX);
}

/**
 * Refuses a private key that somebody brings along unless it is `whsk_` and base64 of 32 bytes, or of 64 whose second half
 * is the public key of the first.
 *
 * @returns its public key, `whpk_…`
 * @throws {@link BadRequestError} `INVALID_SECRET`, whose message never repeats what was given
 */
export function assertSigningKey(key: unknown): string {
  if (typeof key !== 'string' || !key.startsWith(PRIVATE_KEY_PREFIX) || readPrivateKey(key) === null) {
    throw new BadRequestError(
      'INVALID_SECRET',
      `A private key is "${PRIVATE_KEY_PREFIX}" and the base64 of an Ed25519 key of 32 bytes, with or without its public key behind it.`,
    );
  }
  return publicKeyOf(key);
}

/**
 * The public key that belongs to a private one.
 *
 * @param privateKey `whsk_…`
 * @returns `whpk_…`
 * @throws {@link ConfigurationError} `INVALID_SECRET`
 */
export function publicKeyOf(privateKey: string): string {
  return PUBLIC_KEY_PREFIX + rawPublicKey(createPublicKey(privateKeyObject(privateKey))).toString('base64');
}

/**
 * Public keys in the shape of a JSON Web Key Set, to serve to receivers.
 *
 * @param publicKeys `whpk_…`, those that sign now: two while a rotation overlaps
 * @throws {@link ConfigurationError} `INVALID_SECRET` when one is none
 * @example response.json(keySetOf((await listeners.get(id)).publicKeys));
 */
export function keySetOf(publicKeys: readonly string[]): WebhookKeySet {
  return { keys: publicKeys.map(jwkOf) };
}

/** @throws {@link ConfigurationError} `INVALID_SECRET` */
export function privateKeyObject(key: string): KeyObject {
  const read = readPrivateKey(key);
  if (read !== null) return read;
  throw new ConfigurationError(
    'INVALID_SECRET',
    `A webhook is to be signed with something that is not "${PRIVATE_KEY_PREFIX}" and an Ed25519 key in base64.`,
  );
}

/** Of a public key, or of the public half of a private one. @throws {@link ConfigurationError} `INVALID_SECRET` */
export function publicKeyObject(key: string): KeyObject {
  if (key.startsWith(PRIVATE_KEY_PREFIX)) return createPublicKey(privateKeyObject(key));
  const bytes = key.startsWith(PUBLIC_KEY_PREFIX) ? decodeBase64(key.slice(PUBLIC_KEY_PREFIX.length)) : null;
  if (bytes?.length === KEY_BYTES) {
    return createPublicKey({ key: Buffer.concat([SPKI_HEADER, bytes]), format: 'der', type: 'spki' });
  }
  throw new ConfigurationError(
    'INVALID_SECRET',
    `The public key of a webhook is not "${PUBLIC_KEY_PREFIX}" and the base64 of 32 bytes: copy it again as it was shown.`,
  );
}

function readPrivateKey(key: string): KeyObject | null {
  const bytes = decodeBase64(key.startsWith(PRIVATE_KEY_PREFIX) ? key.slice(PRIVATE_KEY_PREFIX.length) : key);
  if (bytes === null || (bytes.length !== KEY_BYTES && bytes.length !== 2 * KEY_BYTES)) return null;
  const seed = bytes.subarray(0, KEY_BYTES);
  const read = createPrivateKey({ key: Buffer.concat([PKCS8_HEADER, seed]), format: 'der', type: 'pkcs8' });
  // Halves that do not belong together are a copying error, and receivers would have been given the wrong one.
  const given = bytes.subarray(KEY_BYTES);
  return given.length === 0 || rawPublicKey(createPublicKey(read)).equals(given) ? read : null;
}

function rawPublicKey(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(SPKI_HEADER.length);
}

function jwkOf(publicKey: string): WebhookJwk {
  const x = rawPublicKey(publicKeyObject(publicKey)).toString('base64url');
  // RFC 7638: the required members alone, in the order of their names.
  const kid = createHash('sha256')
    .update(JSON.stringify({ crv: 'Ed25519', kty: 'OKP', x }))
    .digest('base64url');
  return { kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', use: 'sig', kid, x, whpk: publicKey };
}
