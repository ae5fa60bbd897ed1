import { randomUUID } from 'node:crypto';
import { oneLine } from '../foreign-text.js';
import { PerMinute } from '../per-minute.js';
import { WebhooksLogger } from '../webhooks-logger.js';
import { ANYBODY, OPEN_ACCESS, principalOf, type AccessResolver, type Principal } from './access.js';
import { ApiError, retryAfter } from './api-error.js';
import { etagOf, isKnown } from './etag.js';
import { Idempotency, readIdempotencyKey } from './idempotency.js';
import type { RunOn, ServedInstances } from './instances.js';
import { problemOf } from './problem.js';
import { assertNoForgery, headerOf, readBody, readIfMatch, readQuery, type HttpRequest } from './read-request.js';
import { neededBy, type ApiAnswer, type ApiCall, type ApiParts, type ApiRoute } from './route.js';
import { TOKEN_PREFIX, unauthenticated } from './sessions.js';
import type { ReservedStream } from './streams.js';

/** A complete answer, ready to send. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** `undefined`: no body. */
  readonly text: string | undefined;
  /** Sends a stream of events instead of a text. */
  readonly stream?: ReservedStream;
}

/** Headers of every answer: an answer may contain data of one customer, and a browser must never run it. */
const HEADERS = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' } as const;
/**
 * For answers with an `ETag`: browsers cache them and revalidate them each time. Proxies must not cache them, because an operator sees more
 * than an owner.
 */
const CACHED = { 'Cache-Control': 'private, no-cache' } as const;
/** Proxies must not cache, compress or buffer a stream. `x-accel-buffering` is for nginx. */
const STREAMED = { 'Cache-Control': 'no-cache, no-transform', 'X-Accel-Buffering': 'no' } as const;
const NOT_MODIFIED = 304;
const JSON_TYPE = 'application/json; charset=utf-8';
const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';
/** The option of each limit, and the requests that it counts. */
const LIMITS = {
  reads: ['readsPerMinute', 'reads'],
  writes: ['writesPerMinute', 'changes'],
  previews: ['previewsPerMinute', 'previews'],
  urlChecks: ['urlChecksPerMinute', 'checks of URLs'],
} as const;
const BEARER = /^Bearer\s+(\S+)\s*$/i;

/** The session token of a request; `undefined` if the request has none. */
export function sessionTokenOf(request: HttpRequest): string | undefined {
  const [, token] = BEARER.exec(headerOf(request, 'authorization') ?? '') ?? [];
  return token?.startsWith(TOKEN_PREFIX) ? token : undefined;
}

/**
 * Handles a request from login to answer: identifies the caller, checks capabilities and input, calls the route, and renders its result.
 */
export class ApiHandler {
  private readonly logger = new WebhooksLogger('WebhooksApi');
  private readonly counts = new PerMinute();

  constructor(
    private readonly instances: ServedInstances,
    private readonly options: {
      readonly access: AccessResolver | typeof OPEN_ACCESS;
      readonly catalog: { readonly public: boolean };
      readonly limits: Readonly<Record<(typeof LIMITS)[keyof typeof LIMITS][0], number>>;
    },
  ) {}

  /** Call this method once, when the application starts. */
  warnIfOpen(): void {
    if (this.options.access !== OPEN_ACCESS) return;
    this.logger.warn(
      'access is OPEN_ACCESS, so everybody who can reach the API is an operator and sees every payload. Give WebhooksApiModule.forRoot() a function.',
    );
  }

  /** Ends the streams, because the HTTP server waits for open connections before it closes. */
  async close(): Promise<void> {
    await this.instances.close();
  }

  /** Never throws: every error becomes an answer. */
  async handle(route: ApiRoute, request: HttpRequest): Promise<HttpAnswer> {
    try {
      return await this.answer(route, request);
    } catch (error) {
      return this.problem(error, route);
    }
  }

  /** The answer to an error. @param route `undefined` for errors of guards and body parsers */
  problem(error: unknown, route?: ApiRoute): HttpAnswer {
    const instance = `urn:uuid:${randomUUID()}`;
    const now = this.instances.main.runtime.clock.now();
    const { problem, headers, isFault } = problemOf(error, instance, now, route);
    if (isFault) this.logFault(instance, error);
    return {
      status: problem.status,
      headers: { ...HEADERS, ...headers, 'Content-Type': PROBLEM_TYPE },
      text: JSON.stringify(problem),
    };
  }

  private logFault(instance: string, error: unknown): void {
    const { stack, message = String(error) } = error as Partial<Error>;
    this.logger.error(`The request ${instance} failed: ${oneLine(message)}`, stack);
  }

  private async answer(route: ApiRoute, request: HttpRequest): Promise<HttpAnswer> {
    const principal = await this.principalFor(route, request);
    const { capability } = route;
    const needed = neededBy(capability);
    if (needed.length && !needed.some((one) => principal.can.includes(one))) {
      throw new ApiError('CAPABILITY_MISSING', 403, `This call needs the capability ${needed.join(' or ')}.`);
    }
    const asked = {
      principal,
      id: Object.values(request.params ?? {})[0] ?? '',
      query: readQuery(request, route),
      body: readBody(request, route),
      ifRevision: readIfMatch(request, route),
      header: (name: string) => headerOf(request, name),
      checkSession: this.checkOf(request),
    };
    const on: RunOn = (parts, { query = asked.query, run = route.run } = {}) =>
      this.run({ ...route, run }, request, { ...asked, query, parts, ...servicesOf(parts, principal) });
    const answer = httpAnswer(route, await this.instances.answer(route, asked, on));
    if (request.method === 'HEAD') return withoutStream(answer);
    return route.isCatalog ? validated(request, answer) : answer;
  }

