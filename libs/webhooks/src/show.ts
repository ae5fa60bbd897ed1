import { isPlainObject } from './json.js';

/** A wrong value as an error shows it. Never throws: what was given may be anything. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    // A bigint, or something that holds itself.
    return typeof value === 'bigint' ? `${value}n` : `a value of type ${typeof value}`;
  }
}

/** What a wrong value is, where an error must not show the value itself. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (Array.isArray(value)) return 'a list';
  if (typeof value !== 'object') return `a ${typeof value}`;
  return isPlainObject(value) ? 'an object' : 'an instance of a class';
}
