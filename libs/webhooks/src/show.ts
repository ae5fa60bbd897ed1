import { oneLine } from './foreign-text.js';
import { isPlainObject } from './json.js';

/** A longer text would not help the reader, and would fill the log. */
const MAX_SHOWN_LENGTH = 100;

/** An invalid value as text for an error message. Never throws. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') return String(value); // JSON has no NaN
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    // A bigint, or an object that contains itself.
    return typeof value === 'bigint' ? `${value}n` : `a value of type ${typeof value}`;
  }
}

/** The error message for an invalid value. @param allowed without a period at its end */
export function invalidValue(key: string, value: unknown, allowed: string): string {
  const shown = oneLine(show(value));
  const short = shown.length > MAX_SHOWN_LENGTH ? `${shown.slice(0, MAX_SHOWN_LENGTH)}…` : shown;
  return `Invalid value ${short} for \`${key}\`. Allowed: ${allowed}.`;
}

/** The kind of an invalid value, for errors that must not show the value itself. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (Array.isArray(value)) return 'a list';
  if (typeof value !== 'object') return `a ${typeof value}`;
  return isPlainObject(value) ? 'an object' : 'an instance of a class';
}
