import { errors } from 'undici';

import type { SendErrorCode } from './outcome.js';

/**
 * Why a request was not sent, or got no answer. {@link Transport.send} turns it into an {@link Outcome}, so it never
 * leaves this folder.
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

/** Error codes of Node.js and undici that mean more than "the connection failed". */
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
const GONE: ReadonlySet<string> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

/** Whether the error says only that the connection was closed. */
export function isGone(error: unknown): boolean {
  return GONE.has(codeOf(error) ?? '');
}

/**
 * Whether the error comes from OpenSSL: an alert of the other side, or a record that cannot be read. It can come long
 * after the handshake.
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
  // Not String(error): a value that an interceptor throws may have a null prototype, and then has no toString.
  if (!(error instanceof Error)) return typeof error === 'string' ? error : `a thrown value of type ${typeof error}`;
  const code = codeOf(error);
  const message = error.message || error.name;
  return code === undefined || message.includes(code) ? message : `${code}: ${message}`;
}

function codeOf(error: unknown): string | undefined {
  const code: unknown = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
