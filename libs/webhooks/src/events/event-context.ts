import { WebhooksError } from '../errors.js';
import type { Cause } from '../cause.js';
import { type Json, type JsonObject, isPlainObject } from '../json.js';
import { readTraceContext } from './trace-context.js';
import { kindOf } from '../show.js';

/** Longest context, as JSON, in UTF-8 bytes: it is stored with every event, and carries who and why, not what. */
const MAX_CONTEXT_BYTES = 4 * 1_024;

/** Deeper than this it is no context, and the stack is not endless. */
const MAX_NESTING = 32;

/** Stands in the stored context beside the application's keys. */
const DEPTH_KEY = 'webhookDepth';

/**
 * Who or what made a change: any JSON, at most 4 KiB. What is `undefined` is left out.
 *
 * `traceparent` and `tracestate` are those of W3C Trace Context, and are sent as headers with each delivery. Malformed ones
 * are left out.
 */
export type WebhookContext = { readonly [key: string]: Json | undefined };

/**
 * `withContext()` or `publish()` was given a context that cannot be stored: no object, not JSON, or too large. Code:
 * `INVALID_CONTEXT`.
 */
export class ContextError extends WebhooksError {}

/**
 * A context inside another one: its keys take the place of the outer ones. The result is a frozen copy.
 *
 * @throws ContextError `INVALID_CONTEXT`
 */
export function mergedContext(outer: JsonObject | null, given: unknown): JsonObject {
  if (!isPlainObject(given)) throw invalid('it must be an object');
  const { traceparent, tracestate, ...own } = given;
  if (DEPTH_KEY in own) throw invalid(`the key ${DEPTH_KEY} is ours`);
  const { traceparent: outerParent, tracestate: outerState, ...outerOwn } = outer ?? {};
  // A tracestate belongs to its traceparent: never one of this trace and one of that.
  const trace = readTraceContext(traceparent, tracestate) ?? readTraceContext(outerParent, outerState);
  const merged = Object.freeze({ ...outerOwn, ...(jsonOf(own, 'context', 0) as JsonObject), ...trace });
  const bytes = Buffer.byteLength(JSON.stringify(merged), 'utf8');
  if (bytes > MAX_CONTEXT_BYTES) {
    throw invalid(`it has ${bytes} bytes as JSON, and ${MAX_CONTEXT_BYTES} are the limit`, {
      bytes,
      maxBytes: MAX_CONTEXT_BYTES,
    });
  }
  return merged;
}

/** The text of the column: the application's context and the depth in one object, or nothing where there is neither. */
export function contextText({ context, depth }: Cause): string | null {
  if (depth === 0) return context && Object.keys(context).length ? JSON.stringify(context) : null;
  return JSON.stringify({ ...context, [DEPTH_KEY]: depth });
}

/** Reads {@link contextText}. An event whose context somebody has spoilt by hand is sent all the same, without it. */
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
  if (nesting > MAX_NESTING) throw invalid(`it is nested deeper than ${MAX_NESTING} levels, or refers to itself`);
  if (Array.isArray(value)) {
    return Object.freeze(value.map((item, n) => jsonOf(item, `${path}[${n}]`, nesting + 1))) as Json[];
  }
  if (!isPlainObject(value)) throw invalid(`${path} is ${kindOf(value)}, which is no JSON`);
  const entries = Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .map(([key, item]) => [key, jsonOf(item, `${path}.${key}`, nesting + 1)]);
  return Object.freeze(Object.fromEntries(entries)) as JsonObject;
}

function invalid(what: string, details: Record<string, unknown> = {}): ContextError {
  return new ContextError(
    'INVALID_CONTEXT',
    `The context of an event cannot be stored: ${what}. Give an object of JSON values, at most ${MAX_CONTEXT_BYTES} bytes, such as { actor, requestId }.`,
    { details },
  );
}
