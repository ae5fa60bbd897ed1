import type { IncomingHttpHeaders } from 'node:http';
import { StringDecoder } from 'node:string_decoder';

import type { Dispatcher } from 'undici';

import { parseUrl } from '../parse-url.js';
import { AddressGuard } from './address-guard.js';
import { EgressProxy } from './egress-proxy.js';
import type { ConnectionOptions, TlsIdentity } from './connection-options.js';
import { GuardedAgents } from './guarded-agent.js';
import type { ConnectionPhases } from './phases.js';
import { isPortAllowed, type ResolvedSecurityOptions } from './security-options.js';
import { SendError, toSendError } from './send-error.js';
import type { OnStatus } from './transport.js';
import { type PostResult, failedPost } from './post-result.js';

/** Maximum number of bytes of a response body that are kept. */
export const MAX_RESPONSE_BYTES = 4096;

/**
 * Maximum number of bytes of a body that are read. The whole body must be read before the connection can serve the next
 * request. Bytes above {@link MAX_RESPONSE_BYTES} are dropped. If a body is longer than this maximum, the connection is
 * closed.
 */
const MAX_DRAINED_BYTES = 64 * 1024;

/**
 * How long the body may take after the status has arrived. A slow body is cut off, because only the log needs the body. An honest
 * server sends a short answer immediately.
 */
const BODY_TIMEOUT_MS = 1_000;

/** Maximum number of 1xx answers before the final answer. An endless series of 1xx answers would cost CPU time. */
const MAX_INFORMATIONAL = 16;

/** Headers in the form that undici accepts. */
export type PostHeaders = Readonly<Record<string, string | string[]>>;

/** The request: a POST, or `OPTIONS` for the handshake. */
export interface PostRequest {
  readonly url: string;
  readonly method?: 'POST' | 'OPTIONS' | undefined;
  readonly headers: PostHeaders;
  readonly body: Buffer;
  readonly timeoutMs: number;
  readonly tls?: TlsIdentity | undefined;
  readonly onStatus?: OnStatus | undefined;
}

/**
 * A parsed URL, or the reason why the URL is refused. The reason is never about the address, because each connection checks the address
 * again.
 */
type Target = { readonly origin: string; readonly path: string } | { readonly refusal: string };

/** Maximum number of cached parsed URLs. With the cache, the URL of a busy listener is not parsed for each request. */
const MAX_CACHED_TARGETS = 10_000;

/** Sends bytes to guarded addresses, and follows no redirect. Only this class opens connections to receivers. */
export class GuardedClient {
  readonly #agents: GuardedAgents;
  readonly #security: ResolvedSecurityOptions;
  readonly #targets = new Map<string, Target>();

  constructor(security: ResolvedSecurityOptions, connections: ConnectionOptions = {}) {
    const { allowedAddresses, proxy } = security;
    const policy = { guard: new AddressGuard(allowedAddresses), proxy: proxy === null ? null : new EgressProxy(proxy) };
    this.#agents = new GuardedAgents(policy, connections);
    this.#security = security;
  }

