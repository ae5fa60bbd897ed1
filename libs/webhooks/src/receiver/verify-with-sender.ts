import { ConfigurationError, WebhooksError } from '../errors.js';
import { lowerCaseHeaders, type IncomingWebhookHeaders } from './verify-incoming-webhook.js';
import { parseUrl } from '../parse-url.js';
import { MINUTE } from '../time.js';

/** Options of {@link verifyWithSender}. */
export interface VerifyWithSenderOptions {
  headers: IncomingWebhookHeaders;
  /** The unchanged bytes of the body. */
  body: Uint8Array | string;
  /**
   * Time limit for the request to the view, in milliseconds. If the limit is too short, genuine webhooks fail while the sender is
   * busy. If the limit is too long, the delivery itself times out first, because the sender waits for your answer only for a
   * limited time (this library: 15 seconds).
   *
   * @defaultValue 5_000
   */
  timeoutMs?: number;
  /** Headers to send back, in addition to the headers of this library's schemes. @defaultValue none */
  signatureHeaders?: readonly string[];
  /**
   * Whether an `http:` URL of the view is allowed. With `http:`, everyone on the network path can read the webhook and forge the
   * verdict. @defaultValue false
   */
  allowHttp?: boolean;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const MAX_TIMEOUT_MS = 10 * MINUTE;
/** Maximum number of bytes of the answer that are read. This is enough for `VERIFIED` and `INVALID`. */
const MAX_ANSWER_BYTES = 64;

const HANDED_BACK: readonly string[] = [
  'webhook-id',
  'webhook-timestamp',
  'webhook-signature',
  'x-hub-signature-256',
  'stripe-signature',
  'google-code-project-hosting-hook-hmac',
];

/**
 * The verify view of the sender returned no verdict. The view was unreachable or too slow, or its answer was unexpected. Answer 503: then
 * the sender retries.
 */
export class SenderUnavailableError extends WebhooksError {
  constructor(message: string, options: { cause?: unknown; details?: Readonly<Record<string, unknown>> } = {}) {
    super('SENDER_UNAVAILABLE', message, options);
  }
}

/**
 * Sends a webhook back to its sender, and asks whether the webhook is genuine. Use this function in a receiver without a secret,
 * or for an additional check. `true` means that the sender sent exactly this body to some receiver at some time. `true` does not
 * mean that the webhook is new, or that the webhook was sent to you.
 *
 * @param url the URL of the sender's verify view. Take this URL from your own configuration, and never from the request
 * @throws {@link SenderUnavailableError} `SENDER_UNAVAILABLE` if there is no verdict. Then it is unknown whether the webhook
 * is genuine
 * @throws {@link ConfigurationError} `INVALID_OPTION` for an invalid URL, an `http:` URL without `allowHttp`, or a `timeoutMs` out of range
 *
 * @example
 * const isGenuine = await verifyWithSender('https://shop.example/webhooks/verify', { headers: req.headers, body: req.rawBody });
 */
export async function verifyWithSender(url: string, options: VerifyWithSenderOptions): Promise<boolean> {
  const { view, timeoutMs } = questionOf(url, options);
  const { body } = options;
  let status: number;
  let answer: string;
  try {
    const response = await fetch(view, {
      method: 'POST',
      headers: handedBack(options),
      body: typeof body === 'string' ? body : new Uint8Array(body),
      // Follow no redirect, because the target of a redirect is not the sender.
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    });
    ({ status } = response);
    answer = await shortText(response);
  } catch (error) {
    const isTimeout = error instanceof Error && error.name === 'TimeoutError';
    throw new SenderUnavailableError(
      isTimeout
        ? `The sender's verify view returned no verdict within ${timeoutMs} ms.`
        : "The sender's verify view cannot be reached (see cause).",
      { cause: error },
    );
  }
  if (status === 200 && answer === 'VERIFIED') return true;
  if (status === 200 && answer === 'INVALID') return false;
  throw new SenderUnavailableError(`The sender's verify view returned status ${status} and no verdict.`, {
    details: { status },
  });
}

/** @internal */
export function questionOf(
  given: string,
  { timeoutMs = DEFAULT_TIMEOUT_MS, allowHttp = false }: Pick<VerifyWithSenderOptions, 'timeoutMs' | 'allowHttp'>,
): { view: URL; timeoutMs: number } {
  const view = parseUrl(given);
  if (view === null || !(view.protocol === 'https:' || (allowHttp && view.protocol === 'http:'))) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      "Invalid URL of the sender's verify view. Allowed: 'https://…', and 'http://…' with allowHttp: true.",
    );
  }
  if (!Number.isInteger(timeoutMs) || timeoutMs < 1 || timeoutMs > MAX_TIMEOUT_MS) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `Invalid value ${timeoutMs} for \`timeoutMs\` of the sender's verify view. Allowed: a whole number of milliseconds from 1 to ${MAX_TIMEOUT_MS}.`,
    );
  }
  return { view, timeoutMs };
}

function handedBack({ headers, signatureHeaders = [] }: VerifyWithSenderOptions): Record<string, string> {
  const received = lowerCaseHeaders(headers);
  const kept: Record<string, string> = { 'content-type': 'application/octet-stream' };
  for (const name of [...HANDED_BACK, ...signatureHeaders.map((header) => header.toLowerCase())]) {
    const value = received[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept;
}

async function shortText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk as Uint8Array);
    bytes += (chunk as Uint8Array).length;
    // `break` also cancels the rest of the answer.
    if (bytes > MAX_ANSWER_BYTES) break;
  }
  return Buffer.concat(chunks).toString('utf8').trim();
}
