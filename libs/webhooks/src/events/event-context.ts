import { WebhooksError } from '../errors.js';
import type { Cause } from '../cause.js';
import { type Json, type JsonObject, isPlainObject } from '../json.js';
import { readTraceContext } from './trace-context.js';
import { kindOf } from '../show.js';

/**
 * Longest context, as JSON, in UTF-8 bytes. The context is stored with every event. So it should name the actor and the reason, and not
 * repeat data.
 */
const MAX_CONTEXT_BYTES = 4 * 1_024;

/** Deepest nesting of a context: enough for any real context, and far below the limit of the stack. */
const MAX_NESTING = 32;

/** The key of the depth in the stored context, beside the application's keys. */
const DEPTH_KEY = 'webhookDepth';

/**
 * Who or what made a change: any JSON object, at most 4 KiB. Keys with the value `undefined` are left out.
 *
 * `traceparent` and `tracestate` must have the form of W3C Trace Context. They are sent as headers with each delivery.
 * Values with invalid syntax are left out.
 */
export type WebhookContext = { readonly [key: string]: Json | undefined };

/**
 * The context of `withContext()` or `publish()` cannot be stored, because the context is not an object, not JSON, or
 * too large. Code: `INVALID_CONTEXT`.
 */
export class ContextError extends WebhooksError {}

/**
 * Merges a context into the surrounding context. If both have the same key, the value of the inner context is used. The
 * result is a frozen copy.
 *
 * @throws ContextError `INVALID_CONTEXT`
 */
export function mergedContext(outer: JsonObject | null, given: unknown): JsonObject {
  if (!isPlainObject(given)) throw invalid('it is not a plain object');
  const { traceparent, tracestate, ...own } = given;
  if (DEPTH_KEY in own) throw invalid(`the key ${DEPTH_KEY} is reserved`);
  const { traceparent: outerParent, tracestate: outerState, ...outerOwn } = outer ?? {};
  // Both headers come from the same context: a tracestate belongs to its traceparent.
  const trace = readTraceContext(traceparent, tracestate) ?? readTraceContext(outerParent, outerState);
  const merged = Object.freeze({ ...outerOwn, ...(jsonOf(own, 'context', 0) as JsonObject), ...trace });
  const bytes = Buffer.byteLength(JSON.stringify(merged), 'utf8');
  if (bytes > MAX_CONTEXT_BYTES) {
    throw invalid(`it has ${bytes} bytes as JSON`, {
      bytes,
      maxBytes: MAX_CONTEXT_BYTES,
    });
  }
  return merged;
}

/**
 * The stored text: one JSON object with the application's context and the depth. `null` when the event has no
 * context and no depth.
 */
export function contextText({ context, depth }: Cause): string | null {
  if (depth === 0) return context && Object.keys(context).length ? JSON.stringify(context) : null;
  return JSON.stringify({ ...context, [DEPTH_KEY]: depth });
}

/** Reads {@link contextText}. If the stored text was edited and is damaged, the event is sent without a context. */
export function storedCause(text: string | null): Cause {
  const stored = parsed(text);
  if (!stored) return { context: null, depth: 0 };
  const { [DEPTH_KEY]: depth, ...context } = stored;
  return {
    context: Object.keys(context).length ? context : null,
    depth: typeof depth === 'number' && Number.isSafeInteger(depth) && depth > 0 ? depth : 0,
  };
}

function parsed(text: string | null): JsonObject | null {
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    return isPlainObject(value) ? (value as JsonObject) : null;
  } catch {
    return null;
  }
}

function jsonOf(value: unknown, path: string, nesting: number): Json {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (nesting > MAX_NESTING) throw invalid(`it is nested more than ${MAX_NESTING} levels deep, or refers to itself`);
  if (Array.isArray(value)) {
    return Object.freeze(value.map((item, n) => jsonOf(item, `${path}[${n}]`, nesting + 1))) as Json[];
  }
  if (!isPlainObject(value)) throw invalid(`${path} is ${kindOf(value)}, which is not JSON`);
  const entries = Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .map(([key, item]) => [key, jsonOf(item, `${path}.${key}`, nesting + 1)]);
  return Object.freeze(Object.fromEntries(entries)) as JsonObject;
}

function invalid(what: string, details: Record<string, unknown> = {}): ContextError {
  return new ContextError(
    'INVALID_CONTEXT',
    `Invalid event context: ${what}. Allowed: a plain object of JSON values, at most ${MAX_CONTEXT_BYTES} bytes as JSON, such as { actor, requestId }.`,
    { details },
  );
}
