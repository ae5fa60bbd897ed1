import type { Listener, UpdateListenerInput } from '../listeners/listener.js';

/**
 * Objects that a patch changes key by key. Other objects are replaced as a whole: in `where`, `null` is a value to compare with, and
 * callers do not know the secrets in `auth` and `tls`.
 */
const MERGED = ['headers', 'metadata', 'rateLimit'] as const;

/** The input that has the effect of a JSON merge patch (RFC 7396) on a listener. */
export function mergePatch(listener: Listener, patch: UpdateListenerInput): UpdateListenerInput {
  const input: Record<string, unknown> = { ...patch };
  for (const key of MERGED) {
    const given: unknown = input[key];
    if (isObject(given)) input[key] = merged(listener[key], given);
  }
  return input;
}

/**
 * Objects that are nested deeper are replaced as a whole. Without this limit, a patch that is nested ten thousand times would cause a
 * RangeError.
 */
const MAX_DEPTH = 32;

/** RFC 7396, 2. */
function merged(before: unknown, patch: object, depth = 0): object {
  const result = new Map<string, unknown>(isObject(before) ? Object.entries(before) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) result.delete(key);
    else result.set(key, isObject(value) && depth < MAX_DEPTH ? merged(result.get(key), value, depth + 1) : value);
  }
  return Object.fromEntries(result);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
