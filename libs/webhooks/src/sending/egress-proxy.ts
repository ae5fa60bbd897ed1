import { X509Certificate } from 'node:crypto';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import { ConfigurationError } from '../errors.js';
import { show } from '../show.js';
import { hostOf } from './lookup.js';
import { describeError, SendError } from './send-error.js';

/** The proxy that webhooks leave through. */
export interface EgressProxyOptions {
  /**
   * `http://proxy:3128` or `https://proxy:3129`, with user and password in it when it asks for them. Webhooks to `https:` and to
   * `http:` URLs alike are tunnelled through it with CONNECT. Its own address is the application's choice, and not guarded.
   */
  url: string;

  /**
   * `false`: names are resolved and checked here, and the checked address stands in CONNECT; TLS still asks for the name.
   * `true`, for a network that resolves no names of the outside: the name stands in CONNECT, so **the proxy is the guard** and has to
   * refuse addresses of the inner network itself. Literal addresses and ports are checked here either way.
   *
   * @defaultValue false
   */
  resolvesNames?: boolean;

  /**
   * The authorities that may have signed the certificate of an `https:` proxy, in PEM.
   *
   * @defaultValue the public ones
   */
  ca?: string;
}

/** {@link EgressProxyOptions}, checked. */
export interface ResolvedEgressProxy {
  readonly url: string;
  readonly resolvesNames: boolean;
  readonly ca: string | undefined;
}

/** @throws {@link ConfigurationError} `INVALID_OPTION`; the URL is not repeated, as it may hold a password */
export function resolveEgressProxy(given: EgressProxyOptions | undefined): ResolvedEgressProxy | null {
  if (given === undefined) return null;
  const { url, resolvesNames = false, ca } = given;
  const parsed = typeof url === 'string' && URL.canParse(url) ? new URL(url) : null;
  const isOrigin = parsed !== null && parsed.pathname === '/' && parsed.search === '' && parsed.hash === '';
  if (!isOrigin || !['http:', 'https:'].includes(parsed.protocol) || !canBeDecoded(parsed)) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `security.proxy.url is ${url === undefined ? 'missing' : "'…'"}: give the URL of a proxy such as 'http://proxy.internal:3128', without a path.`,
    );
  }
  if (typeof resolvesNames !== 'boolean') {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `security.proxy.resolvesNames is ${show(resolvesNames)}: give true or false.`,
    );
  }
  if (ca !== undefined && !isCertificate(ca)) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `security.proxy.ca is ${typeof ca === 'string' ? "'…'" : show(ca)}: give certificates in PEM.`,
    );
  }
  return Object.freeze({ url, resolvesNames, ca });
}

function isCertificate(pem: unknown): boolean {
  try {
    return new X509Certificate(pem as string).raw.length > 0;
  } catch {
    return false;
  }
}

function canBeDecoded({ username, password }: URL): boolean {
  try {
    decodeURIComponent(username + password);
    return true;
  } catch {
    return false;
  }
}

/** Opens tunnels through one proxy. */
export class EgressProxy {
  readonly resolvesNames: boolean;
  readonly #url: URL;
  readonly #ca: string | undefined;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ url, resolvesNames, ca }: ResolvedEgressProxy) {
    this.#ca = ca;
    this.resolvesNames = resolvesNames;
    this.#url = new URL(url);
    const { username, password } = this.#url;
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    this.#headers =
      credentials === ':' ? {} : { 'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}` };
  }

  /**
   * A socket whose other end is `host`.
   *
   * @param host an address, or a name that the proxy resolves
   * @throws {@link SendError} `PROXY_FAILED` when the proxy is not there or refuses, `TIMEOUT`
   */
  connect(host: string, port: number, timeoutMs: number): Promise<Socket> {
    const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    const isTls = this.#url.protocol === 'https:';
    return new Promise((resolve, reject) => {
      const request = (isTls ? httpsRequest : httpRequest)({
        host: hostOf(this.#url),
        port: this.#url.port || (isTls ? 443 : 80),
        method: 'CONNECT',
        path: authority,
        headers: { host: authority, ...this.#headers },
        agent: false,
        // Else NODE_TLS_REJECT_UNAUTHORIZED=0, set for something else, would send our password to anybody.
        rejectUnauthorized: true,
        ca: this.#ca,
        maxHeaderSize: 16 * 1024,
      });
      const timer = setTimeout(() => {
        request.destroy(new SendError('TIMEOUT', `the proxy opened no tunnel within ${timeoutMs} ms`));
      }, timeoutMs);
      const fail = (error: unknown): void => {
        clearTimeout(timer);
        const isKnown = error instanceof SendError;
        reject(isKnown ? error : new SendError('PROXY_FAILED', `the proxy: ${describeError(error)}`, { cause: error }));
      };
      request.on('error', fail);
      // With a status other than 2xx the socket comes here, too.
      request.on('connect', ({ statusCode }: IncomingMessage, stream: Duplex, head: Buffer) => {
        clearTimeout(timer);
        const socket = stream as Socket;
        if (statusCode !== 200) {
          socket.on('error', () => undefined).destroy();
          fail(new SendError('PROXY_FAILED', `the proxy answered CONNECT with ${statusCode}`));
          return;
        }
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      });
      request.end();
    });
  }
}
