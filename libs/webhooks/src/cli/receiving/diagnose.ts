import { IncomingWebhookError } from '../../receiver/incoming-webhook-error.js';
import type { IncomingWebhookProof } from '../../receiver/incoming-webhook-scheme.js';
import { INCOMING_WEBHOOK_SCHEMES, type IncomingWebhookSchemeName } from '../../receiver/incoming-webhook-schemes.js';

/** A request to check. */
export interface CheckedRequest {
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Buffer;
  /** Secrets, or public keys `whpk_…`. */
  readonly secrets: readonly string[];
  readonly scheme: IncomingWebhookSchemeName;
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly toleranceSeconds: number;
}

/** What is wrong with a request, if anything. */
export interface Diagnosis {
  readonly isValid: boolean;
  /** `VALID`, or a code of `IncomingWebhookError`. */
  readonly code: string;
  /** A sentence for the person who wrote the receiver. */
  readonly message: string;
  readonly id: string | null;
  /** When the request was signed, in Unix seconds; `null` if the scheme signs no time. */
  readonly timestamp: number | null;
}

/**
 * Verifies a request like a receiver does. If the signature does not match, it looks for a change of the body or of the secret with which it
 * would match: those are the mistakes that receivers make.
 *
 * @throws ConfigurationError `INVALID_SECRET` for a text that is no secret
 */
export async function diagnose(request: CheckedRequest): Promise<Diagnosis> {
  try {
    const { id, timestamp } = await verify(request);
    return {
      isValid: true,
      code: 'VALID',
      message: 'The signature fits the body, and the time is right.',
      id,
      timestamp,
    };
  } catch (error) {
    if (!(error instanceof IncomingWebhookError)) throw error;
    return { isValid: false, id: null, timestamp: null, code: error.code, message: await explained(error, request) };
  }
}

async function explained(error: IncomingWebhookError, request: CheckedRequest): Promise<string> {
  if (error.code === 'SIGNATURE_MISMATCH') {
    const change = await changeThatFits(request);
    return change ?? NOTHING_FITS;
  }
  if (error.code === 'TIMESTAMP_TOO_OLD' || error.code === 'TIMESTAMP_IN_FUTURE')
    return `The signature fits the body. ${error.message}`;
  return error.message;
}

const NOTHING_FITS =
  'The signature does not fit the body with this secret. Most likely the secret is another one: compare it with the secret of the listener. Otherwise the body or the id was changed on the way.';

interface Variant {
  readonly name: string;
  readonly body: (body: string) => string | undefined;
}

/** How receivers change a body by mistake, undone. Each gives the body that the sender may have signed. */
const BODIES: readonly Variant[] = [
  { name: 'with a newline at its end', body: (body) => `${body}\n` },
  { name: 'without the newline at its end', body: (body) => withoutEnd(body) },
  { name: 'with LF line ends instead of CRLF', body: (body) => body.replaceAll('\r\n', '\n') },
  { name: 'with CRLF line ends instead of LF', body: (body) => body.replaceAll(/\r?\n/g, '\r\n') },
  { name: 'without the byte order mark at its start', body: (body) => body.replace(/^\ufeff/, '') },
  { name: 'as compact JSON', body: (body) => rewritten(body, (value) => JSON.stringify(value)) },
  { name: 'as JSON with an indent of 2', body: (body) => rewritten(body, (value) => JSON.stringify(value, null, 2)) },
  { name: 'as JSON with an indent of 4', body: (body) => rewritten(body, (value) => JSON.stringify(value, null, 4)) },
];

async function changeThatFits(request: CheckedRequest): Promise<string | undefined> {
  for (const { name, body } of BODIES) {
    const changed = body(request.body.toString('utf8'));
    if (changed === undefined || Buffer.from(changed).equals(request.body)) continue;
    if (await fits({ ...request, body: Buffer.from(changed) })) {
      return `The signature fits the body ${name}. Verify the raw body, byte for byte, and not parsed JSON.`;
    }
  }
  const trimmed = request.secrets.map((secret) => secret.trim().replaceAll(/^["']|["']$/g, ''));
  if (trimmed.join() !== request.secrets.join() && (await fits({ ...request, secrets: trimmed }))) {
    return 'The signature fits with the secret without the spaces or quotes around it. Remove them.';
  }
  for (const scheme of Object.keys(INCOMING_WEBHOOK_SCHEMES) as IncomingWebhookSchemeName[]) {
    if (scheme !== request.scheme && (await fits({ ...request, scheme }))) {
      return `The signature of the scheme '${scheme}' fits. Verify with that scheme.`;
    }
  }
  return undefined;
}

/** Whether the signature fits, at whatever time. */
async function fits(request: CheckedRequest): Promise<boolean> {
  try {
    await verify({ ...request, toleranceSeconds: Infinity });
    return true;
  } catch {
    return false; // also if the secret does not suit another scheme
  }
}

async function verify({ scheme, now, ...request }: CheckedRequest): Promise<IncomingWebhookProof> {
  return INCOMING_WEBHOOK_SCHEMES[scheme].verify({ ...request, nowSeconds: Math.floor(now / 1_000) });
}

function withoutEnd(body: string): string {
  return body.replace(/\r?\n$/, '');
}

function rewritten(body: string, write: (value: unknown) => string): string | undefined {
  try {
    return write(JSON.parse(body));
  } catch {
    return undefined;
  }
}
