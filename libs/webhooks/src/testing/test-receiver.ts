import { AssertionError } from 'node:assert';
import { once } from 'node:events';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';

import { challengeOf, permissionFor } from '../receiver/challenge.js';
import {
  type IncomingWebhook,
  verifyIncomingWebhook,
  type VerifyIncomingWebhookOptions,
} from '../receiver/verify-incoming-webhook.js';

const DEFAULT_WAIT_MS = 5000;

/** A request that the receiver recorded. */
export interface ReceivedRequest {
  readonly method: string;
  /** Path and query of the request. */
  readonly url: string;
  /** Headers of the request, with names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** The body, byte for byte. */
  readonly rawBody: Buffer;
  /** The body as JSON; `undefined` if the body is not JSON. */
  readonly json: unknown;
  /** When the request was complete, by the system's clock, in milliseconds since 1970. */
  readonly receivedAt: number;
  /** The status of the answer; `null` until the receiver answers. */
  readonly status: number | null;
}

/** An answer of the receiver. */
export interface ReceiverResponse {
  status: number;
  headers?: Readonly<Record<string, string>>;
  body?: string | Uint8Array;
  /** The receiver answers after this promise is fulfilled. A test can use the promise to simulate a slow receiver. */
  delayUntil?: Promise<unknown>;
}

/** Returns the answer to a request; `index` is 0 for the first request. */
export type Responder = (request: ReceivedRequest, index: number) => ReceiverResponse | Promise<ReceiverResponse>;

interface Waiter {
  check(): boolean;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * An HTTP server on a free port of 127.0.0.1. It records all requests, and answers 204 unless {@link respond} sets another answer.
 *
 * Allow the module under test to send requests to this server: `security: { allowedAddresses: ['127.0.0.0/8'],
 * allowHttp: true }`.
 *
 * @example
 * ```ts
 * const receiver = await new TestReceiver().start();
 * await listeners.create({ entity: Order, url: receiver.url });
 * receiver.failTimes(2);
 * // …
 * const [request] = await receiver.waitFor(1);
 * receiver.verify(request, secret);
 * await receiver.stop();
 * ```
 */
export class TestReceiver {
  /** All requests, in order of arrival. */
  readonly requests: ReceivedRequest[] = [];

  #server: Server | null = null;
  #url = '';
  #responder: Responder = () => ({ status: 204 });
  #arrivals = 0;
  #permission: { ratePerMinute?: number } | null = null;
  readonly #waiters = new Set<Waiter>();

