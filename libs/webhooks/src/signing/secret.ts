import { randomBytes } from 'node:crypto';

import { BadRequestError, ConfigurationError } from '../errors.js';

/** How a symmetric secret begins, by the Standard Webhooks specification. */
export const SECRET_PREFIX = 'whsec_';

/** Shortest key that the Standard Webhooks specification allows: 192 bits. */
export const MIN_SECRET_BYTES = 24;

/** Longest key that it allows: 512 bits. */
export const MAX_SECRET_BYTES = 64;

const GENERATED_SECRET_BYTES = 32;

const SECRET_FORM = `Give "${SECRET_PREFIX}" and the base64 of ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} random bytes, or leave the secret out to get a new one.`;

/** A new secret: `whsec_` and the base64 of 32 random bytes. */
export function generateSecret(): string {
  return SECRET_PREFIX + randomBytes(GENERATED_SECRET_BYTES).toString('base64');
}

/**
 * Refuses a secret that somebody brings along unless it is `whsec_` and the base64 of 24 to 64 bytes.
 *
 * @throws {@link BadRequestError} `INVALID_SECRET`; the message never repeats what was given, as a secret with a typing
 * error is still most of a secret
 */
export function assertSecret(secret: unknown): asserts secret is string {
  if (typeof secret !== 'string' || !secret.startsWith(SECRET_PREFIX)) {
    throw invalidSecret(`A secret is text that starts with "${SECRET_PREFIX}". ${SECRET_FORM}`);
  }
  const key = decodeBase64(secret.slice(SECRET_PREFIX.length));
  if (key === null) {
    throw invalidSecret(`After "${SECRET_PREFIX}" a secret is base64 (A-Z, a-z, 0-9, +, /, padded with =).`);
  }
  if (!isKeyLength(key)) {
    throw invalidSecret(
      `A secret decodes to ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes; this one has ${key.length}. ${SECRET_FORM}`,
    );
  }
}

/** Longest secret of a scheme that takes any text. */
export const MAX_TEXT_BYTES = 512;

/**
 * Refuses a secret that no scheme could sign with as it is written: for schemes that take any text, so that receivers keep the secret that
 * they have.
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
 * The key of a symmetric secret. The prefix may be missing, as in the reference libraries.
 *
 * @throws {@link ConfigurationError} `INVALID_SECRET`; the message never repeats the secret
 */
export function secretKeyBytes(secret: string): Buffer {
  const bytes = decodeBase64(secret.startsWith(SECRET_PREFIX) ? secret.slice(SECRET_PREFIX.length) : secret);
  if (bytes === null || !isKeyLength(bytes)) {
    throw new ConfigurationError(
      'INVALID_SECRET',
      `The secret of a webhook is not "${SECRET_PREFIX}" and the base64 of ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes: copy it again as it was shown.`,
    );
  }
  return bytes;
}

/**
 * Strict base64: `null` for what `Buffer.from` would quietly skip or cut, as a key that decodes to something shorter
 * than was meant signs with something weaker than was meant.
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
