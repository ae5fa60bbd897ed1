import { STATUS_CODES } from 'node:http';
import { HttpException } from '@nestjs/common';
import { BadRequestError } from '../errors.js';
import { oneLine } from '../foreign-text.js';
import { UnreadableSecretError } from '../secrets/sealing.js';
import { isUnavailable } from '../store/database/database-errors.js';
import { ApiError, retryAfter, type RequestFault } from './api-error.js';

/** The body of an error: a problem document (RFC 9457). */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  /** Missing in answers with a status of 500 or above. */
  readonly detail?: string;
  /** The id of the request. The log line about the error contains it, too. */
  readonly instance: string;
  /** A stable code for programs. `docs/errors.md` lists the codes. */
  readonly code: string;
  readonly errors?: readonly RequestFault[];
}

/** A problem with the headers of its answer. */
export interface ProblemAnswer {
  readonly problem: Problem;
  readonly headers: Readonly<Record<string, string>>;
  /** Whether to log the error, because the application has to repair something. */
  readonly isFault: boolean;
}

const RETRY_AFTER_MS = 5_000;

/**
 * For error codes of the core: the values of a request that the code may be about, below the body or in the query. The first one that the
 * route has is at fault: an unknown event type is in `events` of a listener, and in `type` of a test.
 */
const PLACES: Readonly<Record<string, readonly string[]>> = {
  ...{ INVALID_URL: ['url'], URL_SCHEME: ['url'], URL_CREDENTIALS: ['url'], URL_ADDRESS_BLOCKED: ['url'] },
  ...{ URL_PORT_BLOCKED: ['url'], INVALID_EVENT_TYPE: ['events', 'type'], UNKNOWN_EVENT_TYPE: ['events', 'type'] },
  ...{ OWNER_NOT_DECLARED: ['events', 'type'], INVALID_FILTER: ['where'], UNKNOWN_PROPERTY: ['where'] },
  ...{ UNKNOWN_OPERATOR: ['where'], UNKNOWN_SCHEME: ['schemes'], UNKNOWN_FORMAT: ['format'] },
  ...{ INVALID_HEADER: ['headers'], INVALID_SECRET: ['secret'], INVALID_AUTH: ['auth'], INVALID_TLS: ['tls'] },
  ...{ INVALID_CERTIFICATE: ['tls'], INVALID_PRIVATE_KEY: ['tls/key'], CERTIFICATE_KEY_MISMATCH: ['tls/key'] },
  ...{ CERTIFICATE_EXPIRED: ['tls'], INVALID_RATE_LIMIT: ['rateLimit'], INVALID_OVERLAP: ['overlapMs'] },
  ...{
    INVALID_OWNER: ['owner'],
    OWNER_WITHOUT_SHARD: ['owner'],
    UNKNOWN_SHARD: ['shard'],
    EXTERNAL_ID_TAKEN: ['externalId'],
  },
  ...{ HANDSHAKE_REQUIRED: ['handshake'], HANDSHAKE_ORIGIN_MISSING: ['handshake'] },
};

/** The part of a route that says which values a request may have. Its own type: the types of routes are not published, and this file is. */
interface RequestForm {
  readonly body?: { readonly properties?: object | undefined } | undefined;
  readonly query?: object | undefined;
}

/** Codes for the errors of guards and of the HTTP framework. */
const CODES: Readonly<Record<number, string>> = {
  400: 'INVALID_JSON',
  401: 'UNAUTHENTICATED',
  403: 'FORBIDDEN',
  404: 'ROUTE_NOT_FOUND',
  413: 'BODY_TOO_LARGE',
  415: 'UNSUPPORTED_CONTENT_TYPE',
  429: 'TOO_MANY_REQUESTS',
};

/**
 * The answer to any error. If an error is not meant for callers, the answer is a 500 without the text of the error.
 *
 * @param form of the route that failed; empty for errors of guards and of the framework
 */
export function problemOf(error: unknown, instance: string, now: number, form: RequestForm = {}): ProblemAnswer {
  if (error instanceof BadRequestError) return ofBadRequest(error, instance, now, form);
  if (error instanceof UnreadableSecretError) {
    const detail = 'The old secret of this listener cannot be read. Rotate it with overlapMs: 0.';
    return { ...answer(409, 'SECRET_UNREADABLE', instance, { detail }), isFault: true };
  }
  const status = frameworkStatus(error);
  if (status !== undefined && status < 500) {
    const code = CODES[status] ?? 'REFUSED';
    return answer(status, code, instance, { detail: oneLine((error as Error).message) }, challengeOf(status));
  }
  if (status === 503 || isUnavailable(error)) {
    const headers = retryAfter(now + RETRY_AFTER_MS, now);
    const code = status === 503 ? 'SERVICE_UNAVAILABLE' : 'DATABASE_UNAVAILABLE';
    return { ...answer(503, code, instance, {}, headers), isFault: true };
  }
  return { ...answer(500, 'INTERNAL_ERROR', instance), isFault: true };
}

function ofBadRequest(error: BadRequestError, instance: string, now: number, form: RequestForm): ProblemAnswer {
  const { code, httpStatus, message, details } = error;
  const own = error instanceof ApiError ? error : { faults: faultsOf(error, form), headers: {} };
  const retry = typeof details['retryAt'] === 'number' ? retryAfter(details['retryAt'], now) : {};
  const headers = { ...challengeOf(httpStatus), ...retry, ...own.headers };
  return answer(
    httpStatus,
    code,
    instance,
    { detail: message, ...(own.faults.length ? { errors: own.faults } : {}) },
    headers,
  );
}

function faultsOf({ code, message, details }: BadRequestError, { body, query = {} }: RequestForm): RequestFault[] {
  const { properties } = details;
  if (Array.isArray(properties)) {
    return properties.map((property) => ({ pointer: `/${String(property).slice(0, 64)}`, code, detail: message }));
  }
  for (const place of PLACES[code] ?? []) {
    const [name = ''] = place.split('/');
    if (body?.properties && name in body.properties) return [{ pointer: `/${place}`, code, detail: message }];
    if (name in query) return [{ parameter: name, code, detail: message }];
  }
  return [];
}

function answer(
  status: number,
  code: string,
  instance: string,
  more: Pick<Problem, 'detail' | 'errors'> = {},
  headers: Readonly<Record<string, string>> = {},
): ProblemAnswer {
  const title = STATUS_CODES[status] ?? 'Error';
  return { problem: { type: 'about:blank', title, status, ...more, instance, code }, headers, isFault: false };
}

function challengeOf(status: number): Readonly<Record<string, string>> {
  return status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {};
}

/** The status of an error of a guard, of Express' parsers or of Fastify; `undefined` for other errors. */
export function frameworkStatus(error: unknown): number | undefined {
  if (error instanceof HttpException) return error.getStatus();
  if (!(error instanceof Error)) return undefined;
  const { status, statusCode = status } = error as { status?: unknown; statusCode?: unknown };
  return typeof statusCode === 'number' && statusCode >= 400 && statusCode < 600 ? statusCode : undefined;
}