  /** Starts the server. */
  async start(): Promise<this> {
    if (this.#server !== null) throw new Error('This TestReceiver is already started. Call start() once.');
    const server = createServer((request, response) => {
      this.#serve(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    this.#server = server;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`;
    return this;
  }

  /** The URL for listeners. The server also records requests to other paths. */
  get url(): string {
    if (this.#url === '') throw new Error('This TestReceiver is not started. Call and await start() first.');
    return this.#url;
  }

  /** Stops the server, and closes all connections. Connections with an unanswered request are also closed. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === null) return;
    this.#server = null;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /**
   * Sets the answers to the next requests. There are three forms. One answer is for all requests. A list has one answer for each request;
   * after the end of the list, the answer is 204. A function returns the answer to each request; its `index` starts with 0 after this
   * call.
   */
  respond(answer: ReceiverResponse | readonly ReceiverResponse[] | Responder): this {
    const firstIndex = this.#arrivals;
    const responder: Responder =
      typeof answer === 'function'
        ? answer
        : isList(answer)
          ? (_request, index) => answer[index] ?? { status: 204 }
          : () => answer;
    this.#responder = (request, index) => responder(request, index - firstIndex);
    return this;
  }

  /** Answers the next `times` requests with `status`, and all later requests with 204. */
  failTimes(times: number, status = 500): this {
    return this.respond((_request, index) => ({ status: index < times ? status : 204 }));
  }

  /**
   * Makes the next handshakes succeed: the receiver answers challenges without checking signatures, and grants `OPTIONS` requests of any
   * origin. Handshake requests are recorded, but {@link respond} neither answers nor counts them.
   */
  passHandshakes(options: { ratePerMinute?: number } = {}): this {
    this.#permission = options;
    return this;
  }

  /** Deletes the recorded requests. The configured answers do not change. */
  clear(): void {
    this.requests.length = 0;
  }

  /**
   * Waits until there are at least `count` requests, and returns all requests.
   *
   * @throws AssertionError after `timeoutMs` (default: 5,000), with a list of the requests that arrived
   */
  async waitFor(count: number, options: { timeoutMs?: number } = {}): Promise<readonly ReceivedRequest[]> {
    await this.#wait(
      () => this.requests.length >= count,
      `${count} request${count === 1 ? '' : 's'}`,
      options.timeoutMs,
    );
    return [...this.requests];
  }

  /**
   * Waits for a request for which `predicate` is true, and returns the first such request. Checks the recorded requests first, and
   * then waits for new requests.
   *
   * @throws AssertionError after `timeoutMs` (default: 5,000), with a list of the requests that arrived
   */
  async waitForRequest(
    predicate: (request: ReceivedRequest) => boolean,
    options: { timeoutMs?: number } = {},
  ): Promise<ReceivedRequest> {
    let found: ReceivedRequest | undefined;
    const check = (): boolean => (found = this.requests.find(predicate)) !== undefined;
    await this.#wait(check, 'a matching request', options.timeoutMs);
    return found as ReceivedRequest;
  }

  /**
   * Verifies a recorded request in the same way as a real receiver. The age of the request is checked only if you set
   * `toleranceSeconds`, because tests move clocks.
   *
   * @throws IncomingWebhookError
   */
  verify<T = unknown>(
    request: ReceivedRequest,
    secrets: string | readonly string[],
    options: Pick<VerifyIncomingWebhookOptions, 'scheme' | 'toleranceSeconds' | 'now'> = {},
  ): IncomingWebhook<T> {
    return verifyIncomingWebhook<T>({
      toleranceSeconds: Infinity,
      ...options,
      headers: request.headers,
      body: request.rawBody,
      secrets,
    });
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const request = toReceivedRequest(incoming, Buffer.concat(chunks));
    const passing = this.#permission && handshakeAnswer(request, this.#permission);
    const index = passing ? -1 : this.#arrivals++;
    this.requests.push(request);
    for (const waiter of this.#waiters) notify(waiter);

    const answer = passing ?? (await this.#responder(request, index));
    await answer.delayUntil;
    if (response.destroyed) return;
    response.writeHead(answer.status, { ...answer.headers }).end(answer.body);
    (request as { status: number | null }).status = answer.status;
    for (const waiter of this.#waiters) notify(waiter);
  }

  async #wait(check: () => boolean, wanted: string, timeoutMs = DEFAULT_WAIT_MS): Promise<void> {
    if (check()) return;
    const waiter: Waiter = { check, resolve: () => undefined, reject: () => undefined };
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        waiter.resolve = resolve;
        waiter.reject = reject;
        this.#waiters.add(waiter);
        timer = setTimeout(() => {
          reject(
            new AssertionError({
              message: `The receiver waited ${timeoutMs} ms for ${wanted}. ${describeRequests(this.requests)}`,
            }),
          );
        }, timeoutMs);
      });
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    }
  }
}

/** Lists the requests that arrived, for the message of a failed expectation. */
export function describeRequests(requests: readonly ReceivedRequest[]): string {
  if (requests.length === 0) return 'Nothing arrived.';
  const lines = requests.map(
    (request) =>
      `  ${request.method} ${request.url} ${typeOf(request) ?? '(no type)'}, answered ${request.status ?? 'nothing yet'}`,
  );
  return `${requests.length} arrived:\n${lines.join('\n')}`;
}

/** The event type of a recorded request; `undefined` if its body has no type. */
export function typeOf(request: ReceivedRequest): string | undefined {
  const type: unknown = (request.json as { type?: unknown } | null | undefined)?.type;
  return typeof type === 'string' ? type : undefined;
}

function handshakeAnswer(request: ReceivedRequest, permission: { ratePerMinute?: number }): ReceiverResponse | null {
  if (request.method === 'OPTIONS') {
    const headers = permissionFor(request.headers, { origins: '*', ...permission });
    return headers && { status: 200, headers };
  }
  const { type, data } = (request.json ?? {}) as { type?: string; data?: unknown };
  const challenge = challengeOf({ type: type ?? null, data });
  return challenge === null ? null : { status: 200, body: challenge };
}

/**
 * Checks the condition of a waiting test. If the predicate throws an error, the test fails, but the request that
 * the server is answering does not fail.
 */
function notify(waiter: Waiter): void {
  try {
    if (waiter.check()) waiter.resolve();
  } catch (error) {
    waiter.reject(error);
  }
}

function isList<T>(value: T | readonly T[]): value is readonly T[] {
  return Array.isArray(value);
}

function toReceivedRequest(incoming: IncomingMessage, rawBody: Buffer): ReceivedRequest {
  let json: unknown;
  try {
    json = JSON.parse(rawBody.toString('utf8'));
  } catch {
    json = undefined;
  }
  return {
    method: incoming.method ?? '',
    url: incoming.url ?? '',
    headers: incoming.headers,
    rawBody,
    json,
    receivedAt: Date.now(),
    status: null,
  };
}
