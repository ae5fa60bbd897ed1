import type { Json, JsonObject } from '../json.js';

/** Whether a payload value is an object, and neither a list nor a scalar. */
export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `address.city` as `['address', 'city']`. A property with a dot in its own name cannot be reached by a path. */
export function segmentsOf(path: string): readonly string[] {
  return path.includes('.') ? path.split('.') : [path];
}

/**
 * The value at a path of a payload; `undefined` when there is none, also when something on the way is a scalar or a list.
 * Only own properties count, so `constructor` finds nothing in a payload that does not hold it.
 */
export function valueAt(data: JsonObject | undefined, segments: readonly string[]): Json | undefined {
  let value: Json | undefined = data;
  for (const segment of segments) {
    if (!isJsonObject(value) || !Object.hasOwn(value, segment)) return undefined;
    value = value[segment];
  }
  return value;
}

/**
 * Whether nothing reliable can be said about a path, as it, something above it or something inside it was dropped from a
 * payload too large to store.
 */
export function isDropped(path: string, dropped: ReadonlySet<string> | undefined): boolean {
  if (dropped === undefined || dropped.size === 0) return false;
  if (dropped.has(path)) return true;
  for (const other of dropped) {
    if (path.startsWith(`${other}.`) || other.startsWith(`${path}.`)) return true;
  }
  return false;
}
