import { isPlainObject, type JsonObject } from '../json.js';
import { knownNames } from '../known-names.js';
import { show } from '../show.js';

/**
 * Who may subscribe to the events of a type. `'public'`: everyone whom the type's owner allows. `'internal'`: only listeners without an
 * owner, which are the application's own. Listeners with an owner cannot subscribe to an internal type, and no pattern reaches it.
 */
export type Visibility = 'public' | 'internal';
const VISIBILITIES: readonly Visibility[] = ['public', 'internal'];

/** That a type will end. Deprecated types are still sent. */
export interface Deprecation {
  /** The first day of the deprecation, `YYYY-MM-DD`. */
  readonly since: string;
  /** The last day on which the type is certain to be sent, `YYYY-MM-DD`, not before `since`. */
  readonly sunset?: string;
  /** The event type that replaces this one. */
  readonly use?: string;
}

/** The description of one property in the catalogue. A text is its description. */
export type FieldDescription =
  | string
  | {
      readonly description?: string;
      /** JSON Schema of the values, without `null`. Replaces the schema of the column's type. */
      readonly schema?: JsonObject;
    };

/** The description of the events of one action in the catalogue. */
export interface ActionDescription {
  readonly description?: string;
  readonly deprecated?: Deprecation;
}

/** The part of an option that describes a type: the same for entities and for `publishedTypes`. */
export interface TypeDescription {
  /** A short name for people. @defaultValue the name of the type in words */
  title?: string;
  /** Types with the same group are listed together. @defaultValue no group */
  group?: string;
  /** What the events are about, in a sentence. */
  description?: string;
  /**
   * `'internal'`: only listeners without an owner may subscribe to these events and receive them. The events have no owner.
   *
   * @defaultValue 'public'
   */
  visibility?: Visibility;
  /**
   * `data` of example events, for the catalogue. `sendTest()` sends the first one.
   *
   * @defaultValue one example with a made-up value for each property of the payload
   */
  examples?: readonly JsonObject[];
}

/** The keys of {@link TypeDescription}. */
export const DESCRIPTION_KEYS: readonly string[] = [
  'title',
  'group',
  'description',
  'visibility',
  'examples',
] satisfies (keyof TypeDescription)[];

/** A wrong value in a description. */
export interface WrongDescription {
  /** Path of the option, such as `events.deleted.deprecated.since`. */
  readonly option: string;
  readonly value: string;
  /** `Allowed: …` or another sentence, without its full stop. */
  readonly fix: string;
}

/** The first mistake in what describes a type; `undefined` without one. */
export function wrongDescription(given: Readonly<Record<string, unknown>>): WrongDescription | undefined {
  const { title, group, description, visibility = 'public', examples } = given;
  for (const [option, text] of Object.entries({ title, group, description })) {
    if (text !== undefined && !isText(text)) return wrong(option, text, TEXTS);
  }
  if (!VISIBILITIES.includes(visibility as Visibility)) {
    return wrong('visibility', visibility, `Allowed: ${VISIBILITIES.map((one) => `'${one}'`).join(', ')}`);
  }
  const isList = Array.isArray(examples) && examples.length > 0 && examples.every(isPlainObject);
  if (examples !== undefined && !isList) return wrong('examples', examples, 'Allowed: a list of objects, the `data`');
  return undefined;
}

/** The first mistake in `describe`. @param paths the properties of the payload */
export function wrongFieldDescription(describe: unknown, paths: readonly string[]): WrongDescription | undefined {
  if (describe === undefined) return undefined;
  if (!isPlainObject(describe)) return wrong('describe', describe, 'Allowed: an object of properties');
  for (const [path, field] of Object.entries(describe)) {
    if (!paths.some((known) => known === path || known.startsWith(`${path}.`))) {
      return wrong('describe', path, `The payload has no such property.${knownNames(path, paths).slice(0, -1)}`);
    }
    if (isText(field)) continue;
    const option = `describe.${path}`;
    if (!isPlainObject(field)) return wrong(option, field, 'Allowed: a text, or { description, schema }');
    const misspelt = unknownKey(option, field, ['description', 'schema']);
    if (misspelt) return misspelt;
    const { description, schema } = field;
    if (description !== undefined && !isText(description)) return wrong(`${option}.description`, description, TEXTS);
    if (schema !== undefined && !isPlainObject(schema)) return wrong(`${option}.schema`, schema, 'Allowed: an object');
  }
  return undefined;
}

/** The first mistake in `events`. @param actions the actions that make events */
export function wrongActionDescription(events: unknown, actions: readonly string[]): WrongDescription | undefined {
  if (events === undefined) return undefined;
  if (!isPlainObject(events)) return wrong('events', events, 'Allowed: an object of actions');
  for (const [action, described] of Object.entries(events)) {
    const option = `events.${action}`;
    if (!actions.includes(action)) {
      return wrong('events', action, `These actions make events: ${actions.join(', ')}`);
    }
    if (!isPlainObject(described)) return wrong(option, described, 'Allowed: { description, deprecated }');
    const misspelt = unknownKey(option, described, ['description', 'deprecated']);
    if (misspelt) return misspelt;
    const { description, deprecated } = described;
    if (description !== undefined && !isText(description)) return wrong(`${option}.description`, description, TEXTS);
    const mistake = wrongDeprecation(`${option}.deprecated`, deprecated);
    if (mistake) return mistake;
  }
  return undefined;
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

const TEXTS = 'Allowed: a text that is not empty';
const DAYS = "Allowed: a day as 'YYYY-MM-DD'";

function unknownKey(option: string, given: object, known: readonly string[]): WrongDescription | undefined {
  const key = Object.keys(given).find((name) => !known.includes(name));
  return key === undefined ? undefined : wrong(option, key, `Unknown key.${knownNames(key, known).slice(0, -1)}`);
}

function wrong(option: string, value: unknown, fix: string): WrongDescription {
  return { option, value: typeof value === 'string' ? value : show(value), fix };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.trim() !== '';
}

/** Also rejects days that do not exist, such as `2026-02-30`. */
function isDay(value: unknown): value is string {
  if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\d$/.test(value)) return false;
  const date = new Date(`${value}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(value);
}
