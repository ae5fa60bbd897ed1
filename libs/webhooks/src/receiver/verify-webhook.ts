import { ConfigurationError } from '../errors.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';
import { StandardScheme } from '../signing/standard-scheme.js';
import { depthOf } from './incoming-webhook.js';
import { WebhookVerificationError } from './webhook-verification-error.js';

const DEFAULT_TOLERANCE_SECONDS = 5 * 60;

/** Longest id that is believed to be one; ours have 40 characters. */
const MAX_ID_LENGTH = 256;

/** Node's `IncomingHttpHeaders`, a Fetch `Headers`, or a plain record with names in any case. */
export type WebhookHeaders =
  Readonly<Record<string, string | readonly string[] | undefined>> | Iterable<readonly [string, string]>;

/** What {@link verifyWebhook} needs. */
export interface VerifyWebhookOptions {
  headers: WebhookHeaders;
  /**
   * The body exactly as it arrived. Not the parsed JSON: writing that out again gives other bytes, and no signature fits.
   * In Nest: `NestFactory.create(AppModule, { rawBody: true })` and `request.rawBody`.
   */
  body: Uint8Array | string;
  /** The listener's secret, or several while one is being rotated: any of them may have signed. */
  secrets: string | readonly string[];
  /**
   * How far the timestamp may be from now, either way, in seconds. Too small refuses deliveries when a clock drifts; too
   * large gives somebody who recorded a request longer to send it again.
   *
   * @defaultValue 300
   */
  toleranceSeconds?: number;
  /** The time, in milliseconds. @defaultValue Date.now() */
  now?: number;
  /** How it was signed. @defaultValue the `standard` scheme */
  scheme?: SignatureScheme;
}

/** A webhook that is genuine. */
export interface VerifiedWebhook<T = unknown> {
  /** The event's id, the same at every delivery of it: remember it, and do nothing the second time. */
  id: string;
  /** When this attempt was made (not when the event happened, which is `payload.timestamp`), in Unix seconds. */
  timestamp: number;
  /** Such as `order.updated`. */
  type: string;
  data: T;
  /** On updates: the old values of what changed. */
  previous?: Record<string, unknown>;
  /** How many events in a row led to this one; for {@link withIncomingWebhook}. */
  depth: number;
  /** The whole JSON object. */
  payload: Record<string, unknown>;
}

/**
 * Checks that a request is a webhook which the holder of a secret signed, recently, over exactly these bytes.
 *
 * With the `google-code` scheme neither id nor timestamp is signed: whoever records one request can send it again under
 * another id.
 *
 * @example
 * ```ts
 * app.post('/hooks', express.raw({ type: '*\/*' }), (req, res) => {
 *   const webhook = verifyWebhook({ headers: req.headers, body: req.body, secrets: process.env.WEBHOOK_SECRET! });
 *   res.sendStatus(204);
 * });
 * ```
 *
 * @throws {@link WebhookVerificationError} when it is not; its `code` says why
 * @throws {@link ConfigurationError} when there is no secret, a secret is none, or the body is not the raw one: mistakes of
 * the receiver's own
 */
export function verifyWebhook<T = unknown>(options: VerifyWebhookOptions): VerifiedWebhook<T> {
  const secrets = secretsOf(options.secrets);
  const body = rawBodyOf(options.body);
  const headers = lowerCaseHeaders(options.headers);
  const id = idOf(headers);
  const timestamp = timestampOf(headers);
  const scheme = options.scheme ?? new StandardScheme();

  // The signature comes before the age: only the age of something genuine means anything.
  if (!scheme.verify({ id, timestamp, body, secrets, headers })) {
    throw headers['webhook-signature'] === undefined && scheme.name === 'standard'
      ? new WebhookVerificationError('MISSING_HEADER', 'The header webhook-signature is missing.')
      : new WebhookVerificationError('SIGNATURE_MISMATCH', 'No secret made this signature over this body.');
  }
  assertRecent(timestamp, options);
  return { id, timestamp, depth: depthOf(headers), ...parsePayload<T>(body) };
}

