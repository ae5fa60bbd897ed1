import { randomBytes } from 'node:crypto';

import { BadRequestError, ConfigurationError } from '../errors.js';

/** Prefix of a symmetric secret (Standard Webhooks specification). */
const SECRET_PREFIX = 'whsec_';

/** Minimum length of a key in the Standard Webhooks specification: 192 bits. */
export const MIN_SECRET_BYTES = 24;

/** Maximum length of a key in the Standard Webhooks specification: 512 bits. */
const MAX_SECRET_BYTES = 64;

const GENERATED_SECRET_BYTES = 32;

const SECRET_FORM = `Give a secret that starts with "${SECRET_PREFIX}", followed by the base64 of ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} random bytes, or leave the secret out to get a new secret.`;

/** Generates a secret. It starts with `whsec_`, followed by the base64 of 32 random bytes. */
export function generateSecret(): string {
  return SECRET_PREFIX + randomBytes(GENERATED_SECRET_BYTES).toString('base64');
}

/**
 * Checks a given secret. It must start with `whsec_`, followed by the base64 of 24 to 64 bytes.
 *
 * @throws {@link BadRequestError} `INVALID_SECRET`. The message never repeats the given value, because a secret with a
 * typing error still contains most of the secret
 */
export function assertSecret(secret: unknown): asserts secret is string {
  if (typeof secret !== 'string' || !secret.startsWith(SECRET_PREFIX)) {
    throw invalidSecret(`A secret must be text that starts with "${SECRET_PREFIX}". ${SECRET_FORM}`);
  }
  const key = decodeBase64(secret.slice(SECRET_PREFIX.length));
  if (key === null) {
    throw invalidSecret(
      `A secret must be base64 after "${SECRET_PREFIX}". Allowed: A-Z, a-z, 0-9, + and /, padded with =.`,
    );
  }
  if (!isKeyLength(key)) {
    throw invalidSecret(
      `A secret must decode to ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes, and this secret has ${key.length}. ${SECRET_FORM}`,
    );
  }
}

/** Maximum length of a secret for schemes that accept any text, in UTF-8 bytes. */
export const MAX_TEXT_BYTES = 512;

/**
 * Checks a secret for schemes that accept any text. With such a scheme, a receiver can keep its existing secret.
 * Refuses texts that no scheme can use unchanged as a key.
 *
 * @throws {@link BadRequestError} `INVALID_SECRET`
 */
export function assertSecretText(secret: unknown): asserts secret is string {
  if (
    typeof secret !== 'string' ||
    secret === '' ||
    secret.includes('\0') ||
    Buffer.from(secret).toString() !== secret
  ) {
    throw invalidSecret('A secret must be a non-empty string without NUL characters.');
  }
  if (Buffer.byteLength(secret) > MAX_TEXT_BYTES)
    throw invalidSecret(`A secret must have at most ${MAX_TEXT_BYTES} bytes.`);
  if (/^wh[sp]k_/.test(secret)) throw invalidSecret('This is an Ed25519 key. Use a shared secret here.');
}

/**
 * Decodes a symmetric secret to the bytes of its key. The prefix may be missing, as in the reference libraries.
 *
 * @throws {@link ConfigurationError} `INVALID_SECRET`. The message never repeats the secret
 */
export function secretKeyBytes(secret: string): Buffer {
  const bytes = decodeBase64(secret.startsWith(SECRET_PREFIX) ? secret.slice(SECRET_PREFIX.length) : secret);
  if (bytes === null || !isKeyLength(bytes)) {
    throw new ConfigurationError(
      'INVALID_SECRET',
      `The secret must start with "${SECRET_PREFIX}" (the prefix may be missing), followed by the base64 of ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes. Copy the secret from the sender again.`,
    );
  }
  return bytes;
}

/**
 * Decodes base64 strictly. Returns `null` for invalid base64. `Buffer.from` would silently skip or cut invalid text.
 * Then the key would have fewer bytes, and the signature would be weaker than intended.
 */
export function decodeBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  const canonical = bytes.toString('base64');
  return canonical === text || canonical.replace(/=+$/, '') === text ? bytes : null;
}

function isKeyLength({ length }: Buffer): boolean {
  return length >= MIN_SECRET_BYTES && length <= MAX_SECRET_BYTES;
}

function invalidSecret(message: string): BadRequestError {
  return new BadRequestError('INVALID_SECRET', message);
}
