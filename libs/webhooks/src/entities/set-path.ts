import type { Json, JsonObject } from '../json.js';

/** Sets the value at a path, and creates the missing objects on the path. */
export function setPath(target: JsonObject, parts: readonly string[], value: Json): void {
  let here = target;
  for (const part of parts.slice(0, -1)) {
    here[part] ??= {};
    here = here[part] as JsonObject;
  }
  here[parts[parts.length - 1] as string] = value;
}
