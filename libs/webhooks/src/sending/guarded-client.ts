import type { IncomingHttpHeaders } from 'node:http';
import { StringDecoder } from 'node:string_decoder';

import type { Dispatcher } from 'undici';

import { AddressGuard } from './address-guard.js';
import { EgressProxy } from './egress-proxy.js';
import { type ConnectionOptions, GuardedAgents, type TlsIdentity } from './guarded-agent.js';
import { isPortAllowed, type ResolvedSecurityOptions } from './security-options.js';
import { SendError, toSendError } from './send-error.js';
import type { OnStatus } from './transport.js';
import { type PostResult, failedPost } from './post-result.js';

/** How many bytes of a response body are kept. */
export const MAX_RESPONSE_BYTES = 4096;

/**
 * How many bytes are read in total so that the connection can serve the next request. Bytes above
 * {@link MAX_RESPONSE_BYTES} are dropped. A longer body closes the connection.
 */
const MAX_DRAINED_BYTES = 64 * 1024;

/**
 * How long the body may take after the status. Only the log needs the body, so a slow one is cut off: an honest server
 * sends a short answer in one go.
 */
const BODY_TIMEOUT_MS = 1_000;

/** How many 1xx answers may come before the final one. An endless series of them would cost CPU time. */
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
 * A parsed URL, or the reason why it is refused. The address is not part of it, because each connection checks that
 * again.
 */
type Target = { readonly origin: string; readonly path: string } | { readonly refusal: string };

/** Parsed URLs are cached, so that the URL of a busy listener is not parsed for each request. */
const MAX_CACHED_TARGETS = 10_000;

/** Sends bytes to guarded addresses, and follows no redirect. The library opens connections to receivers only here. */
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

  /** Never rejects. The time limit starts with the call. */
  post({ url, method = 'POST', headers, body, timeoutMs, tls, onStatus }: PostRequest): Promise<PostResult> {
    const target = this.#targetOf(url);
    if ('refusal' in target) return Promise.resolve(failedPost(new SendError('URL_REFUSED', target.refusal)));
    return new Promise((resolve) => {
      const { agent, end } = this.#agents.lease(tls);
      const exchange = new Exchange(resolve, end, timeoutMs, onStatus);
      try {
        agent.dispatch(
          {
            origin: target.origin,
            path: target.path,
            method,
            headers: headers as Record<string, string | string[]>,
            body: method === 'POST' ? body : null,
            // The exchange has one time limit for everything.
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
    if (!URL.canParse(text)) return { refusal: 'the URL cannot be parsed' };
    const url = new URL(text);
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

/**
 * One request in flight, as a handler of undici's events.
 *
 * It settles once: at the end of the response, after {@link MAX_RESPONSE_BYTES} of the body, at the time limit, or at
 * an error. Once status and headers have arrived, the status decides the outcome, whatever happens to the body: a
 * receiver that answered 200 has the event, and only the log needs the body. Bytes that arrive after settling are read
 * and dropped, up to {@link MAX_DRAINED_BYTES} and within the time limit.
 *
 * For a body that does not arrive together with its headers, `onStatus` decides whether it is read. Such a body has at
 * most {@link BODY_TIMEOUT_MS}.
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

  /** @param ended called when no more bytes will come, possibly after the request has settled */
  constructor(
    resolve: (result: PostResult) => void,
    ended: () => void,
    timeoutMs: number,
    onStatus: OnStatus | undefined,
  ) {
    this.#resolve = resolve;
    this.#ended = ended;
    this.#onStatus = onStatus;
    this.#deadline = performance.now() + timeoutMs;
    this.#timer = setTimeout(() => this.#expire(timeoutMs), timeoutMs);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // The request waited for a connection until its time limit was over, so it must not be sent.
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
    // Most bodies arrive in the same piece as their headers. undici has parsed that piece completely before the
    // microtask runs.
    if (this.#onStatus) queueMicrotask(() => this.#beginBody(status));
  }

  /** Called for a body that has not arrived completely. */
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

  /** Settles with the status, and closes the connection, which cannot serve another request. */
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
      resolve(
        failedPost(toSendError(error ?? new SendError('INVALID_RESPONSE', 'the answer ended before its status line'))),
      );
    } else {
      resolve({ status: this.#status, headers: this.#headers, body: this.#text(), error: null });
    }
    this.#kept = [];
  }

  #text(): string {
    if (this.#kept.length === 0) return '';
    const bytes = this.#kept.length === 1 ? (this.#kept[0] as Buffer) : Buffer.concat(this.#kept);
    // An open decoder omits a character that the limit cut in half; toString would show it as damaged.
    const cut = this.#received > MAX_RESPONSE_BYTES;
    const text = cut ? new StringDecoder('utf8').write(bytes) : bytes.toString('utf8');
    return text.includes('\0') ? text.replaceAll('\0', '') : text;
  }
}
