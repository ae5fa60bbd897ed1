import type { Listener, UpdateListenerInput } from '../listeners/listener.js';

/** Objects that a patch changes key by key. */
const MERGED = ['metadata', 'rateLimit'] as const;
/** Objects that a patch replaces as a whole, because callers do not know the secrets in them. */
const REPLACED = ['auth', 'tls'] as const;

/**
 * The input that has the effect of a JSON merge patch (RFC 7396) on a listener: `null` removes a key at every depth.
 *
 * Two properties stay as they are given: `where` is replaced as a whole, because `null` is a value to compare with, and `update()` itself
 * changes `versions` key by key.
 */
export function mergePatch(listener: Listener, patch: UpdateListenerInput): UpdateListenerInput {
  const input: Record<string, unknown> = { ...patch };
  const apply = (key: string, before: (given: object) => unknown) => {
    const given = input[key];
    if (isObject(given)) input[key] = merged(before(given), given);
  };
  apply('headers', (given) => withoutHeaders(listener.headers, given));
  for (const key of MERGED) apply(key, () => listener[key]);
  for (const key of REPLACED) apply(key, () => undefined);
  return input;
}

/** Headers without those that a patch names in upper or lower case. The names of stored headers are in lower case. */
function withoutHeaders(headers: Listener['headers'], patch: object): Listener['headers'] {
  const named = new Set(Object.keys(patch).map((name) => name.toLowerCase()));
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !named.has(name)));
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
