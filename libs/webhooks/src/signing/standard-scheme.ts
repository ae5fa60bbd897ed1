import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto';

import { ConfigurationError } from '../errors.js';
import { decodeBase64, SECRET_PREFIX } from './secret.js';
import type { SignatureScheme, SigningInput, VerifyInput } from './signature-scheme.js';

/** Decoded keys that are kept: enough for the listeners that are busy now, and 64 bytes each. */
const MAX_CACHED_KEYS = 10_000;

const VERSION_PREFIX = 'v1,';

/**
 * The symmetric scheme of Standard Webhooks: `webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`,
 * one for each secret, separated by spaces, so that a receiver that still has the old secret accepts too.
 *
 * Secrets are `whsec_` and base64; the prefix may be missing, as in the reference libraries.
 *
 * @see https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export class StandardScheme implements SignatureScheme {
  readonly name = 'standard';

  /** Private by `#`, so that no `inspect` or logger prints the secrets that are its keys. */
  readonly #keys = new Map<string, KeyObject>();

  sign(input: SigningInput): Record<string, string> {
    let value = '';
    for (const secret of input.secrets) {
      value += `${value === '' ? '' : ' '}${VERSION_PREFIX}${this.#hmac(secret, input).toString('base64')}`;
    }
    return { 'webhook-signature': value };
  }

  verify(input: VerifyInput): boolean {
    const given = (input.headers['webhook-signature'] ?? '')
      .split(' ')
      .filter((part) => part.startsWith(VERSION_PREFIX))
      .map((part) => Buffer.from(part.slice(VERSION_PREFIX.length)));
    let matches = false;
    for (const secret of input.secrets) {
      const expected = Buffer.from(this.#hmac(secret, input).toString('base64'));
      for (const signature of given) {
        if (signature.length === expected.length && timingSafeEqual(signature, expected)) matches = true;
      }
    }
    return matches;
  }

  #hmac(secret: string, input: SigningInput): Buffer {
    return createHmac('sha256', this.#keyOf(secret))
      .update(`${input.id}.${input.timestamp}.`)
      .update(input.body)
      .digest();
  }

  #keyOf(secret: string): KeyObject {
    const cached = this.#keys.get(secret);
    if (cached !== undefined) return cached;
    const bytes = decodeBase64(secret.startsWith(SECRET_PREFIX) ? secret.slice(SECRET_PREFIX.length) : secret);
    if (bytes === null || bytes.length === 0) {
      throw new ConfigurationError(
        'INVALID_SECRET',
        `The secret of a webhook is not "${SECRET_PREFIX}" and base64: copy it again as it was shown.`,
      );
    }
    if (this.#keys.size >= MAX_CACHED_KEYS) this.#keys.clear();
    const key = createSecretKey(bytes);
    this.#keys.set(secret, key);
    return key;
  }
}