  /** Sends one request. The promise never rejects. The time limit starts with the call. */
  post({ url, method = 'POST', headers, body, timeoutMs, tls, onStatus }: PostRequest): Promise<PostResult> {
    const target = this.#targetOf(url);
    if ('refusal' in target) return Promise.resolve(failedPost(new SendError('URL_REFUSED', target.refusal)));
    return new Promise((resolve) => {
      const { agent, end } = this.#agents.lease(tls);
      const exchange = new Exchange(resolve, end, { timeoutMs, onStatus, headers, agents: this.#agents });
      try {
        agent.dispatch(
          {
            origin: target.origin,
            path: target.path,
            method,
            headers: headers as Record<string, string | string[]>,
            body: method === 'POST' ? body : null,
            // undici's own time limits are off, because this class has one time limit for the whole request.
            headersTimeout: 0,
            bodyTimeout: 0,
          },
          exchange,
        );
      } catch (error) {
        exchange.fail(error);
      }
    });
  }

  /** Closes every connection immediately. A request in flight fails with `TRANSPORT_CLOSED`. */
  close(): Promise<void> {
    return this.#agents.destroy();
  }

  #targetOf(url: string): Target {
    let target = this.#targets.get(url);
    if (target === undefined) {
      if (this.#targets.size >= MAX_CACHED_TARGETS) this.#targets.clear();
      this.#targets.set(url, (target = this.#read(url)));
    }
    return target;
  }

  #read(text: string): Target {
    const url = parseUrl(text);
    if (url === null) return { refusal: 'the URL cannot be parsed' };
    const { allowHttp, allowedPorts } = this.#security;
    if (url.protocol !== 'https:' && !(url.protocol === 'http:' && allowHttp)) {
      return {
        refusal: `${url.protocol} is not allowed${url.protocol === 'http:' ? ' without security.allowHttp' : ''}`,
      };
    }
    if (url.username !== '' || url.password !== '') return { refusal: 'the URL contains credentials' };
    if (!isPortAllowed(url, allowedPorts)) return { refusal: 'its port is not in security.allowedPorts' };
    return { origin: url.origin, path: url.pathname + url.search };
  }
}

const NO_CONNECTION: ConnectionPhases = { dnsMs: null, connectMs: null, tlsMs: null };

interface ExchangeOptions {
  readonly timeoutMs: number;
  readonly onStatus: OnStatus | undefined;
  readonly headers: PostHeaders;
  readonly agents: GuardedAgents;
}

/**
 * One request in flight, as a handler of undici's events.
 *
 * The request settles only once: at the end of the response, after {@link MAX_RESPONSE_BYTES} of the body, at the time limit, or at an
 * error. When status and headers have arrived, the status decides the outcome. The body can no longer change the outcome, because a
 * receiver that answered 200 has the event. Only the log needs the body. Bytes that arrive later are read and dropped, up to {@link
 * MAX_DRAINED_BYTES} and within the time limit.
 *
 * If the body does not arrive together with the headers, `onStatus` decides whether the body is read. Such a body must be complete
 * within {@link BODY_TIMEOUT_MS}.
 */
class Exchange implements Dispatcher.DispatchHandler {
  #resolve: ((result: PostResult) => void) | null;
  readonly #ended: () => void;
  #timer: NodeJS.Timeout;
  #controller: Dispatcher.DispatchController | null = null;
  #expired = false;
  #status: number | null = null;
  #headers: IncomingHttpHeaders = {};
  #kept: Buffer[] = [];
  #received = 0;
  #informational = 0;
  readonly #onStatus: OnStatus | undefined;
  readonly #deadline: number;
  #hasEnded = false;
  #bodyEnded: (() => void) | null = null;
  readonly #agents: GuardedAgents;
  readonly #requestHeaders: PostHeaders;
  /** The phases of the connection that was opened for this request; `null` if there was none, or it is not open yet. */
  #connection: ConnectionPhases | null = null;
  #requestedAt: number | null = null;
  #answeredAt: number | null = null;

