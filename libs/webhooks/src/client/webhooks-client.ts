import type { Problem } from '../api/problem.js';
import type { OperationTypes } from './operation-types.js';
import { OPERATIONS, type OperationName } from './operations.js';
import { streamOf, type StreamOptions } from './stream.js';
import type { StreamEvent, StreamFilter } from './stream-events.js';

/** Options of {@link createWebhooksClient}. */
export interface WebhooksClientOptions {
  /** URL of the API, with `/v1`: `https://app.example.com/webhooks/v1`. */
  url: string;
  /**
   * A session token, or a function that returns a token for each request.
   *
   * @defaultValue no token: the application's own login applies, such as a cookie
   */
  token?: string | (() => string | Promise<string>);
  /**
   * For operators of an API that serves several shards: each call concerns only this shard.
   *
   * @defaultValue all shards
   */
  shard?: string;
  /** Additional headers for each request. */
  headers?: Readonly<Record<string, string>>;
  /** @defaultValue the global `fetch` */
  fetch?: typeof fetch;
}

/** Options of one call. */
export interface CallOptions {
  /**
   * For calls that create or send something: a repeated call with the same key changes nothing and returns the answer to the first call.
   */
  idempotencyKey?: string;
  /** Change a listener only if it still has this `revision`. */
  ifRevision?: number;
  signal?: AbortSignal;
}

/** The stream of the API. */
export interface WebhooksStreams {
  /**
   * Yields changes as long as the loop runs. If the connection is lost, the client connects again; no change is missed or yielded twice. If
   * there were more changes in the meantime than the API can send, the stream yields a `reset` event: read your lists again.
   *
   * @throws WebhooksApiError inside the loop, if the API refuses the stream
   * @example
   * for await (const { event, data } of client.stream({ listenerId })) {
   *   if (event === 'delivery') console.log(data.delivery.state);
   * }
   */
  readonly stream: (filter?: StreamFilter, options?: StreamOptions) => AsyncIterableIterator<StreamEvent>;
}

/** Every operation of the API as a method. */
export type WebhooksClient = WebhooksStreams & {
  readonly [Name in OperationName]: undefined extends OperationTypes[Name]['input']
    ? (input?: undefined, options?: CallOptions) => Promise<OperationTypes[Name]['answer']>
    : Record<string, never> extends OperationTypes[Name]['input']
      ? (input?: OperationTypes[Name]['input'], options?: CallOptions) => Promise<OperationTypes[Name]['answer']>
      : (input: OperationTypes[Name]['input'], options?: CallOptions) => Promise<OperationTypes[Name]['answer']>;
};

/** The API refused a request, or did not answer as documented. */
export class WebhooksApiError extends Error {
  override readonly name = 'WebhooksApiError';

  /** @param problem the body of the answer. It has no `code` if something else than the API answered, such as a proxy */
  constructor(
    readonly status: number,
    readonly problem: Partial<Problem>,
  ) {
    super(problem.detail ?? problem.title ?? `The API answered ${status}.`);
  }

  /** `docs/errors.md` lists the codes. */
  get code(): string | undefined {
    return this.problem.code;
  }
}

/** The operations whose answer is text and not JSON. */
const TEXTS: ReadonlySet<OperationName> = new Set(['getDeliveryBody', 'getEventsTypeScript']);

interface Input {
  readonly id?: string;
  readonly type?: string;
  readonly query?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
}

/**
 * A client of the API. It needs only `fetch`, so it runs in browsers and in Node.js.
 *
 * @throws WebhooksApiError from each method, if the status of the answer is not 2xx
 * @example
 * const client = createWebhooksClient({ url: 'https://app.example.com/webhooks/v1', token });
 * const { items } = await client.listDeliveries({ query: { state: 'exhausted' } });
 */
export function createWebhooksClient(options: WebhooksClientOptions): WebhooksClient {
  const methods = Object.keys(OPERATIONS).map((name) => [
    name,
    (input?: Input, call?: CallOptions) => request(options, name as OperationName, input, call),
  ]);
  const stream: WebhooksStreams['stream'] = (filter, call) =>
    streamOf((lastId, signal) => openStream(options, { query: { ...filter } }, lastId, signal), call);
  return { ...Object.fromEntries(methods), stream } as WebhooksClient;
}

async function openStream(
  options: WebhooksClientOptions,
  input: Input,
  lastId: string | undefined,
  signal: AbortSignal,
): Promise<Response> {
  const { fetch: send = fetch } = options;
  const headers = await headersOf(options, {}, false);
  headers['accept'] = 'text/event-stream';
  if (lastId !== undefined) headers['last-event-id'] = lastId;
  const response = await send(urlOf(options, OPERATIONS.stream[1], input), { headers, signal });
  if (response.ok) return response;
  throw new WebhooksApiError(response.status, await problemOf(response));
}

async function request(
  options: WebhooksClientOptions,
  name: OperationName,
  input: Input = {},
  call: CallOptions = {},
): Promise<unknown> {
  const [method, path] = OPERATIONS[name];
  const { fetch: send = fetch } = options;
  const hasBody = method === 'POST' || method === 'PATCH' || method === 'PUT';
  const response = await send(urlOf(options, path, input), {
    method,
    headers: await headersOf(options, call, hasBody),
    // Fastify refuses an empty body of the type JSON.
    ...(hasBody ? { body: JSON.stringify(input.body ?? {}) } : {}),
    ...(call.signal ? { signal: call.signal } : {}),
  });
  if (!response.ok) throw new WebhooksApiError(response.status, await problemOf(response));
  if (response.status === 204) return undefined;
  return TEXTS.has(name) ? response.text() : response.json();
}

function urlOf(
  { url: root, shard }: WebhooksClientOptions,
  path: string,
  { id = '', type = '', query = {} }: Input,
): string {
  const filled = path.replace('{id}', encodeURIComponent(id)).replace('{type}', encodeURIComponent(type));
  const given = Object.entries<unknown>({ shard, ...query }).filter(([, value]) => value !== undefined);
  const texts = given.map(([key, value]): [string, string] => [
    key,
    value instanceof Date ? value.toISOString() : String(value),
  ]);
  const search = texts.length ? `?${new URLSearchParams(texts).toString()}` : '';
  return `${root.replace(/\/$/, '')}${filled}${search}`;
}

async function headersOf(
  { token, headers = {} }: WebhooksClientOptions,
  { idempotencyKey, ifRevision }: CallOptions,
  hasBody: boolean,
): Promise<Record<string, string>> {
  const given = typeof token === 'function' ? await token() : token;
  return {
    accept: 'application/json',
    // Proves that no page of another site made the request.
    'x-webhooks-request': '1',
    ...(hasBody ? { 'content-type': 'application/json' } : {}),
    ...(given === undefined ? {} : { authorization: `Bearer ${given}` }),
    ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
    ...(ifRevision === undefined ? {} : { 'if-match': `"${ifRevision}"` }),
    ...headers,
  };
}

async function problemOf(response: Response): Promise<Partial<Problem>> {
  try {
    const body: unknown = await response.json();
    return typeof body === 'object' && body !== null ? body : {};
  } catch {
    return {};
  }
}
