import { createHmac } from 'node:crypto';

import { anyMatches, decodeHex } from './signature-match.js';
import { type ReceivedHeaders, SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';

const HEADER = 'Stripe-Signature';
const SHA256_BYTES = 32;

/**
 * The scheme of Stripe: `Stripe-Signature: t=<Unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`, with one `v1` for each
 * secret. The key is the secret exactly as it is written, in UTF-8, with its prefix.
 *
 * It covers the time, so an old request is refused, but no id: one that our sender signed so, which has its id in a header
 * alone, can be sent again under another id while its timestamp is young enough.
 *
 * @see https://docs.stripe.com/webhooks/signature
 */
export class StripeScheme extends SignatureScheme {
  readonly name = 'stripe';

  sign({ timestamp, secrets, body }: SigningInput): Record<string, string> {
    const signatures = secrets.map((secret) => `,v1=${hmac(secret, String(timestamp), body).toString('hex')}`);
    return signatures.length ? { [HEADER]: `t=${timestamp}${signatures.join('')}` } : {};
  }

  verify({ headers, timestamp, secrets, body }: VerifyInput): boolean {
    const { t, v1 } = read(headers);
    const isOfThisTime = t === String(timestamp);
    const matches = anyMatches(
      v1.map((text) => decodeHex(text, SHA256_BYTES)).filter((signature) => signature !== null),
      secrets.map((secret) => hmac(secret, String(timestamp), body)),
    );
    return matches && isOfThisTime;
  }
}

/** Other versions, such as Stripe's `v0` of test events, are no signatures to us. With two times none can be believed. */
function read(headers: ReceivedHeaders): { t: string | undefined; v1: string[] } {
  const parts = (headers[HEADER.toLowerCase()] ?? '').split(',').map((part) => part.trim());
  const valuesOf = (name: string) =>
    parts.filter((part) => part.startsWith(`${name}=`)).map((part) => part.slice(name.length + 1));
  const times = valuesOf('t');
  return { t: times.length === 1 ? times[0] : undefined, v1: valuesOf('v1') };
}

function hmac(secret: string, timestamp: string, body: Buffer): Buffer {
  return createHmac('sha256', Buffer.from(secret, 'utf8')).update(`${timestamp}.`).update(body).digest();
}
