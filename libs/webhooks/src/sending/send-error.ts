import { errors } from 'undici';

/**
 * Why an attempt was not accepted. The list of codes is closed. Programs may branch on a code, and may store it.
 *
 * | code | kind | what happened |
 * |---|---|---|
 * | `HTTP_STATUS` | rejected | the receiver answered with a status that is neither 2xx nor 3xx |
 * | `REDIRECT` | rejected | the receiver answered 3xx; redirects are never followed |
 * | `TIMEOUT` | unreachable | no status line and headers within the time limit, or no connection within the time
 * limit of a connection |
 * | `DNS_FAILED` | unreachable | the name did not resolve |
 * | `CONNECTION_REFUSED` | unreachable | nothing listens on that port |
 * | `CONNECTION_FAILED` | unreachable | there is no route, or the connection was reset or closed before the answer |
 * | `TLS_FAILED` | unreachable | TLS failed because of the server's certificate, the client's certificate (refused or missing),
 * the name or the protocol |
 * | `PROXY_FAILED` | unreachable | the proxy of `security.proxy` could not be reached, or opened no tunnel |
 * | `INVALID_RESPONSE` | unreachable | the answer was not HTTP, its headers were too large, or the receiver sent too many 1xx answers |
 * | `INVALID_REQUEST` | unreachable | the request could not be written, for example for a header that an interceptor set |
 * | `INTERCEPTOR_FAILED` | unreachable | an interceptor threw, or took the whole time limit |
 * | `OUT_OF_SOCKETS` | unreachable | this process has no file, buffer or memory left for a connection; the dispatcher counts no attempt |
 * | `TRANSPORT_CLOSED` | unreachable | the application was closing |
 * | `TRANSPORT_FAILED` | unreachable | a fault of the transport itself: please report it |
 * | `AUTH_FAILED` | unreachable, blocked | no token could be obtained for a listener with `oauth2`; the detail says why |
 * | `ADDRESS_BLOCKED` | blocked | the address is not public and not in `security.allowedAddresses` |
 * | `URL_REFUSED` | blocked | the URL is not `https:` (or `http:` with `security.allowHttp`), has a port outside `security.allowedPorts`, contains credentials,
 * or cannot be parsed |
 * | `BODY_MISMATCH` | blocked | an interceptor changed the body that had been signed |
 */
export type SendErrorCode =
  | 'HTTP_STATUS'
  | 'REDIRECT'
  | 'TIMEOUT'
  | 'DNS_FAILED'
  | 'CONNECTION_REFUSED'
  | 'CONNECTION_FAILED'
  | 'TLS_FAILED'
  | 'PROXY_FAILED'
  | 'INVALID_RESPONSE'
  | 'INVALID_REQUEST'
  | 'INTERCEPTOR_FAILED'
  | 'OUT_OF_SOCKETS'
  | 'TRANSPORT_CLOSED'
  | 'TRANSPORT_FAILED'
  | 'AUTH_FAILED'
  | 'ADDRESS_BLOCKED'
  | 'URL_REFUSED'
  | 'BODY_MISMATCH';

/**
 * The reason why a request was not sent, or got no answer. {@link WebhookTransport.send} turns this error into an {@link
 * Outcome}. So the error never leaves this folder.
 */
export class SendError extends Error {
  constructor(
    readonly code: SendErrorCode,
    detail: string,
    options?: { cause?: unknown },
  ) {
    super(detail, options);
    this.name = 'SendError';
  }
}

/** Error codes of Node.js and undici that mean more than only "the connection failed". */
const CODES: Readonly<Record<string, SendErrorCode>> = {
  ECONNREFUSED: 'CONNECTION_REFUSED',
  ETIMEDOUT: 'TIMEOUT',
  UND_ERR_CONNECT_TIMEOUT: 'TIMEOUT',
  UND_ERR_HEADERS_TIMEOUT: 'TIMEOUT',
  UND_ERR_BODY_TIMEOUT: 'TIMEOUT',
  UND_ERR_HEADERS_OVERFLOW: 'INVALID_RESPONSE',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'INVALID_RESPONSE',
  UND_ERR_INVALID_ARG: 'INVALID_REQUEST',
  UND_ERR_REQ_CONTENT_LENGTH_MISMATCH: 'INVALID_REQUEST',
  UND_ERR_NOT_SUPPORTED: 'INVALID_REQUEST',
  EMFILE: 'OUT_OF_SOCKETS',
  ENFILE: 'OUT_OF_SOCKETS',
  ENOBUFS: 'OUT_OF_SOCKETS',
  ENOMEM: 'OUT_OF_SOCKETS',
  UND_ERR_DESTROYED: 'TRANSPORT_CLOSED',
  UND_ERR_CLOSED: 'TRANSPORT_CLOSED',
};

/** Whether this machine has no file descriptor, buffer or memory left for another socket. */
export function isOutOfSockets(error: unknown): boolean {
  const code = codeOf(error);
  return code !== undefined && CODES[code] === 'OUT_OF_SOCKETS';
}

/** Codes that mean only that the connection was closed. */
const CONNECTION_CLOSED: ReadonlySet<string> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

/** Whether the error says only that the connection was closed. */
export function isGone(error: unknown): boolean {
  return CONNECTION_CLOSED.has(codeOf(error) ?? '');
}

/**
 * Whether the error comes from OpenSSL, for example an alert of the other side, or a record that cannot be read. Such
 * an error can occur long after the handshake.
 */
export function isTlsError(error: unknown): boolean {
  return codeOf(error)?.startsWith('ERR_SSL_') === true;
}

/** Classifies an error of undici or of a socket by its code, never by its message. */
export function toSendError(error: unknown): SendError {
  if (error instanceof SendError) return error;
  const code = codeOf(error);
  const detail = describeError(error);
  // HTTPParserError does not always have a code.
  if (error instanceof errors.HTTPParserError) return new SendError('INVALID_RESPONSE', detail, { cause: error });
  if (isTlsError(error)) return new SendError('TLS_FAILED', detail, { cause: error });
  return new SendError((code !== undefined && CODES[code]) || 'CONNECTION_FAILED', detail, { cause: error });
}

/** Describes an error for an operator: its code and message, without the stack. */
export function describeError(error: unknown): string {
  // `String(error)` does not work for every value: a value that an interceptor throws may have a null prototype, and
  // then has no `toString`.
  if (!(error instanceof Error)) return typeof error === 'string' ? error : `a thrown value of type ${typeof error}`;
  const code = codeOf(error);
  const message = error.message || error.name;
  return code === undefined || message.includes(code) ? message : `${code}: ${message}`;
}

function codeOf(error: unknown): string | undefined {
  const code: unknown = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
