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

/** The result of a check: whether the request is genuine, and if not, why. */
export interface Diagnosis {
  readonly isValid: boolean;
  /** `VALID`, or a code of `IncomingWebhookError`. */
  readonly code: string;
  /** An explanation for the developer of the receiver. */
  readonly message: string;
  readonly id: string | null;
  /** When the request was signed, in Unix seconds; `null` if the scheme signs no time. */
  readonly timestamp: number | null;
}

/**
 * Verifies a request as a receiver does. If the signature does not match, the function tries common mistakes of receivers: changed bodies,
 * spaces or quotes around the secret, and another scheme.
 *
 * @throws ConfigurationError `INVALID_SECRET` for a text that is no secret
 */
export async function diagnose(request: CheckedRequest): Promise<Diagnosis> {
  try {
    const { id, timestamp } = await verify(request);
    return {
      isValid: true,
      code: 'VALID',
      message: 'The signature matches the body, and the timestamp is current.',
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
    const change = await changeThatMatches(request);
    return change ?? NOTHING_MATCHES;
  }
  if (error.code === 'TIMESTAMP_TOO_OLD' || error.code === 'TIMESTAMP_IN_FUTURE')
    return `The signature matches the body. ${error.message}`;
  return error.message;
}

const NOTHING_MATCHES =
  'The signature does not match the body with this secret. Most likely this is not the secret of the listener: compare both. Otherwise the body or the id was changed on the way.';

interface Variant {
  readonly name: string;
  readonly body: (body: string) => string | undefined;
}

/** Undoes the usual ways in which receivers change a body by mistake. Each variant returns a body that the sender may have signed. */
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

async function changeThatMatches(request: CheckedRequest): Promise<string | undefined> {
  for (const { name, body } of BODIES) {
    const changed = body(request.body.toString('utf8'));
    if (changed === undefined || Buffer.from(changed).equals(request.body)) continue;
    if (await matches({ ...request, body: Buffer.from(changed) })) {
      return `The signature matches the body ${name}. Verify the raw body, byte for byte, and not parsed JSON.`;
    }
  }
  const trimmed = request.secrets.map((secret) => secret.trim().replaceAll(/^["']|["']$/g, ''));
  if (trimmed.join() !== request.secrets.join() && (await matches({ ...request, secrets: trimmed }))) {
    return 'The signature matches with the secret without the spaces or quotes around it. Remove them.';
  }
  for (const scheme of Object.keys(INCOMING_WEBHOOK_SCHEMES) as IncomingWebhookSchemeName[]) {
    if (scheme !== request.scheme && (await matches({ ...request, scheme }))) {
      return `The request is signed by the scheme '${scheme}'. Verify with that scheme.`;
    }
  }
  return undefined;
}

/** Whether the signature matches, even if the timestamp is too old. */
async function matches(request: CheckedRequest): Promise<boolean> {
  try {
    await verify({ ...request, toleranceSeconds: Infinity });
    return true;
  } catch {
    return false; // a secret may not fit every scheme
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
