import type { TlsIdentity } from './guarded-agent.js';
import type { Outcome } from './outcome.js';

/** One attempt, ready to go: signed, and nothing left to decide. */
export interface SignedRequest {
  /** Where to. */
  url: string;
  /** `OPTIONS`, with an empty body, is the handshake of CloudEvents. @defaultValue 'POST' */
  method?: 'POST' | 'OPTIONS';
  /** All headers of ours, the content type among them, exactly as they are to arrive. */
  headers: Readonly<Record<string, string>>;
  /** The bytes that were signed. */
  body: Buffer;
  /** The limit over name resolution, connect, TLS, headers and body together, in milliseconds. With `onStatus` the body has less. */
  timeoutMs: number;
  /** Who the client is in TLS, and whom it trusts. @defaultValue nobody, and the public authorities */
  tls?: TlsIdentity;
  /** Frees the slot of the attempt before the body is read. A transport of your own may ignore it. @defaultValue none */
  onStatus?: OnStatus;
}

/**
 * Called once when status and headers have arrived, before the body: the status decides the outcome, and only the log needs the body.
 *
 * @returns a function to call when the body is read or its connection is closed; `null`: do not read the body, and close the connection
 */
export type OnStatus = (status: number) => (() => void) | null;

/**
 * Sends one signed request: a replaceable part. Provide another class under this token to send by a proxy, record
 * instead of sending, and so on.
 *
 * `send` never rejects: whatever an endpoint does is an {@link Outcome}. An implementation of your own takes over what
 * {@link HttpTransport} guards: addresses, redirects, the time limit, and that the bytes sent are the bytes signed.
 */
export abstract class Transport {
  abstract send(request: SignedRequest): Promise<Outcome>;

  /** Ends connections that are still open. Called once, after the last `send` has settled. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}
