import { ConfigurationError, WebhooksError } from '../errors.js';
import { lowerCaseHeaders, type WebhookHeaders } from './verify-webhook.js';
import { MINUTE } from '../time.js';

/** What {@link verifyWithSender} needs beside the address of the view. */
export interface VerifyWithSenderOptions {
  headers: WebhookHeaders;
  /** The body exactly as it arrived. */
  body: Uint8Array | string;
  /**
   * Time for the whole question, in milliseconds. Too short, and genuine webhooks fail while the sender is busy; too long,
   * and the sender, who still waits for your answer to the delivery, gives up first (ours after 15 seconds).
   *
   * @defaultValue 5_000
   */
  timeoutMs?: number;
  /** Headers to hand back beside those of the schemes that come with this library. @defaultValue none */
  signatureHeaders?: readonly string[];
  /** Also ask over `http:`, where everybody on the way can read the webhook and answer for the sender. @defaultValue false */
  allowHttp?: boolean;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const MAX_TIMEOUT_MS = 10 * MINUTE;
/** Our view answers in 8 bytes at most. */
const MAX_ANSWER_BYTES = 64;

const HANDED_BACK: readonly string[] = [
  'webhook-id',
  'webhook-timestamp',
  'webhook-signature',
  'x-hub-signature-256',
  'stripe-signature',
  'google-code-project-hosting-hook-hmac',
];

/** The sender's verify view gave no verdict: it was out of reach, too slow, or said something else. Answer 503, to be sent it again. */
export class SenderUnavailableError extends WebhooksError {
  constructor(message: string, options: { cause?: unknown; details?: Readonly<Record<string, unknown>> } = {}) {
    super('SENDER_UNAVAILABLE', message, options);
  }
}

/**
 * Hands a webhook back to its sender and asks whether it is genuine: for a receiver that holds no secret, or wants to be sure
 * once. `true` says that the sender sent exactly this body to somebody, at some time: neither that it is new nor that it was
 * meant for you.
 *
 * @param url the sender's verify view, from your own configuration; never one that the request names
 * @throws {@link SenderUnavailableError} `SENDER_UNAVAILABLE` without a verdict: the webhook is neither genuine nor false then
 * @throws {@link ConfigurationError} `INVALID_OPTION` for a URL that is none, or `http:` without `allowHttp`, and a time limit out of range
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
      // Whoever the view sends us to is not the sender.
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    });
    ({ status } = response);
    answer = await shortText(response);
  } catch (error) {
    const isTimeout = error instanceof Error && error.name === 'TimeoutError';
    throw new SenderUnavailableError(
      isTimeout
        ? `The sender's verify view gave no verdict within ${timeoutMs} ms.`
        : "The sender's verify view is out of reach.",
      { cause: error },
    );
  }
  if (status === 200 && answer === 'VERIFIED') return true;
  if (status === 200 && answer === 'INVALID') return false;
  throw new SenderUnavailableError(`The sender's verify view gave no verdict, but the status ${status}.`, {
    details: { status },
  });
}

/** @internal */
export function questionOf(
  given: string,
  { timeoutMs = DEFAULT_TIMEOUT_MS, allowHttp = false }: Pick<VerifyWithSenderOptions, 'timeoutMs' | 'allowHttp'>,
): { view: URL; timeoutMs: number } {
  const view = URL.canParse(given) ? new URL(given) : null;
  if (view === null || !(view.protocol === 'https:' || (allowHttp && view.protocol === 'http:'))) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      "The url of the sender's verify view is no 'https://…' address (nor 'http://…' with allowHttp: true).",
    );
  }
  if (!Number.isInteger(timeoutMs) || timeoutMs < 1 || timeoutMs > MAX_TIMEOUT_MS) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `timeoutMs of the sender's verify view is ${timeoutMs}: give whole milliseconds from 1 to ${MAX_TIMEOUT_MS}.`,
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
    // Leaving the loop cancels the rest.
    if (bytes > MAX_ANSWER_BYTES) break;
  }
  return Buffer.concat(chunks).toString('utf8').trim();
}
