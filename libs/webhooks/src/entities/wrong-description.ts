import { isPlainObject } from '../json.js';
import { knownNames } from '../known-names.js';
import { show } from '../show.js';

/** That a type will end. Deprecated types are still sent. */
export interface Deprecation {
  /** The first day of the deprecation, `YYYY-MM-DD`. */
  readonly since: string;
  /** The last day on which the type is certain to be sent, `YYYY-MM-DD`, not before `since`. */
  readonly sunset?: string;
  /** The event type that replaces this one. */
  readonly use?: string;
}

/** A wrong value in a description. */
export interface WrongDescription {
  /** Path of the option, such as `events.deleted.deprecated.since`. */
  readonly option: string;
  readonly value: string;
  /** `Allowed: …` or another sentence, without its full stop. */
  readonly fix: string;
}

/** The first mistake in a {@link Deprecation}. @param option its path */
export function wrongDeprecation(option: string, deprecated: unknown): WrongDescription | undefined {
  if (deprecated === undefined) return undefined;
  if (!isPlainObject(deprecated)) return wrong(option, deprecated, 'Allowed: { since, sunset, use }');
  const misspelt = unknownKey(option, deprecated, ['since', 'sunset', 'use']);
  if (misspelt) return misspelt;
  const { since, sunset, use } = deprecated;
  if (!isDay(since)) return wrong(`${option}.since`, since, DAYS);
  if (sunset !== undefined && !isDay(sunset)) return wrong(`${option}.sunset`, sunset, DAYS);
  if (sunset !== undefined && sunset < since) {
    return wrong(`${option}.sunset`, sunset, `Allowed: a day that is not before \`since\`, '${since}'`);
  }
  if (use !== undefined && !isText(use)) return wrong(`${option}.use`, use, 'Allowed: an event type');
  return undefined;
}

export const TEXTS = 'Allowed: a text that is not empty';
const DAYS = "Allowed: a day as 'YYYY-MM-DD'";

export function unknownKey(option: string, given: object, known: readonly string[]): WrongDescription | undefined {
  const key = Object.keys(given).find((name) => !known.includes(name));
  return key === undefined ? undefined : wrong(option, key, `Unknown key.${knownNames(key, known).slice(0, -1)}`);
}

export function wrong(option: string, value: unknown, fix: string): WrongDescription {
  return { option, value: typeof value === 'string' ? value : show(value), fix };
}

export function isText(value: unknown): value is string {
  return typeof value === 'string' && value.trim() !== '';
}

/** Also rejects days that do not exist, such as `2026-02-30`. */
function isDay(value: unknown): value is string {
  if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\d$/.test(value)) return false;
  const date = new Date(`${value}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(value);
}
