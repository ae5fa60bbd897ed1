import { oneLine } from '../foreign-text.js';
import { MASK } from '../listeners/credentials/listener-auth.js';
import type { AttemptExchange, Outcome, OutcomeKind } from '../sending/outcome.js';
import type { SignedRequest } from '../sending/transport.js';
import { USER_AGENT } from '../sending/user-agent.js';
import type { StoredDetails, StoredHeaders } from '../store/queue/stored-details.js';
import { maskSecrets } from './mask-secrets.js';

/** Of which attempts the log keeps details. */
export type DetailedAttempts = 'failed' | 'all' | 'thin';

/** The most bytes that the headers of a request and of its answer take, together and as JSON. */
const MAX_HEADER_BYTES = 2_048;
/** The share of the request, so that a request with many headers leaves room for the answer. */
const MAX_REQUEST_BYTES = MAX_HEADER_BYTES / 2;
/** The most characters of one value. Longer values are cut. */
const MAX_VALUE_LENGTH = 256;

/** Names of headers whose values are never stored. `www-authenticate` is not among them: it says why a server answered 401. */
const SECRET_NAME = /authorization|cookie|token|secret|passw|pwd|credential|session|api-?key|access-?key/i;

type Headers = NonNullable<AttemptExchange['requestHeaders' | 'responseHeaders']>;

/** Makes the details of attempts for the log: URL, headers with masked secrets, and phases. */
export class AttemptDetails {
  constructor(private readonly attempts: DetailedAttempts) {}

  /** Whether the log keeps details of an attempt with this outcome. */
  has(outcome: OutcomeKind): boolean {
    return this.attempts === 'all' || (this.attempts === 'failed' && outcome !== 'accepted');
  }

  /**
   * Returns the details in stored form, or `null`.
   *
   * @param signed the request before credentials and interceptors. `null`: it could not be signed
   * @param secretsOf opens the keys that signed the request. A signature scheme may send a key itself
   */
  of(outcome: Outcome, url: string, signed: SignedRequest | null, secretsOf: () => readonly string[]): string | null {
    if (!this.has(outcome.kind)) return null;
    const { exchange } = outcome;
    const bare = { url, request: null, response: null, phases: exchange?.phases ?? null, omitted: 0 };
    try {
      return JSON.stringify({ ...bare, ...headersOf(outcome, signed, secretsOf()) } satisfies StoredDetails);
    } catch {
      return JSON.stringify(bare); // a custom transport returned something else than headers
    }
  }
}

function headersOf(
  { exchange, status }: Outcome,
  signed: SignedRequest | null,
  secrets: readonly string[],
): Pick<StoredDetails, 'request' | 'response' | 'omitted'> {
  // A custom transport that reports nothing has sent the signed headers if it has an answer.
  const sent = exchange ? exchange.requestHeaders : status === null ? null : (signed?.headers ?? null);
  const own = new Map(Object.entries(signed?.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
  own.set('user-agent', own.get('user-agent') ?? USER_AGENT);
  const request = sent === null ? null : fitting(masked(sent, secrets, own), MAX_REQUEST_BYTES);
  const answered = exchange?.responseHeaders ?? null;
  const room = MAX_HEADER_BYTES - (request?.bytes ?? 0);
  const response = answered === null ? null : fitting(masked(answered, secrets), room);
  return {
    request: request?.headers ?? null,
    response: response?.headers ?? null,
    omitted: (request?.omitted ?? 0) + (response?.omitted ?? 0),
  };
}

/**
 * Masks the values that are secret.
 *
 * @param own the headers that this library or the listener has set. All other headers of a request come from credentials or from an
 * interceptor of the application, so they are masked. Without it, no value counts as foreign
 */
function masked(headers: Headers, secrets: readonly string[], own?: ReadonlyMap<string, string>): [string, string][] {
  return Object.entries(headers).flatMap(([given, value]): [string, string][] => {
    if (value === undefined) return [];
    const name = oneLine(given.toLowerCase());
    const text = typeof value === 'string' ? value : value.join(', ');
    // axios trims values.
    const isForeign = own !== undefined && own.get(name)?.trim() !== text.trim();
    if (isForeign || SECRET_NAME.test(name)) return [[name, MASK]];
    return [[name, cut(oneLine(maskSecrets(text, secrets, false)))]];
  });
}

function cut(text: string): string {
  return text.length > MAX_VALUE_LENGTH ? `${text.slice(0, MAX_VALUE_LENGTH)}…` : text;
}

/** The headers that fit. A header that is too long leaves its room to shorter headers after it. */
function fitting(
  headers: readonly (readonly [string, string])[],
  room: number,
): { headers: StoredHeaders; bytes: number; omitted: number } {
  let bytes = 2;
  const kept = headers.filter(([name, value]) => {
    const size = Buffer.byteLength(JSON.stringify({ [name]: value }));
    if (bytes + size > room) return false;
    bytes += size;
    return true;
  });
  return { headers: Object.fromEntries(kept), bytes, omitted: headers.length - kept.length };
}
