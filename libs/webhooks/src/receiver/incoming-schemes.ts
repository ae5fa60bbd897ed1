import { GithubScheme } from '../signing/github-scheme.js';
import { GoogleCodeScheme } from '../signing/google-code-scheme.js';
import { StandardScheme } from '../signing/standard-scheme.js';
import { StripeScheme } from '../signing/stripe-scheme.js';
import { bodyId, type IncomingProof, type IncomingRequest, IncomingScheme } from './incoming-scheme.js';
import { assertRecent, idOf, timestampOf } from './verify-webhook.js';
import { WebhookVerificationError } from './webhook-verification-error.js';

/** Standard Webhooks: id and timestamp stand in headers, and are signed. */
export class StandardIncoming extends IncomingScheme {
  readonly name = 'standard';
  private readonly scheme = new StandardScheme();

  verify({ headers, body, secrets, ...limits }: IncomingRequest): IncomingProof {
    const isSigned = headers['webhook-signature'] !== undefined;
    const id = idOf(headers);
    const timestamp = timestampOf(headers);
    if (!this.scheme.verify({ id, timestamp, body, secrets, headers })) {
      throw isSigned ? mismatch() : missing('webhook-signature');
    }
    assertFresh(timestamp, limits);
    return { id, timestamp };
  }
}

/** GitHub's `X-Hub-Signature-256`: the HMAC-SHA256 of the body alone, so neither `X-GitHub-Delivery` nor a time is signed. */
export class GithubIncoming extends IncomingScheme {
  readonly name = 'github';
  private readonly scheme = new GithubScheme();

  verify({ headers, body, secrets }: IncomingRequest): IncomingProof {
    if (headers['x-hub-signature-256'] === undefined) throw missing('x-hub-signature-256');
    if (!this.scheme.verify({ id: '', timestamp: 0, body, secrets, headers })) throw mismatch();
    return { id: bodyId(body), timestamp: null };
  }
}

/** Stripe's `Stripe-Signature: t=…,v1=…`: time and body are signed, and the event's id stands in the body. */
export class StripeIncoming extends IncomingScheme {
  readonly name = 'stripe';
  private readonly scheme = new StripeScheme();

  verify({ headers, body, secrets, ...limits }: IncomingRequest): IncomingProof {
    const given = headers['stripe-signature'];
    if (given === undefined) throw missing('stripe-signature');
    const [, text = ''] = /(?:^|,) *t=(0|[1-9]\d{0,11}) *(?:,|$)/.exec(given) ?? [];
    if (text === '') {
      throw new WebhookVerificationError('INVALID_TIMESTAMP', 'stripe-signature has no t= of whole Unix seconds.');
    }
    const timestamp = Number(text);
    // It refuses a header with two times.
    if (!this.scheme.verify({ id: '', timestamp, body, secrets, headers })) throw mismatch();
    assertFresh(timestamp, limits);
    return { id: idInBody(body) ?? bodyId(body), timestamp };
  }
}

/** Google Code's post-commit hooks: the HMAC-MD5 of the body, and nothing else. */
export class GoogleCodeIncoming extends IncomingScheme {
  readonly name = 'google-code';
  private readonly scheme = new GoogleCodeScheme();

  verify({ headers, body, secrets }: IncomingRequest): IncomingProof {
    const header = 'google-code-project-hosting-hook-hmac';
    if (headers[header] === undefined) throw missing(header);
    if (!this.scheme.verify({ id: '', timestamp: 0, body, secrets, headers })) throw mismatch();
    return { id: bodyId(body), timestamp: null };
  }
}

/** The schemes that a source may name. */
export type IncomingSchemeName = 'standard' | 'stripe' | 'github' | 'google-code';

/** @internal */
export const INCOMING_SCHEMES: Readonly<Record<IncomingSchemeName, IncomingScheme>> = Object.freeze({
  standard: new StandardIncoming(),
  stripe: new StripeIncoming(),
  github: new GithubIncoming(),
  'google-code': new GoogleCodeIncoming(),
});

function idInBody(body: Buffer): string | null {
  try {
    const payload: unknown = JSON.parse(body.toString('utf8'));
    const id = typeof payload === 'object' && payload !== null && 'id' in payload ? payload.id : null;
    return typeof id === 'string' && id !== '' ? id : null;
  } catch {
    return null;
  }
}

function assertFresh(
  timestamp: number,
  { nowSeconds, toleranceSeconds }: Omit<IncomingRequest, 'headers' | 'body' | 'secrets'>,
) {
  assertRecent(timestamp, { now: nowSeconds * 1_000, toleranceSeconds });
}

function missing(header: string): WebhookVerificationError {
  return new WebhookVerificationError('MISSING_HEADER', `The header ${header} is missing.`);
}

function mismatch(): WebhookVerificationError {
  return new WebhookVerificationError('SIGNATURE_MISMATCH', 'No secret made this signature over this body.');
}
