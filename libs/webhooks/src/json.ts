/** What a payload is made of. */
export type Json = string | number | boolean | null | Json[] | JsonObject;

export interface JsonObject {
  [key: string]: Json;
}

/** Whether it is an object as JSON has it, and no instance of a class. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Of another realm (vm, a test runner) the prototype is not our Object.prototype, but it is the last one too.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