  /** @param ended called when no more bytes will arrive. The request may already have settled at that time */
  constructor(
    resolve: (result: PostResult) => void,
    ended: () => void,
    { timeoutMs, onStatus, headers, agents }: ExchangeOptions,
  ) {
    this.#agents = agents;
    this.#requestHeaders = headers;
    this.#resolve = resolve;
    this.#ended = ended;
    this.#onStatus = onStatus;
    this.#deadline = performance.now() + timeoutMs;
    this.#timer = setTimeout(() => this.#expire(timeoutMs), timeoutMs);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    this.#connection = this.#agents.endingConnection;
    this.#requestedAt = performance.now();
    // The request waited for a connection until its time limit was over. It must no longer be sent.
    if (this.#expired)
      controller.abort(new SendError('TIMEOUT', 'the time limit was over before the request was sent'));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) {
      if (++this.#informational > MAX_INFORMATIONAL) {
        controller.abort(
          new SendError(
            'INVALID_RESPONSE',
            `the receiver sent more than ${MAX_INFORMATIONAL} answers with a 1xx status`,
          ),
        );
      }
      return;
    }
    this.#status = status;
    this.#headers = headers;
    this.#answeredAt = performance.now();
    // Most bodies arrive in the same piece as their headers. When the microtask runs, undici has parsed that
    // piece completely.
    if (this.#onStatus) queueMicrotask(() => this.#beginBody(status));
  }

  /** Begins a body that has not arrived completely. */
  #beginBody(status: number): void {
    if (this.#hasEnded || !this.#onStatus) return;
    this.#bodyEnded = this.#onStatus(status);
    if (this.#bodyEnded === null) {
      this.#cutOff('the body is not read');
      return;
    }
    clearTimeout(this.#timer);
    const left = Math.min(BODY_TIMEOUT_MS, this.#deadline - performance.now());
    this.#timer = setTimeout(() => this.#cutOff(`the body was not complete within ${BODY_TIMEOUT_MS} ms`), left);
  }

  /** Settles the request with the status, and closes the connection. The connection cannot serve another request. */
  #cutOff(detail: string): void {
    this.#settle(null);
    this.#controller?.abort(new SendError('TIMEOUT', detail));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const room = MAX_RESPONSE_BYTES - this.#received;
    this.#received += chunk.length;
    if (room > 0) this.#kept.push(chunk.length > room ? chunk.subarray(0, room) : chunk);
    if (this.#received > MAX_RESPONSE_BYTES) this.#settle(null);
    if (this.#received > MAX_DRAINED_BYTES)
      controller.abort(new SendError('INVALID_RESPONSE', `the body has more than ${MAX_DRAINED_BYTES} bytes`));
  }

  onResponseEnd(): void {
    this.#end(null);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(error);
  }

  fail(error: unknown): void {
    this.#end(error);
  }

  #end(error: unknown): void {
    clearTimeout(this.#timer);
    if (this.#requestedAt === null) this.#connection = this.#agents.endingConnection;
    this.#hasEnded = true;
    this.#settle(error);
    this.#bodyEnded?.();
    this.#ended();
  }

  #expire(timeoutMs: number): void {
    this.#expired = true;
    const error = new SendError('TIMEOUT', `no complete answer within ${timeoutMs} ms`);
    this.#settle(error);
    this.#controller?.abort(error);
  }

  #settle(error: unknown): void {
    const resolve = this.#resolve;
    if (resolve === null) return;
    this.#resolve = null;
    if (this.#status === null) {
      const failure = error ?? new SendError('INVALID_RESPONSE', 'the answer ended before its status line');
      resolve({ ...failedPost(toSendError(failure)), exchange: this.#exchange() });
    } else {
      const exchange = this.#exchange();
      resolve({ status: this.#status, headers: this.#headers, body: this.#text(), error: null, exchange });
    }
    this.#kept = [];
  }

  #exchange(): NonNullable<PostResult['exchange']> {
    const isBegun = this.#requestedAt !== null;
    const { dnsMs, connectMs, tlsMs } = this.#connection ?? NO_CONNECTION;
    const connection = isBegun ? (this.#connection ? 'new' : 'reused') : 'none';
    const firstByteMs =
      this.#answeredAt === null || this.#requestedAt === null ? null : Math.round(this.#answeredAt - this.#requestedAt);
    return {
      requestHeaders: isBegun ? this.#requestHeaders : null,
      phases: { connection, dnsMs, connectMs, tlsMs, firstByteMs },
    };
  }

  #text(): string {
    if (this.#kept.length === 0) return '';
    const bytes = this.#kept.length === 1 ? (this.#kept[0] as Buffer) : Buffer.concat(this.#kept);
    // If the limit cuts a character in half, a decoder in stream mode omits the character. `toString` would show a
    // damaged character.
    const cut = this.#received > MAX_RESPONSE_BYTES;
    const text = cut ? new StringDecoder('utf8').write(bytes) : bytes.toString('utf8');
    return text.includes('\0') ? text.replaceAll('\0', '') : text;
  }
}
