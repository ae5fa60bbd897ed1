import { GithubScheme } from '../signing/github-scheme.js';
import { GoogleCodeScheme } from '../signing/google-code-scheme.js';
import { isEd25519Key } from '../signing/ed25519-key.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';
import { signaturesInPieces, StandardScheme } from '../signing/standard-scheme.js';
import { StripeScheme } from '../signing/stripe-scheme.js';
import { Turns } from '../turns.js';
import {
  bodyId,
  type IncomingWebhookProof,
  type IncomingWebhookRequest,
  IncomingWebhookScheme,
} from './incoming-webhook-scheme.js';
import { assertRecent, idOf, timestampOf, signatureMismatch } from './verify-incoming-webhook.js';
import { IncomingWebhookError } from './incoming-webhook-error.js';

/** The scheme of Standard Webhooks. The id and the timestamp are signed headers. */
export class StandardIncomingWebhookScheme extends IncomingWebhookScheme {
  readonly name = 'standard';
  private readonly scheme = new StandardScheme();

  async verify({ headers, body, secrets, ...limits }: IncomingWebhookRequest): Promise<IncomingWebhookProof> {
    const hasSignature = headers['webhook-signature'] !== undefined;
    const id = idOf(headers);
    const timestamp = timestampOf(headers);
    if (!(await isSigned(this.scheme, { id, timestamp, body, secrets, headers }))) {
      throw hasSignature ? signatureMismatch() : missing('webhook-signature');
    }
    assertFresh(timestamp, limits);
    return { id, timestamp };
  }
}

/**
 * The scheme of GitHub. The header `X-Hub-Signature-256` is the HMAC-SHA256 of the body. Neither `X-GitHub-Delivery`
 * nor a time is signed.
 */
export class GithubIncomingWebhookScheme extends IncomingWebhookScheme {
  readonly name = 'github';
  private readonly scheme = new GithubScheme();

  async verify({ headers, body, secrets }: IncomingWebhookRequest): Promise<IncomingWebhookProof> {
    if (headers['x-hub-signature-256'] === undefined) throw missing('x-hub-signature-256');
    if (!(await isSigned(this.scheme, { id: '', timestamp: 0, body, secrets, headers }))) throw signatureMismatch();
    return { id: bodyId(body), timestamp: null };
  }
}

/** The scheme of Stripe: `Stripe-Signature: t=…,v1=…`. The time and the body are signed. The body contains the id of the event. */
export class StripeIncomingWebhookScheme extends IncomingWebhookScheme {
  readonly name = 'stripe';
  private readonly scheme = new StripeScheme();

  async verify({ headers, body, secrets, ...limits }: IncomingWebhookRequest): Promise<IncomingWebhookProof> {
    const given = headers['stripe-signature'];
    if (given === undefined) throw missing('stripe-signature');
    const [, text = ''] = /(?:^|,) *t=(0|[1-9]\d{0,11}) *(?:,|$)/.exec(given) ?? [];
    if (text === '') {
      throw new IncomingWebhookError(
        'INVALID_TIMESTAMP',
        'The header stripe-signature has no `t=` in whole Unix seconds.',
      );
    }
    const timestamp = Number(text);
    // The scheme rejects a header with two timestamps.
    if (!(await isSigned(this.scheme, { id: '', timestamp, body, secrets, headers }))) throw signatureMismatch();
    assertFresh(timestamp, limits);
    return { id: idInBody(body) ?? bodyId(body), timestamp };
  }
}

/** The scheme of Google Code's post-commit hooks. The signature is the HMAC-MD5 of the body. Neither an id nor a time is signed. */
export class GoogleCodeIncomingWebhookScheme extends IncomingWebhookScheme {
  readonly name = 'google-code';
  private readonly scheme = new GoogleCodeScheme();

  async verify({ headers, body, secrets }: IncomingWebhookRequest): Promise<IncomingWebhookProof> {
    const header = 'google-code-project-hosting-hook-hmac';
    if (headers[header] === undefined) throw missing(header);
    if (!(await isSigned(this.scheme, { id: '', timestamp: 0, body, secrets, headers }))) throw signatureMismatch();
    return { id: bodyId(body), timestamp: null };
  }
}

/** The schemes that a source may name. */
export type IncomingWebhookSchemeName = 'standard' | 'stripe' | 'github' | 'google-code';

/** @internal */
export const INCOMING_WEBHOOK_SCHEMES: Readonly<Record<IncomingWebhookSchemeName, IncomingWebhookScheme>> =
  Object.freeze({
    standard: new StandardIncomingWebhookScheme(),
    stripe: new StripeIncomingWebhookScheme(),
    github: new GithubIncomingWebhookScheme(),
    'google-code': new GoogleCodeIncomingWebhookScheme(),
  });

const turns = new Turns();

/**
 * Whether one of the secrets made the signature. Every secret is tried, so the time does not reveal which secret matches. Between two
 * checks, other requests get a turn of the event loop. Without turns, the checks could block the event loop: each check reads the
 * whole body, and for Ed25519 the sender of the request chooses the number of signatures.
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
  { nowSeconds, toleranceSeconds }: Omit<IncomingWebhookRequest, 'headers' | 'body' | 'secrets'>,
) {
  assertRecent(timestamp, { now: nowSeconds * 1_000, toleranceSeconds });
}

function missing(header: string): IncomingWebhookError {
  return new IncomingWebhookError('MISSING_HEADER', `The header ${header} is missing.`);
}