  /** No limit applies to a public catalogue, because its answers are made only once. */
  private async principalFor(route: ApiRoute, request: HttpRequest): Promise<Principal> {
    const isPublic = route.isCatalog && this.options.catalog.public && !this.isOfSession(request);
    if (isPublic) return ANYBODY;
    const principal = await this.principalOf(request);
    this.count(principal, route);
    return principal;
  }

  private checkOf(request: HttpRequest): ApiCall['checkSession'] {
    const token = sessionTokenOf(request);
    const { sessions } = this.instances.main;
    return sessions && token !== undefined ? () => sessions.verify(token) : null;
  }

  private isOfSession(request: HttpRequest): boolean {
    return this.instances.main.sessions !== null && sessionTokenOf(request) !== undefined;
  }

  private async run(route: ApiRoute, request: HttpRequest, call: ApiCall): Promise<ApiAnswer> {
    const key = route.isIdempotent ? readIdempotencyKey(headerOf(request, 'idempotency-key')) : undefined;
    if (key === undefined) return route.run(call);
    const { kind, owner, actor } = call.principal;
    const parts = [kind, owner ?? '', actor ?? '', route.operation, call.id, key];
    const run = async () => route.run(call);
    const body = JSON.stringify(call.body);
    const idempotency = new Idempotency(call.parts.runtime);
    const { answer, isReplayed } = await idempotency.once({ parts, owner, body }, route.status, run);
    return isReplayed ? { ...answer, headers: { ...answer.headers, 'Idempotency-Replayed': 'true' } } : answer;
  }

  /** @throws ApiError `UNAUTHENTICATED`, `CROSS_SITE_REQUEST` */
  private async principalOf(request: HttpRequest): Promise<Principal> {
    const token = sessionTokenOf(request);
    const { sessions } = this.instances.main;
    if (sessions && token !== undefined) return sessions.verify(token);
    assertNoForgery(request);
    const { access } = this.options;
    const given = access === OPEN_ACCESS ? ({ kind: 'operator' } as const) : await access(request as never);
    const principal = principalOf(given);
    if (!principal) throw unauthenticated();
    return principal;
  }

  /** @throws ApiError `TOO_MANY_REQUESTS` */
  private count({ kind, owner, actor }: Principal, { method, limit: own }: ApiRoute): void {
    const counted = own ?? (method === 'GET' ? 'reads' : 'writes');
    const [option, requests] = LIMITS[counted];
    const limit = this.options.limits[option];
    const name = JSON.stringify([counted, kind, owner, actor]);
    const now = this.instances.main.runtime.clock.now();
    const retryAt = this.counts.take(new Map([[name, limit]]), now);
    if (retryAt === null) return;
    throw new ApiError(
      'TOO_MANY_REQUESTS',
      429,
      `The limit of ${limit} ${requests} a minute is reached. Try again in a minute.`,
      { headers: retryAfter(retryAt, now) },
    );
  }
}

/** For an owner, every service is bound to that owner. */
function servicesOf(
  { runtime }: ApiParts,
  { owner, actor }: Principal,
): Pick<ApiCall, 'listeners' | 'deliveries' | 'events' | 'tasks' | 'system'> {
  // The audit log must name who made a change, even if `access()` gave no name.
  const name = actor ?? (owner === null ? 'an operator' : `owner ${owner}`);
  const listeners = runtime.listeners.withActor(name);
  const deliveries = runtime.deliveries.withActor(name);
  const system = runtime.system.withActor(name);
  const events = runtime.events.withActor(name);
  const tasks = runtime.tasks.withActor(name);
  if (owner === null) return { listeners, deliveries, events, tasks, system };
  return {
    listeners: listeners.forOwner(owner),
    deliveries: deliveries.forOwner(owner),
    events: events.forOwner(owner),
    tasks: tasks.forOwner(owner),
    system: system.forOwner(owner),
  };
}

function httpAnswer(
  route: ApiRoute,
  { status = route.status, body, text, contentType = JSON_TYPE, headers = {}, stream }: ApiAnswer,
): HttpAnswer {
  if (stream) {
    const streamed = { ...HEADERS, ...STREAMED, 'Content-Type': `${route.answerType}; charset=utf-8` };
    return { status, headers: streamed, text: undefined, stream };
  }
  const content = text ?? (body === undefined ? undefined : JSON.stringify(body));
  return {
    status,
    headers: { ...HEADERS, ...headers, ...(content === undefined ? {} : { 'Content-Type': contentType }) },
    text: content,
  };
}

/** Frameworks answer HEAD with the handler of GET. */
function withoutStream({ stream, ...answer }: HttpAnswer): HttpAnswer {
  stream?.cancel();
  return answer;
}

/** The answer with its `ETag`, or 304 if the caller already has it. */
function validated(request: HttpRequest, { status, headers, text = '' }: HttpAnswer): HttpAnswer {
  const ETag = etagOf(text);
  const { 'Content-Type': type = JSON_TYPE, ...others } = headers;
  const known = { ...others, ...CACHED, ETag };
  if (isKnown(request, ETag)) return { status: NOT_MODIFIED, headers: known, text: undefined };
  return { status, headers: { ...known, 'Content-Type': type }, text };
}
