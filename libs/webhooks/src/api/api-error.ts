import { BadRequestError } from '../errors.js';

/** What is wrong with one part of a request. */
export interface RequestFault {
  /** JSON Pointer (RFC 6901) of a value in the body. */
  readonly pointer?: string;
  /** A parameter of the query or the path, or a header. */
  readonly parameter?: string;
  readonly code: string;
  readonly detail: string;
}

/** A request that the API refuses. */
export class ApiError extends BadRequestError {
  readonly faults: readonly RequestFault[];
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    code: string,
    httpStatus: number,
    message: string,
    {
      faults = [],
      headers = {},
    }: { faults?: readonly RequestFault[]; headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(code, message, { httpStatus });
    this.faults = faults;
    this.headers = headers;
  }
}

/** The request does not have the documented form. */
export function invalidRequest(faults: readonly Omit<RequestFault, 'code'>[]): ApiError {
  const code = 'INVALID_REQUEST';
  const [first] = faults;
  const more = faults.length > 1 ? ` (and ${faults.length - 1} more: see errors)` : '';
  const place = first?.pointer === undefined ? `\`${first?.parameter}\`` : `The value at \`${first.pointer || '/'}\``;
  return new ApiError(code, 400, `${place} ${first?.detail}${more}.`, {
    faults: faults.slice(0, MAX_FAULTS).map((fault) => ({ ...fault, code })),
  });
}

/** An answer lists at most this many problems, even if a body has a thousand wrong items. */
const MAX_FAULTS = 20;

/** @param retryAt ms since 1970 */
export function retryAfter(retryAt: number, now: number): Readonly<Record<string, string>> {
  return { 'Retry-After': String(Math.max(1, Math.ceil((retryAt - now) / 1_000))) };
}
