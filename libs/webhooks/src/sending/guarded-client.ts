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

/** How much of a response body is kept. */
export const MAX_RESPONSE_BYTES = 4096;

/** How much more is read, and thrown away, so that the connection can serve the next request; beyond, it is closed. */
const MAX_DRAINED_BYTES = 64 * 1024;

/**
 * How long the body of an attempt may take after its status. The body is only for the log, so a slow one is cut off: an honest server
 * sends a short answer at once.
 */
const BODY_TIMEOUT_MS = 1_000;

/** How many answers of 1xx may come before the real one: a receiver that sends them without end costs a process its time. */
const MAX_INFORMATIONAL = 16;

/** Headers as undici takes them. */
export type PostHeaders = Readonly<Record<string, string | string[]>>;

/** What is sent: a POST, but for the handshake that asks with `OPTIONS`. */
export interface PostRequest {
  readonly url: string;
  readonly method?: 'POST' | 'OPTIONS' | undefined;
  readonly headers: PostHeaders;
  readonly body: Buffer;
  readonly timeoutMs: number;
  readonly tls?: TlsIdentity | undefined;
  readonly onStatus?: OnStatus | undefined;
}

/** A URL as it is asked for, or why it is not. Nothing of its address: that is decided at each connection. */
type Target = { readonly origin: string; readonly path: string } | { readonly refusal: string };

/** A busy listener's URL is read once, not for each request. */
const MAX_CACHED_TARGETS = 10_000;

/** POSTs bytes to guarded addresses, and follows nothing. The only place in the library that opens a connection. */
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

  /** Never rejects. The time limit begins with the call. */
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
            // The exchange has one limit over everything.
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

  /** Ends every connection at once; a POST that is under way fails with `TRANSPORT_CLOSED`. */
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
    if (!URL.canParse(text)) return { refusal: 'the URL cannot be read' };
    const url = new URL(text);
    const { allowHttp, allowedPorts } = this.#security;
    if (url.protocol !== 'https:' && !(url.protocol === 'http:' && allowHttp)) {
      return {
        refusal: `${url.protocol} is not allowed${url.protocol === 'http:' ? ' without security.allowHttp' : ''}`,
      };
    }
    if (url.username !== '' || url.password !== '') return { refusal: 'the URL holds credentials' };
    if (!isPortAllowed(url, allowedPorts)) return { refusal: 'its port is not in security.allowedPorts' };
    return { origin: url.origin, path: url.pathname + url.search };
  }
}

/**
 * One request on its way, as undici tells it.
 *
 * It settles once: at the end of the response, when {@link MAX_RESPONSE_BYTES} of it are here, at the time limit, or at an
 * error. As soon as status and headers have arrived the status decides, whatever becomes of the body, which is only kept for
 * the log: a receiver that has said 200 has the event. What comes after settling is read and dropped up to
 * {@link MAX_DRAINED_BYTES}, still inside the time limit.
 *
 * A body that does not come with its headers is asked for by `onStatus`: it may be refused, and has {@link BODY_TIMEOUT_MS}.
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

  /** @param ended called when nothing more comes, which may be after it has settled */
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
    // It waited for a connection for longer than its limit: nothing may be sent any more.
    if (this.#expired) controller.abort(new SendError('TIMEOUT', 'expired before it was sent'));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) {
      if (++this.#informational > MAX_INFORMATIONAL) {
        controller.abort(new SendError('INVALID_RESPONSE', `more than ${MAX_INFORMATIONAL} answers of 1xx`));
      }
      return;
    }
    this.#status = status;
    this.#headers = headers;
    // Most bodies come in the same piece as their headers: undici has read that piece to its end before this runs.
    if (this.#onStatus) queueMicrotask(() => this.#beginBody(status));
  }

  /** Only a body that is still to come. */
  #beginBody(status: number): void {
    if (this.#hasEnded || !this.#onStatus) return;
    this.#bodyEnded = this.#onStatus(status);
    if (this.#bodyEnded === null) {
      this.#cutOff('its body is not read');
      return;
    }
    clearTimeout(this.#timer);
    const left = Math.min(BODY_TIMEOUT_MS, this.#deadline - performance.now());
    this.#timer = setTimeout(() => this.#cutOff(`no whole body within ${BODY_TIMEOUT_MS} ms`), left);
  }

  /** The status stands. The connection cannot serve another request, and is closed. */
  #cutOff(detail: string): void {
    this.#settle(null);
    this.#controller?.abort(new SendError('TIMEOUT', detail));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const room = MAX_RESPONSE_BYTES - this.#received;
    this.#received += chunk.length;
    if (room > 0) this.#kept.push(chunk.length > room ? chunk.subarray(0, room) : chunk);
    if (this.#received > MAX_RESPONSE_BYTES) this.#settle(null);
    if (this.#received > MAX_DRAINED_BYTES) controller.abort(new SendError('INVALID_RESPONSE', 'longer than is read'));
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
        failedPost(toSendError(error ?? new SendError('INVALID_RESPONSE', 'the answer ended before its status'))),
      );
    } else {
      resolve({ status: this.#status, headers: this.#headers, body: this.#text(), error: null });
    }
    this.#kept = [];
  }

  #text(): string {
    if (this.#kept.length === 0) return '';
    const bytes = this.#kept.length === 1 ? (this.#kept[0] as Buffer) : Buffer.concat(this.#kept);
    // A decoder that is not ended leaves off the character that the limit cut; toString would show it as damaged.
    const cut = this.#received > MAX_RESPONSE_BYTES;
    const text = cut ? new StringDecoder('utf8').write(bytes) : bytes.toString('utf8');
    return text.includes('\0') ? text.replaceAll('\0', '') : text;
  }
}
