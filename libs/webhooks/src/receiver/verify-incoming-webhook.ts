import { ConfigurationError } from '../errors.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';
import { StandardScheme } from '../signing/standard-scheme.js';
import { depthOf } from './incoming-webhook.js';
import { IncomingWebhookError } from './incoming-webhook-error.js';

const DEFAULT_TOLERANCE_SECONDS = 5 * 60;

/** Length of the longest accepted id, in characters. Ids of this library have 40 characters. */
const MAX_ID_LENGTH = 256;

/** `IncomingHttpHeaders` of Node.js, a `Headers` object of the Fetch API, or a plain record with names in any letter case. */
export type IncomingWebhookHeaders =
  Readonly<Record<string, string | readonly string[] | undefined>> | Iterable<readonly [string, string]>;

/** Arguments of {@link verifyIncomingWebhook}. */
export interface VerifyIncomingWebhookOptions {
  headers: IncomingWebhookHeaders;
  /**
   * The unchanged bytes of the body. Do not pass the parsed JSON. If parsed JSON is serialized again, its bytes may differ, and then no
   * signature matches. In Nest, use `NestFactory.create(AppModule, { rawBody: true })` and `request.rawBody`.
   */
  body: Uint8Array | string;
  /** The secret of the listener. During a rotation, give several secrets: the sender may have signed with each of these secrets. */
  secrets: string | readonly string[];
  /**
   * The largest allowed difference between the timestamp and now, in both directions, in seconds. If the value is too small,
   * deliveries are rejected when a clock drifts. If the value is too large, an attacker has more time to send a recorded request
   * again.
   *
   * @defaultValue 300
   */
  toleranceSeconds?: number;
  /** The current time, in milliseconds since 1970. @defaultValue Date.now() */
  now?: number;
  /** The scheme of the signature. @defaultValue the `standard` scheme */
  scheme?: SignatureScheme;
}

/** A verified webhook. */
export interface IncomingWebhook<T = unknown> {
  /**
   * The id of the event. The id is the same in every delivery of the event. Store the ids of processed events, and
   * ignore an event whose id you have already stored.
   */
  id: string;
  /** When this attempt was made, in Unix seconds. `payload.timestamp` is the time of the event. */
  timestamp: number;
  /** The event type, such as `order.updated`. */
  type: string;
  data: T;
  /** For updates: the old values of the changed fields. */
  previous?: Record<string, unknown>;
  /** The length of the chain of events that led to this event. {@link withIncomingWebhook} uses this number. */
  depth: number;
  /** The complete JSON object of the body. */
  payload: Record<string, unknown>;
}

/**
 * Verifies that the body of a request was signed recently with one of the secrets.
 *
 * The `google-code` scheme signs neither the id nor the timestamp. So an attacker who recorded one request can send the
 * request again with another id.
 *
 * @example
 * ```ts
 * app.post('/hooks', express.raw({ type: '*\/*' }), (req, res) => {
 *   const webhook = verifyIncomingWebhook({ headers: req.headers, body: req.body, secrets: process.env.WEBHOOK_SECRET! });
 *   res.sendStatus(204);
 * });
 * ```
 *
 * @throws {@link IncomingWebhookError} when the request is not a genuine webhook; its `code` is the reason
 * @throws {@link ConfigurationError} for mistakes of the receiver: `INVALID_SECRET` (a secret is missing or invalid),
 * `RAW_BODY_MISSING` (the body is not raw), `INVALID_OPTION` (`toleranceSeconds`)
 */
export function verifyIncomingWebhook<T = unknown>(options: VerifyIncomingWebhookOptions): IncomingWebhook<T> {
  const secrets = secretsOf(options.secrets);
  const body = rawBodyOf(options.body);
  const headers = lowerCaseHeaders(options.headers);
  const id = idOf(headers);
  const timestamp = timestampOf(headers);
  const scheme = options.scheme ?? new StandardScheme();

  // The signature is checked first, because the timestamp of a forged request has no meaning.
  if (!scheme.verify({ id, timestamp, body, secrets, headers })) {
    throw headers['webhook-signature'] === undefined && scheme.name === 'standard'
      ? new IncomingWebhookError('MISSING_HEADER', 'The header webhook-signature is missing.')
      : signatureMismatch();
  }
  assertRecent(timestamp, options);
  return { id, timestamp, depth: depthOf(headers), ...parsePayload<T>(body) };
}

/** @internal */
export function signatureMismatch(): IncomingWebhookError {
  return new IncomingWebhookError(
    'SIGNATURE_MISMATCH',
    'The signature does not match the body with any of the secrets. Check the secrets, and pass the body exactly as it arrived.',
  );
}