function secretsOf(given: string | readonly string[]): readonly string[] {
  const secrets = typeof given === 'string' ? [given] : given;
  if (!Array.isArray(secrets) || secrets.length === 0 || secrets.some((s) => typeof s !== 'string' || s === '')) {
    throw new ConfigurationError('INVALID_SECRET', 'verifyWebhook needs the secret of the listener: is it set?');
  }
  return secrets;
}

function rawBodyOf(body: unknown): Buffer {
  if (typeof body === 'string') return Buffer.from(body, 'utf8');
  if (body instanceof Uint8Array) return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  throw new ConfigurationError(
    'RAW_BODY_MISSING',
    'verifyWebhook needs the body as it arrived, a Buffer or a string: in Nest create the application with { rawBody: true } and pass request.rawBody.',
  );
}

/** @internal */
export function lowerCaseHeaders(headers: WebhookHeaders): Record<string, string | undefined> {
  const entries = isIterable(headers) ? [...headers] : Object.entries(headers);
  const lower: Record<string, string | undefined> = Object.create(null) as Record<string, string | undefined>;
  for (const [name, value] of entries) {
    const key = name.toLowerCase();
    if (typeof value === 'string') {
      // Twice, in two cases: neither can be believed.
      lower[key] = key in lower ? undefined : value;
    } else if (Array.isArray(value)) {
      lower[key] = value.length === 1 && !(key in lower) ? String(value[0]) : undefined;
    }
  }
  return lower;
}

function isIterable(headers: WebhookHeaders): headers is Iterable<readonly [string, string]> {
  return Symbol.iterator in headers;
}

/** @internal */
export function idOf(headers: Record<string, string | undefined>): string {
  const id = headers['webhook-id'];
  if (id === undefined || id === '' || id.length > MAX_ID_LENGTH) {
    throw new WebhookVerificationError('MISSING_HEADER', 'The header webhook-id is missing.');
  }
  return id;
}

/** @internal */
export function timestampOf(headers: Record<string, string | undefined>): number {
  const text = headers['webhook-timestamp'];
  if (text === undefined) {
    throw new WebhookVerificationError('MISSING_HEADER', 'The header webhook-timestamp is missing.');
  }
  // parseInt would read "1614265330abc", " 1614265330" and "1e9": the sender signed the text, not what we make of it.
  if (!/^(?:0|[1-9]\d{0,11})$/.test(text)) {
    throw new WebhookVerificationError('INVALID_TIMESTAMP', 'The header webhook-timestamp is not whole Unix seconds.');
  }
  return Number(text);
}

/** @internal */
export function assertRecent(timestamp: number, options: Pick<VerifyWebhookOptions, 'now' | 'toleranceSeconds'>): void {
  const nowSeconds = Math.floor((options.now ?? Date.now()) / 1000);
  const tolerance = options.toleranceSeconds ?? DEFAULT_TOLERANCE_SECONDS;
  if (Number.isNaN(tolerance) || tolerance < 0) {
    throw new ConfigurationError('INVALID_OPTION', `toleranceSeconds is ${tolerance}: give seconds from 0 up.`);
  }
  if (nowSeconds - timestamp > tolerance) {
    throw new WebhookVerificationError(
      'TIMESTAMP_TOO_OLD',
      `The webhook was signed more than ${tolerance} seconds ago.`,
    );
  }
  if (timestamp - nowSeconds > tolerance) {
    throw new WebhookVerificationError(
      'TIMESTAMP_IN_FUTURE',
      `The webhook was signed more than ${tolerance} seconds from now: is a clock wrong?`,
    );
  }
}

function parsePayload<T>(body: Buffer): Pick<VerifiedWebhook<T>, 'type' | 'data' | 'previous' | 'payload'> {
  let payload: unknown;
  try {
    payload = JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new WebhookVerificationError('INVALID_PAYLOAD', 'The body is not JSON.', { cause: error });
  }
  if (!isRecord(payload) || typeof payload.type !== 'string') {
    throw new WebhookVerificationError('INVALID_PAYLOAD', 'The body is no JSON object with a text "type".');
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
