import { isPlainObject, type JsonObject } from '../json.js';
import { knownNames } from '../known-names.js';
import { wrongVersions, type PayloadVersions } from './payload-versions.js';
import {
  isText,
  TEXTS,
  unknownKey,
  wrong,
  wrongDeprecation,
  type Deprecation,
  type WrongDescription,
} from './wrong-description.js';

/**
 * Who may subscribe to the events of a type. `'public'`: everyone whom the type's owner allows. `'internal'`: only listeners without an
 * owner, which are the application's own. Listeners with an owner cannot subscribe to an internal type, and no pattern reaches it.
 */
export type Visibility = 'public' | 'internal';
const VISIBILITIES: readonly Visibility[] = ['public', 'internal'];

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
  /**
   * The version of the payload, a whole number. Increase it with each change that breaks receivers, and add a function to `versions`.
   * Listeners keep the version that was the newest when they were created; see `docs/upgrades.md`.
   *
   * @defaultValue 1
   */
  version?: number;
  /**
   * The older versions that are still offered, by number. Each entry makes `data` of its version from `data` of the next version: a function,
   * or `{ render, schema, deprecated }`. Required if `version` is above 1; `{}` offers no older version.
   *
   * @example { 1: ({ state, ...data }) => ({ ...data, status: state }) }
   */
  versions?: PayloadVersions;
}

/** The keys of {@link TypeDescription}. */
export const DESCRIPTION_KEYS: readonly string[] = [
  'title',
  'group',
  'description',
  'visibility',
  'examples',
  'version',
  'versions',
] satisfies (keyof TypeDescription)[];

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
  return wrongVersions(given['version'], given['versions']);
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
