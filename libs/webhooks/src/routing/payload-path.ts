import type { Json, JsonObject } from '../json.js';

/** Whether a payload value is an object, not a list or a scalar. */
export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Splits `address.city` into `['address', 'city']`. A path cannot reach a property whose name contains a dot. */
export function segmentsOf(path: string): readonly string[] {
  return path.includes('.') ? path.split('.') : [path];
}

/**
 * Returns the value at a path of a payload. Returns `undefined` when the path has no value, or when the path leads
 * through a scalar or a list. Only own properties count. So `constructor` matches only a payload that contains a
 * property with this name.
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
 * Whether the value at a path is unknown. The value is unknown if the path, a parent or a child of the path was
 * dropped from a payload that was too large to store.
 */
export function isDropped(path: string, dropped: ReadonlySet<string> | undefined): boolean {
  if (dropped === undefined || dropped.size === 0) return false;
  if (dropped.has(path)) return true;
  for (const other of dropped) {
    if (path.startsWith(`${other}.`) || other.startsWith(`${path}.`)) return true;
  }
  return false;
}
