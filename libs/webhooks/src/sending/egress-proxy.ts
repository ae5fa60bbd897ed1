import { X509Certificate } from 'node:crypto';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import { flag, optional, required, type OptionTable, type Resolved } from '../option-table.js';
import { parseUrl } from '../parse-url.js';
import { hostOf } from './lookup.js';
import { describeError, SendError } from './send-error.js';

/** The proxy through which webhooks leave the network. */
export interface EgressProxyOptions {
  /**
   * URL of the proxy: `http://proxy:3128` or `https://proxy:3129`. If the proxy requires a user and a password, add both to the URL.
   * Webhooks to `https:` and `http:` URLs are both tunnelled with CONNECT. The address of the proxy is not checked, because the
   * application chose the proxy.
   */
  url: string;

  /**
   * Whether the proxy resolves names. With `false`, this process resolves and checks the name, and sends the checked address in CONNECT. TLS still
   * uses the name.
   *
   * `true` is for a network without a resolver for names of the internet. With `true`, the name is sent in CONNECT.
   * So **the proxy is the guard**, and must refuse internal addresses. This process still checks literal addresses
   * and ports.
   *
   * @defaultValue false
   */
  resolvesNames?: boolean;

  /**
   * The certificate authorities that may have signed the certificate of an `https:` proxy, in PEM.
   *
   * @defaultValue the public authorities
   */
  ca?: string;
}

export const EGRESS_PROXY = {
  url: required<string>({
    allowed: "an http: or https: URL without a path, such as 'http://proxy.internal:3128'",
    isAllowed: isProxyUrl,
    isSecret: true, // the URL may contain a password
  }),
  resolvesNames: flag(false),
  ca: optional<string>({ allowed: 'certificates in PEM', isAllowed: isCertificate, isSecret: true }),
} satisfies OptionTable<EgressProxyOptions>;

/** {@link EgressProxyOptions}, checked. */
export type ResolvedEgressProxy = Resolved<typeof EGRESS_PROXY>;

function isProxyUrl(given: unknown): boolean {
  const parsed = typeof given === 'string' ? parseUrl(given) : null;
  const isOrigin = parsed !== null && parsed.pathname === '/' && parsed.search === '' && parsed.hash === '';
  return isOrigin && ['http:', 'https:'].includes(parsed.protocol) && canBeDecoded(parsed);
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
   * Opens a tunnel to `host`.
   *
   * @param host an address, or a name that the proxy resolves
   * @returns the connected socket
   * @throws {@link SendError} `PROXY_FAILED` when the proxy is unreachable or refuses the tunnel; `TIMEOUT` when it is too slow
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
        // Always verify the certificate. NODE_TLS_REJECT_UNAUTHORIZED=0 may be set for another purpose. Then the proxy password
        // would be sent to any server.
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
      // Node.js emits `connect` for every status, not only for 2xx.
      request.on('connect', ({ statusCode = 0 }: IncomingMessage, stream: Duplex, head: Buffer) => {
        clearTimeout(timer);
        const socket = stream as Socket;
        // Any 2xx opens the tunnel (RFC 9110, section 9.3.6).
        if (statusCode < 200 || statusCode > 299) {
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
