import { createHmac } from 'node:crypto';

import { anyMatches, decodeHex } from './signature-match.js';
import { type ReceivedHeaders, SignatureScheme, type SigningInput, type VerifyInput } from './signature-scheme.js';

const HEADER = 'Stripe-Signature';
const SHA256_BYTES = 32;

/**
 * The scheme of Stripe: `Stripe-Signature: t=<Unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`, with one `v1` for each
 * secret. The key is the UTF-8 bytes of the whole secret, including its prefix.
 *
 * The signature covers the time, so a receiver can refuse an old request. The signature does not cover an id: this library sends the id
 * only in a header. So an attacker who recorded a request can send the request again with another id, as long as its timestamp is recent
 * enough.
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
    const isSameTime = t === String(timestamp);
    const matches = anyMatches(
      v1.map((text) => decodeHex(text, SHA256_BYTES)).filter((signature) => signature !== null),
      secrets.map((secret) => hmac(secret, String(timestamp), body)),
    );
    return matches && isSameTime;
  }
}

/**
 * Reads the timestamp and the `v1` signatures of the header. Other versions are ignored, such as the `v0` of Stripe's
 * test events. Two timestamps in one header are ambiguous, so both are ignored.
 */
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
