import { BadRequestError } from '../errors.js';

/** Most headers a listener may have. */
const MAX_HEADERS = 20;
/** Longest header name, in characters. */
const MAX_HEADER_NAME_LENGTH = 128;
/** Longest header value, in characters. */
const MAX_HEADER_VALUE_LENGTH = 4096;
/** Names and values of a listener together: most servers refuse requests with more than 8 KiB of headers. */
const MAX_HEADERS_LENGTH = 6 * 1024;

/** What this library or HTTP itself says, and a listener may not contradict. */
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
 * Checks the headers that a listener wants with each request.
 *
 * @returns the same headers with their names in lower case
 * @throws {@link BadRequestError} `INVALID_HEADER` for a name that is no token (RFC 9110 section 5.6.2), a reserved name, a
 * name twice, a value with other than printable ASCII or spaces at its ends, too many or too long ones. The message
 * may hold a valid name; values, which are often credentials, never
 */
export function assertListenerHeaders(
  headers: Readonly<Record<string, string>> | null | undefined,
): Record<string, string> {
  if (headers === null || headers === undefined) return {};
  if (typeof headers !== 'object' || Array.isArray(headers))
    throw invalidHeader('Headers are an object of names and values.');
  const entries = Object.entries(headers);
  if (entries.length > MAX_HEADERS) throw invalidHeader(`A listener has at most ${MAX_HEADERS} headers.`);

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
    throw invalidHeader(`The headers are longer than ${MAX_HEADERS_LENGTH} characters together.`);
  }
  return checked;
}

function assertName(given: string, name: string): void {
  if (given.length > MAX_HEADER_NAME_LENGTH) {
    throw invalidHeader(`A header name is longer than ${MAX_HEADER_NAME_LENGTH} characters.`);
  }
  // Assigning to "__proto__" would set nothing, or worse.
  if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(given) || name === '__proto__') {
    // Not repeated: "Authorization: Bearer …" pasted as a name holds the credential.
    throw invalidHeader('A header name has a character that names cannot have.');
  }
  if (RESERVED_NAMES.has(name) || RESERVED_PREFIXES.some((prefix) => name.startsWith(prefix))) {
    throw invalidHeader(`The header ${name} is set by the sender and cannot be given.`, name);
  }
}

function assertValue(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw invalidHeader(`The value of the header ${name} is not text.`, name);
  if (value.length > MAX_HEADER_VALUE_LENGTH) {
    throw invalidHeader(`The value of the header ${name} is longer than ${MAX_HEADER_VALUE_LENGTH} characters.`, name);
  }
  if (!/^(?:[!-~](?:[ -~]*[!-~])?)?$/.test(value)) {
    throw invalidHeader(
      `The value of the header ${name} has a character other than printable ASCII, or a space at an end.`,
      name,
    );
  }
}

function invalidHeader(message: string, header?: string): BadRequestError {
  return new BadRequestError('INVALID_HEADER', message, header === undefined ? {} : { details: { header } });
}
