import { ApiError, invalidRequest, type RequestFault } from './api-error.js';
import type { ApiRoute } from './route.js';
import { violations, type Schema } from './schema.js';

/** The part of a request that Express and Fastify share. */
export interface HttpRequest {
  readonly method: string;
  readonly url: string;
  /** Only on Express, which cuts `url` below a mounted router. */
  readonly originalUrl?: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly params?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
}

/** A header as one text. */
export function headerOf({ headers }: HttpRequest, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : value?.join(', ');
}

/**
 * The parameters of the query, checked and converted. They are parsed here from the URL, because applications can replace the query parser
 * of Express and Fastify.
 *
 * @throws ApiError `INVALID_REQUEST`
 */
export function readQuery(request: HttpRequest, { query = {} }: ApiRoute): Record<string, unknown> {
  const [, text = ''] = /\?([^#]*)/.exec(request.originalUrl ?? request.url) ?? [];
  const given = new URLSearchParams(text);
  const faults: Omit<RequestFault, 'code'>[] = [];
  const values: Record<string, unknown> = {};
  for (const name of new Set(given.keys())) {
    const schema = Object.hasOwn(query, name) ? query[name] : undefined;
    const [first = '', ...others] = given.getAll(name);
    const parameter = name.slice(0, 64);
    if (!schema) {
      const known = Object.keys(query);
      faults.push({
        parameter,
        detail: known.length ? `is unknown. Known: ${known.join(', ')}` : 'is unknown: the route has no parameters',
      });
    } else if (others.length) {
      faults.push({ parameter, detail: 'is given twice' });
    } else {
      const value = converted(schema, first);
      faults.push(...violations(schema, value).map(({ detail }) => ({ parameter, detail })));
      values[name] = value;
    }
  }
  if (faults.length) throw invalidRequest(faults);
  return values;
}

function converted({ type }: Schema, text: string): unknown {
  return type === 'integer' && /^-?\d{1,15}$/.test(text) ? Number(text) : text;
}

/** @throws ApiError `UNSUPPORTED_CONTENT_TYPE`, `INVALID_REQUEST` */
export function readBody(request: HttpRequest, route: ApiRoute): Record<string, unknown> {
  if (route.method === 'GET') return {};
  const hasBody = hasContent(request);
  if (hasBody) assertJson(request);
  const body = hasBody ? request.body : undefined;
  if (body === undefined || body === null) {
    if (route.isBodyRequired) throw invalidRequest([{ pointer: '', detail: 'is missing: send a JSON object' }]);
    return {};
  }
  const schema = route.isCheckedByService ? { type: 'object' as const } : (route.body ?? NO_BODY);
  const faults = violations(schema, body);
  if (faults.length) throw invalidRequest(faults);
  return body as Record<string, unknown>;
}

const NO_BODY: Schema = { type: 'object', additionalProperties: false };

/** Whether the request has a body. Fastify and Express show a missing body differently. */
function hasContent(request: HttpRequest): boolean {
  const length = headerOf(request, 'content-length');
  return headerOf(request, 'transfer-encoding') !== undefined || (length !== undefined && length !== '0');
}

/** @throws ApiError `UNSUPPORTED_CONTENT_TYPE` */
function assertJson(request: HttpRequest): void {
  const [type = ''] = (headerOf(request, 'content-type') ?? '').split(';');
  if (type.trim().toLowerCase() === 'application/json') return;
  throw new ApiError('UNSUPPORTED_CONTENT_TYPE', 415, 'Send the body as application/json.', {
    faults: [{ parameter: 'Content-Type', code: 'UNSUPPORTED_CONTENT_TYPE', detail: 'must be application/json' }],
  });
}

/** The revision in `If-Match`; `undefined` for `*` or without the header. @throws ApiError `INVALID_REQUEST` */
export function readIfMatch(request: HttpRequest, { hasRevision }: ApiRoute): number | undefined {
  const text = headerOf(request, 'if-match')?.trim();
  if (!hasRevision || text === undefined || text === '*') return undefined;
  const [, revision] = /^"(\d{1,15})"$/.exec(text) ?? [];
  if (revision !== undefined) return Number(revision);
  throw invalidRequest([{ parameter: 'If-Match', detail: 'must be the ETag of the listener, such as "3"' }]);
}

/**
 * Refuses a request that a page of another site makes with the cookie or password of the browser. A browser never adds a token to a header
 * by itself, and a page of another site can set these headers only if `enableCors()` allows it.
 *
 * @throws ApiError `CROSS_SITE_REQUEST`
 */
export function assertNoForgery(request: HttpRequest): void {
  const scheme = /^\S+/.exec(headerOf(request, 'authorization') ?? '')?.[0].toLowerCase();
  if (request.method === 'GET' || request.method === 'HEAD' || scheme === 'bearer') return;
  const isCrossSite = headerOf(request, 'sec-fetch-site') === 'cross-site';
  const hasCookie = headerOf(request, 'cookie') !== undefined;
  const isSentByBrowser = hasCookie || scheme === 'basic' || scheme === 'digest' || scheme === 'negotiate';
  if (!isCrossSite && !isSentByBrowser) return;
  if (!isCrossSite && headerOf(request, 'x-webhooks-request') === '1') return;
  throw new ApiError(
    'CROSS_SITE_REQUEST',
    403,
    'A request with a cookie or a password must have the header x-webhooks-request: 1, and must not come from another site.',
  );
}
