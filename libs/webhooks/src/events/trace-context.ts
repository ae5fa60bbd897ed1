/** The trace headers of a request; W3C Trace Context, https://www.w3.org/TR/trace-context/ */
export interface TraceContext {
  readonly traceparent: string;
  readonly tracestate?: string;
}

// Section 3.2.2 of the specification: version, trace-id, parent-id and trace-flags, in lower case. A later version may add
// fields after another dash.
const TRACEPARENT = /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(-.*)?$/;
// Section 3.3.1.3 of the specification. Keys may begin with a digit, as level 2 of the specification allows.
const STATE_MEMBER =
  /^(?:[a-z\d][a-z\d_\-*/]{0,255}|[a-z\d][a-z\d_\-*/]{0,240}@[a-z][a-z\d_\-*/]{0,13})=[ -+\--<>-~]{0,255}[!-+\--<>-~]$/;
const MAX_STATE_MEMBERS = 32;

/**
 * Reads trace headers by the rules of the specification: a malformed header counts as absent, and a `tracestate` needs a
 * `traceparent`. A malformed header never causes an error, because anyone may have sent the header to the application.
 *
 * @returns the headers for the next request. A header of an unknown version is rewritten as version 00, with only
 * the known fields
 */
export function readTraceContext(traceparent: unknown, tracestate: unknown): TraceContext | null {
  const match = typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent) : null;
  if (!match) return null;
  const [whole, version, traceId, parentId, flags = '00', rest] = match;
  if (version === '00' && rest !== undefined) return null;
  const known = version === '00' ? whole : `00-${traceId}-${parentId}-${Number.parseInt(flags, 16) & 1 ? '01' : '00'}`;
  const state = readTraceState(tracestate);
  return { traceparent: known, ...(state === null ? {} : { tracestate: state }) };
}

function readTraceState(given: unknown): string | null {
  if (typeof given !== 'string') return null;
  // The specification allows empty members, and spaces and tabs around commas.
  const members = given
    .split(',')
    .map((member) => member.replace(/^[ \t]+|[ \t]+$/g, ''))
    .filter((member) => member !== '');
  const keys = new Set(members.map((member) => member.slice(0, member.indexOf('='))));
  const isValid =
    members.length > 0 &&
    members.length <= MAX_STATE_MEMBERS &&
    keys.size === members.length &&
    members.every((member) => STATE_MEMBER.test(member));
  return isValid ? members.join(',') : null;
}
