import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { messageOf } from '../../foreign-text.js';
import { parseUrl } from '../../parse-url.js';
import { SECOND } from '../../time.js';
import { argumentError } from '../terminal/cli.js';

const ANSWERED_WITHIN_MS = 15 * SECOND;

/** Headers that belong to a single connection, so `fetch` sets them itself. */
const OF_THE_CONNECTION = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'keep-alive',
  'expect',
]);

/** The answer of the server to which a request was forwarded. */
export interface Forwarded {
  /** `null` if there was no answer. */
  readonly status: number | null;
  readonly body: Buffer;
  readonly error: string | null;
  readonly durationMs: number;
}

/**
 * Checks a URL of `--forward-to`. Only URLs of this machine are allowed, so that a forgotten option cannot send webhooks to strangers.
 *
 * @throws ConfigurationError `INVALID_ARGUMENT`
 */
export function forwardTarget(text: string, isRemoteAllowed: boolean): URL {
  const url = parseUrl(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw argumentError(
      `Invalid value '${text}' for --forward-to. Allowed: a URL such as http://localhost:3000/hooks.`,
    );
  }
  if (isRemoteAllowed || isLoopback(url)) return url;
  throw argumentError(
    `--forward-to ${url.host} is another machine. Allowed: localhost. Give --allow-remote if you want to send the webhooks there.`,
  );
}

/** Only addresses, and names that always resolve to this machine. */
function isLoopback({ hostname }: URL): boolean {
  const host = hostname.replaceAll(/^\[|\]$/g, '');
  if (isIP(host) === 4) return host.startsWith('127.');
  return host === '::1' || host === 'localhost' || host.endsWith('.localhost');
}

/** Sends the same bytes and headers to another URL. The path and the query of that URL are used unchanged. Never rejects. */
export async function forward(
  target: URL,
  { method, headers, body }: { method: string; headers: IncomingHttpHeaders; body: Buffer },
): Promise<Forwarded> {
  const startedAt = performance.now();
  const durationMs = () => Math.round(performance.now() - startedAt);
  try {
    const response = await fetch(target, {
      method,
      headers: forwardedHeaders(headers),
      redirect: 'manual',
      signal: AbortSignal.timeout(ANSWERED_WITHIN_MS),
      ...(method === 'GET' || method === 'HEAD' ? {} : { body: new Uint8Array(body) }),
    });
    const answer = Buffer.from(await response.arrayBuffer());
    return { status: response.status, body: answer, error: null, durationMs: durationMs() };
  } catch (error) {
    // fetch() says only "fetch failed"; its cause says why.
    const { cause } = error as { cause?: unknown };
    return { status: null, body: Buffer.alloc(0), error: messageOf(cause ?? error), durationMs: durationMs() };
  }
}

function forwardedHeaders(headers: IncomingHttpHeaders): [string, string][] {
  return Object.entries(headers).flatMap(([name, value]): [string, string][] =>
    value === undefined || OF_THE_CONNECTION.has(name) ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]],
  );
}
