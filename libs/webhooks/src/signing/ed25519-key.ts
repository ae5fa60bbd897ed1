import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';

import { BadRequestError, ConfigurationError } from '../errors.js';
import { decodeBase64 } from './secret.js';

/** Prefix of an Ed25519 private key (Standard Webhooks specification). Only the sender has this key. */
const PRIVATE_KEY_PREFIX = 'whsk_';

/** Prefix of an Ed25519 public key. Everyone may have this key. */
const PUBLIC_KEY_PREFIX = 'whpk_';

const KEY_BYTES = 32;

/** The DER bytes that precede the 32 bytes of a key (RFC 8410). Node.js cannot read or write a raw Ed25519 key. */
const PKCS8_HEADER = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_HEADER = Buffer.from('302a300506032b6570032100', 'hex');

/** An Ed25519 key pair in the form of Standard Webhooks. */
export interface SigningKeyPair {
  /** Starts with `whsk_`, followed by the base64 of 64 bytes: 32 of the private key, then 32 of the public key. */
  readonly privateKey: string;
  /** Starts with `whpk_`, followed by the base64 of 32 bytes. Receivers verify with this key. */
  readonly publicKey: string;
}

/** A public key as a JSON Web Key (RFC 8037). */
export interface WebhookJwk {
  readonly kty: 'OKP';
  readonly crv: 'Ed25519';
  readonly alg: 'EdDSA';
  readonly use: 'sig';
  /** The thumbprint of the key (RFC 7638). The same key has the same `kid` everywhere. */
  readonly kid: string;
  /** The 32 bytes of the key in base64url. */
  readonly x: string;
  /** The same key in the form of Standard Webhooks, for libraries that cannot read a JWK. */
  readonly whpk: string;
}

/** Public keys of a sender in the form of a JSON Web Key Set (RFC 7517). Serve this set, because receivers need the public keys. */
export interface WebhookKeySet {
  readonly keys: readonly WebhookJwk[];
}

/** Generates an Ed25519 key pair. With the public key, a receiver can verify signatures but cannot create signatures. */
export function generateSigningKey(): SigningKeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const seed = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(PKCS8_HEADER.length);
  const point = rawPublicKey(publicKey);
  return {
    privateKey: PRIVATE_KEY_PREFIX + Buffer.concat([seed, point]).toString('base64'),
    publicKey: PUBLIC_KEY_PREFIX + point.toString('base64'),
  };
}

/** Whether a key of a listener or a receiver is an Ed25519 key. Only the prefix counts. */
export function isEd25519Key(key: string): boolean {
  return key.startsWith(PRIVATE_KEY_PREFIX) || key.startsWith(PUBLIC_KEY_PREFIX);
}

/**
 * Checks a given private key. It must start with `whsk_`, followed by the base64 of 32 bytes, or of 64 bytes: the private key, then its public
 * key.
 *
 * @returns the public key, `whpk_…`
 * @throws {@link BadRequestError} `INVALID_SECRET`. The message never repeats the given value
 */
export function assertSigningKey(key: unknown): string {
  if (typeof key !== 'string' || !key.startsWith(PRIVATE_KEY_PREFIX) || readPrivateKey(key) === null) {
    throw new BadRequestError(
      'INVALID_SECRET',
      `A private key must start with "${PRIVATE_KEY_PREFIX}", followed by the base64 of the 32 bytes of an Ed25519 key. The 32 bytes of the public key may follow these bytes.`,
    );
  }
  return publicKeyOf(key);
}

/**
 * Returns the public key of a private key.
 *
 * @param privateKey `whsk_…`
 * @returns `whpk_…`
 * @throws {@link ConfigurationError} `INVALID_SECRET`
 */
export function publicKeyOf(privateKey: string): string {
  return PUBLIC_KEY_PREFIX + rawPublicKey(createPublicKey(privateKeyObject(privateKey))).toString('base64');
}

/**
 * Returns public keys in the shape of a JSON Web Key Set, to serve to receivers.
 *
 * @param publicKeys the public keys (`whpk_…`) of the keys that sign now. While the keys of a rotation overlap, these
 * are two keys
 * @throws {@link ConfigurationError} `INVALID_SECRET` when an entry is not a public key
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
    `The private key must start with "${PRIVATE_KEY_PREFIX}", followed by an Ed25519 key in base64. Copy the key again from the listener.`,
  );
}

/**
 * Returns the key object of a public key, or of the public half of a private key. @throws {@link ConfigurationError}
 * `INVALID_SECRET`
 */
export function publicKeyObject(key: string): KeyObject {
  if (key.startsWith(PRIVATE_KEY_PREFIX)) return createPublicKey(privateKeyObject(key));
  const bytes = key.startsWith(PUBLIC_KEY_PREFIX) ? decodeBase64(key.slice(PUBLIC_KEY_PREFIX.length)) : null;
  if (bytes?.length === KEY_BYTES) {
    return createPublicKey({ key: Buffer.concat([SPKI_HEADER, bytes]), format: 'der', type: 'spki' });
  }
  throw new ConfigurationError(
    'INVALID_SECRET',
    `The public key must start with "${PUBLIC_KEY_PREFIX}", followed by the base64 of 32 bytes. Copy the key from the sender again.`,
  );
}

function readPrivateKey(key: string): KeyObject | null {
  const bytes = decodeBase64(key.startsWith(PRIVATE_KEY_PREFIX) ? key.slice(PRIVATE_KEY_PREFIX.length) : key);
  if (bytes === null || (bytes.length !== KEY_BYTES && bytes.length !== 2 * KEY_BYTES)) return null;
  const seed = bytes.subarray(0, KEY_BYTES);
  const read = createPrivateKey({ key: Buffer.concat([PKCS8_HEADER, seed]), format: 'der', type: 'pkcs8' });
  // If the two halves do not match, the key was copied wrongly. Receivers would get the wrong public key.
  const given = bytes.subarray(KEY_BYTES);
  return given.length === 0 || rawPublicKey(createPublicKey(read)).equals(given) ? read : null;
}

function rawPublicKey(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(SPKI_HEADER.length);
}

function jwkOf(publicKey: string): WebhookJwk {
  const x = rawPublicKey(publicKeyObject(publicKey)).toString('base64url');
  // RFC 7638: only the required members, sorted by name.
  const kid = createHash('sha256')
    .update(JSON.stringify({ crv: 'Ed25519', kty: 'OKP', x }))
    .digest('base64url');
  return { kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', use: 'sig', kid, x, whpk: publicKey };
}
