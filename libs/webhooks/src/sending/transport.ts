import type { TlsIdentity } from './connection-options.js';
import type { Outcome } from './outcome.js';

/** The request of one attempt, signed and ready to send. */
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
   * The client certificate and the trusted authorities for TLS. @defaultValue no client certificate, and the public authorities
   */
  tls?: TlsIdentity;
  /** Frees the slot of the attempt before the body is read. A custom transport may ignore `onStatus`. @defaultValue none */
  onStatus?: OnStatus;
}

/**
 * Called once when status and headers have arrived, and before the body is read. The status decides the outcome. Only
 * the log needs the body.
 *
 * @returns a function to call when the body is read or its connection is closed. If the result is `null`, do not
 * read the body, and close the connection
 */
export type OnStatus = (status: number) => (() => void) | null;

/**
 * Sends one signed request. The transport is a replaceable part. Provide another class under this token to send
 * requests in another way, or to record requests instead of sending them.
 *
 * `send` never rejects, because every result is an {@link Outcome}. A custom implementation has all duties of {@link
 * HttpTransport}: it checks addresses, follows no redirects, keeps the time limit, and sends exactly the signed bytes.
 */
export abstract class WebhookTransport {
  abstract send(request: SignedRequest): Promise<Outcome>;

  /** Closes all connections. The module calls this method once, after the last `send` has settled. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}
