import type { TlsIdentity } from './guarded-agent.js';
import type { Outcome } from './outcome.js';

/** One attempt, signed and ready to send. */
export interface SignedRequest {
  /** The URL of the listener. */
  url: string;
  /** `OPTIONS` with an empty body is the handshake of CloudEvents. @defaultValue 'POST' */
  method?: 'POST' | 'OPTIONS';
  /** All headers that this library sets, including the content type. Send them unchanged. */
  headers: Readonly<Record<string, string>>;
  /** The bytes that were signed. */
  body: Buffer;
  /**
   * Time limit for name resolution, connect, TLS, headers and body together, in milliseconds. With `onStatus` the body
   * has a shorter limit.
   */
  timeoutMs: number;
  /**
   * Client certificate and trusted authorities for TLS. @defaultValue no client certificate, and the public authorities
   */
  tls?: TlsIdentity;
  /** Frees the slot of the attempt before the body is read. A custom transport may ignore it. @defaultValue none */
  onStatus?: OnStatus;
}

/**
 * Called once when status and headers have arrived, before the body. The status decides the outcome, and only the log
 * needs the body.
 *
 * @returns a function to call when the body is read or its connection is closed; `null`: do not read the body, and
 * close the connection
 */
export type OnStatus = (status: number) => (() => void) | null;

/**
 * Sends one signed request. A replaceable part: provide another class under this token to send in another way, or to
 * record requests instead of sending them.
 *
 * `send` never rejects: every result is an {@link Outcome}. A custom implementation is responsible for everything that
 * {@link HttpTransport} guards: addresses, redirects, the time limit, and that the bytes sent are the bytes signed.
 */
export abstract class WebhookTransport {
  abstract send(request: SignedRequest): Promise<Outcome>;

  /** Closes all connections. Called once, after the last `send` has settled. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}
