import { storedCause } from '../events/event-context.js';
import { readTraceContext } from '../events/trace-context.js';
import { DEPTH_HEADER } from '../events/reserved-names.js';

/**
 * Returns the headers that name the cause of an event: the trace, if the application gave a trace, and the
 * causation depth, if another event caused the event. Most events have neither.
 */
export function causeHeaders(storedContext: string | null): Record<string, string> {
  if (storedContext === null) return {};
  const { context, depth } = storedCause(storedContext);
  const trace = readTraceContext(context?.['traceparent'], context?.['tracestate']);
  return { ...trace, ...(depth > 0 ? { [DEPTH_HEADER]: String(depth) } : {}) };
}
