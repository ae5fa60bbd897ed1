import { BadRequestError } from '../errors.js';

/** Maximum number of headers of a listener. */
export const MAX_HEADERS = 20;
/** Maximum length of a header name, in characters. */
const MAX_HEADER_NAME_LENGTH = 128;
/** Maximum length of a header value, in characters. */
export const MAX_HEADER_VALUE_LENGTH = 4096;
/**
 * Maximum length of all header names and values of a listener together, in characters. Most servers refuse requests
 * with more than 8 KiB of headers.
 */
const MAX_HEADERS_LENGTH = 6 * 1024;

/** Headers that this library or HTTP itself sets. A listener cannot override these headers. */
const RESERVED_NAMES = new Set([
  'accept-encoding',
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'expect',
  'google-code-project-hosting-hook-hmac',
  'host',
  'http2-settings',
  'keep-alive',
  'stripe-signature',
  'te',
  'traceparent',
  'tracestate',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'user-agent',
  'via',
  'x-hub-signature-256',
]);

const RESERVED_PREFIXES = ['webhook-', 'proxy-', 'sec-'];

/**
 * Checks the headers that a listener wants in each request.
 *
 * @returns the same headers with names in lower case
 * @throws {@link BadRequestError} `INVALID_HEADER` when a name is not a token (RFC 9110 section 5.6.2), is reserved or
 * is given twice, when a value has a character that is not printable ASCII or starts or ends with a space, or when
 * headers are too many or too long. The message may contain a valid name. The message never contains a value, because
 * values are often credentials
 */
export function assertListenerHeaders(
  headers: Readonly<Record<string, string>> | null | undefined,
): Record<string, string> {
  if (headers === null || headers === undefined) return {};
  if (typeof headers !== 'object' || Array.isArray(headers))
    throw invalidHeader('`headers` must be an object of names and values.');
  const entries = Object.entries(headers);
  if (entries.length > MAX_HEADERS) throw invalidHeader(`A listener can have at most ${MAX_HEADERS} headers.`);

  const checked: Record<string, string> = {};
  let length = 0;
  for (const [given, value] of entries) {
    const name = given.toLowerCase();
    assertName(given, name);
    if (Object.hasOwn(checked, name)) throw invalidHeader(`The header ${name} is given twice.`, name);
    assertValue(name, value);
    length += name.length + value.length;
    checked[name] = value;
  }
  if (length > MAX_HEADERS_LENGTH) {
    throw invalidHeader(`The headers together must have at most ${MAX_HEADERS_LENGTH} characters.`);
  }
  return checked;
}

function assertName(given: string, name: string): void {
  if (given.length > MAX_HEADER_NAME_LENGTH) {
    throw invalidHeader(`A header name must have at most ${MAX_HEADER_NAME_LENGTH} characters.`);
  }
  // Assigning to "__proto__" would not create a header.
  if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(given) || name === '__proto__') {
    // The message does not repeat the name. If someone pastes "Authorization: Bearer …" as a name, the name
    // contains the credential.
    throw invalidHeader(
      "A header name contains a character that is not allowed. Allowed: letters, digits and !#$%&'*+-.^_`|~.",
    );
  }
  if (RESERVED_NAMES.has(name) || RESERVED_PREFIXES.some((prefix) => name.startsWith(prefix))) {
    throw invalidHeader(`The header ${name} is reserved for the sender. Leave this header out.`, name);
  }
}

function assertValue(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw invalidHeader(`The value of the header ${name} must be a string.`, name);
  if (value.length > MAX_HEADER_VALUE_LENGTH) {
    throw invalidHeader(
      `The value of the header ${name} must have at most ${MAX_HEADER_VALUE_LENGTH} characters.`,
      name,
    );
  }
  if (!/^(?:[!-~](?:[ -~]*[!-~])?)?$/.test(value)) {
    throw invalidHeader(
      `The value of the header ${name} must contain only printable ASCII characters, without a space at the start or end.`,
      name,
    );
  }
}

function invalidHeader(message: string, header?: string): BadRequestError {
  return new BadRequestError('INVALID_HEADER', message, header === undefined ? {} : { details: { header } });
}
