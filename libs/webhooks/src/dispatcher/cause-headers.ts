import { storedCause } from '../events/event-context.js';
import { readTraceContext } from '../events/trace-context.js';
import { DEPTH_HEADER } from '../events/reserved-names.js';

/**
 * Headers that say what an event was caused by: the trace it belongs to, where the application told of one, and its depth
 * where something led to it. Most events have neither.
 */
export function causeHeaders(storedContext: string | null): Record<string, string> {
  if (storedContext === null) return {};
  const { context, depth } = storedCause(storedContext);
  const trace = readTraceContext(context?.['traceparent'], context?.['tracestate']);
  return { ...trace, ...(depth > 0 ? { [DEPTH_HEADER]: String(depth) } : {}) };
}