function secretsOf(given: string | readonly string[]): readonly string[] {
  const secrets = typeof given === 'string' ? [given] : given;
  if (!Array.isArray(secrets) || secrets.length === 0 || secrets.some((s) => typeof s !== 'string' || s === '')) {
    throw new ConfigurationError(
      'INVALID_SECRET',
      '`secrets` of verifyIncomingWebhook() is missing or empty. Pass the secret of the listener, or a list of secrets. Is its environment variable set?',
    );
  }
  return secrets;
}

function rawBodyOf(body: unknown): Buffer {
  if (typeof body === 'string') return Buffer.from(body, 'utf8');
  if (body instanceof Uint8Array) return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  throw new ConfigurationError(
    'RAW_BODY_MISSING',
    '`body` of verifyIncomingWebhook() is not the raw body. Allowed: a Buffer, a Uint8Array or a string with the exact bytes. In Nest, create the application with { rawBody: true } and pass request.rawBody.',
  );
}

/** @internal */
export function lowerCaseHeaders(headers: IncomingWebhookHeaders): Record<string, string | undefined> {
  const entries = isIterable(headers) ? [...headers] : Object.entries(headers);
  const lower: Record<string, string | undefined> = Object.create(null) as Record<string, string | undefined>;
  for (const [name, value] of entries) {
    const key = name.toLowerCase();
    if (typeof value === 'string') {
      // If a header occurs twice with different letter case, neither value can be trusted.
      lower[key] = key in lower ? undefined : value;
    } else if (Array.isArray(value)) {
      lower[key] = value.length === 1 && !(key in lower) ? String(value[0]) : undefined;
    }
  }
  return lower;
}

function isIterable(headers: IncomingWebhookHeaders): headers is Iterable<readonly [string, string]> {
  return Symbol.iterator in headers;
}

/** @internal */
export function idOf(headers: Record<string, string | undefined>): string {
  const id = headers['webhook-id'];
  if (id === undefined || id === '' || id.length > MAX_ID_LENGTH) {
    throw new IncomingWebhookError('MISSING_HEADER', 'The header webhook-id is missing.');
  }
  return id;
}

/** @internal */
export function timestampOf(headers: Record<string, string | undefined>): number {
  const text = headers['webhook-timestamp'];
  if (text === undefined) {
    throw new IncomingWebhookError('MISSING_HEADER', 'The header webhook-timestamp is missing.');
  }
  // The text must have exactly one form, because the sender signed the text. `parseInt` would also accept
  // "1614265330abc", " 1614265330" and "1e9".
  if (!/^(?:0|[1-9]\d{0,11})$/.test(text)) {
    throw new IncomingWebhookError('INVALID_TIMESTAMP', 'The header webhook-timestamp is not whole Unix seconds.');
  }
  return Number(text);
}

/** @internal */
export function assertRecent(
  timestamp: number,
  options: Pick<VerifyIncomingWebhookOptions, 'now' | 'toleranceSeconds'>,
): void {
  const nowSeconds = Math.floor((options.now ?? Date.now()) / 1000);
  const tolerance = options.toleranceSeconds ?? DEFAULT_TOLERANCE_SECONDS;
  if (Number.isNaN(tolerance) || tolerance < 0) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `Invalid value ${tolerance} for \`toleranceSeconds\`. Allowed: seconds, from 0.`,
    );
  }
  if (nowSeconds - timestamp > tolerance) {
    throw new IncomingWebhookError('TIMESTAMP_TOO_OLD', `The webhook was signed more than ${tolerance} seconds ago.`);
  }
  if (timestamp - nowSeconds > tolerance) {
    throw new IncomingWebhookError(
      'TIMESTAMP_IN_FUTURE',
      `The webhook's timestamp is more than ${tolerance} seconds in the future. Check the clocks.`,
    );
  }
}

function parsePayload<T>(body: Buffer): Pick<IncomingWebhook<T>, 'type' | 'data' | 'previous' | 'payload'> {
  let payload: unknown;
  try {
    payload = JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new IncomingWebhookError('INVALID_PAYLOAD', 'The body is not JSON.', { cause: error });
  }
  if (!isRecord(payload) || typeof payload.type !== 'string') {
    throw new IncomingWebhookError('INVALID_PAYLOAD', 'The body is not a JSON object with a string `type`.');
  }
  return {
    type: payload.type,
    data: payload.data as T,
    ...(isRecord(payload.previous) ? { previous: payload.previous } : {}),
    payload,
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
