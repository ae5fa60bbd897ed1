import { GithubScheme } from '../signing/github-scheme.js';
import { GoogleCodeScheme } from '../signing/google-code-scheme.js';
import { isEd25519Key } from '../signing/ed25519-key.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';
import { signaturesInPieces, StandardScheme } from '../signing/standard-scheme.js';
import { StripeScheme } from '../signing/stripe-scheme.js';
import { Turns } from '../turns.js';
import { bodyId, type IncomingProof, type IncomingRequest, IncomingScheme } from './incoming-scheme.js';
import { assertRecent, idOf, timestampOf } from './verify-webhook.js';
import { WebhookVerificationError } from './webhook-verification-error.js';

/** Standard Webhooks: id and timestamp are signed headers. */
export class StandardIncoming extends IncomingScheme {
  readonly name = 'standard';
  private readonly scheme = new StandardScheme();

  async verify({ headers, body, secrets, ...limits }: IncomingRequest): Promise<IncomingProof> {
    const hasSignature = headers['webhook-signature'] !== undefined;
    const id = idOf(headers);
    const timestamp = timestampOf(headers);
    if (!(await isSigned(this.scheme, { id, timestamp, body, secrets, headers }))) {
      throw hasSignature ? mismatch() : missing('webhook-signature');
    }
    assertFresh(timestamp, limits);
    return { id, timestamp };
  }
}

/** GitHub's `X-Hub-Signature-256`: the HMAC-SHA256 of the body. Neither `X-GitHub-Delivery` nor a time is signed. */
export class GithubIncoming extends IncomingScheme {
  readonly name = 'github';
  private readonly scheme = new GithubScheme();

  async verify({ headers, body, secrets }: IncomingRequest): Promise<IncomingProof> {
    if (headers['x-hub-signature-256'] === undefined) throw missing('x-hub-signature-256');
    if (!(await isSigned(this.scheme, { id: '', timestamp: 0, body, secrets, headers }))) throw mismatch();
    return { id: bodyId(body), timestamp: null };
  }
}

/** Stripe's `Stripe-Signature: t=…,v1=…`: time and body are signed, and the body contains the event's id. */
export class StripeIncoming extends IncomingScheme {
  readonly name = 'stripe';
  private readonly scheme = new StripeScheme();

  async verify({ headers, body, secrets, ...limits }: IncomingRequest): Promise<IncomingProof> {
    const given = headers['stripe-signature'];
    if (given === undefined) throw missing('stripe-signature');
    const [, text = ''] = /(?:^|,) *t=(0|[1-9]\d{0,11}) *(?:,|$)/.exec(given) ?? [];
    if (text === '') {
      throw new WebhookVerificationError(
        'INVALID_TIMESTAMP',
        'The header stripe-signature has no `t=` in whole Unix seconds.',
      );
    }
    const timestamp = Number(text);
    // The scheme rejects a header with two times.
    if (!(await isSigned(this.scheme, { id: '', timestamp, body, secrets, headers }))) throw mismatch();
    assertFresh(timestamp, limits);
    return { id: idInBody(body) ?? bodyId(body), timestamp };
  }
}

/** Google Code's post-commit hooks: the HMAC-MD5 of the body. Neither an id nor a time is signed. */
export class GoogleCodeIncoming extends IncomingScheme {
  readonly name = 'google-code';
  private readonly scheme = new GoogleCodeScheme();

  async verify({ headers, body, secrets }: IncomingRequest): Promise<IncomingProof> {
    const header = 'google-code-project-hosting-hook-hmac';
    if (headers[header] === undefined) throw missing(header);
    if (!(await isSigned(this.scheme, { id: '', timestamp: 0, body, secrets, headers }))) throw mismatch();
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

const turns = new Turns();

/**
 * Whether any of the secrets signed. Each is tried, whichever fits, and other requests have a turn between them: each goes through the whole
 * body, and for Ed25519 whoever asks chooses how many signatures do.
 */
async function isSigned(
  scheme: SignatureScheme,
  { secrets, ...input }: Parameters<SignatureScheme['verify']>[0],
): Promise<boolean> {
  const turn = turns.begin();
  let isGenuine = false;
  for (const secret of secrets) {
    const pieces = isEd25519Key(secret) ? signaturesInPieces(input.headers, input.body.length) : [input.headers];
    for (const headers of pieces) {
      await turn.pass();
      if (scheme.verify({ ...input, headers, secrets: [secret] })) isGenuine = true;
    }
  }
  return isGenuine;
}

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
