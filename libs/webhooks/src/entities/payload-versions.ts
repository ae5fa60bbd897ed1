import { WebhooksError } from '../errors.js';
import type { CanonicalBody } from '../events/payload.js';
import { isPlainObject, type Json, type JsonObject } from '../json.js';
import { setPath } from './set-path.js';
import { unknownKey, wrong, wrongDeprecation, type Deprecation, type WrongDescription } from './wrong-description.js';

/**
 * Makes the `data` of one version from the `data` of the next version. It must be pure: it gets a copy of the stored `data`, and must read
 * nothing else, because a payload may be rendered again later, by another process.
 *
 * `data` has every field of the next version, except in two cases: the payload is truncated, or it is the `deleted` event of a row that moved
 * to another owner, which has the id alone.
 *
 * @returns a JSON object; `undefined` values are left out
 */
export type Downgrade = (data: JsonObject) => object;

/** An older version of a payload that is still offered. */
export interface OlderVersion {
  readonly render: Downgrade;
  /** JSON Schema of `data` in this version, for the catalogue. @defaultValue any object */
  readonly schema?: JsonObject;
  /** That this version will end: `{ since, sunset }`. @defaultValue the version is not deprecated */
  readonly deprecated?: Deprecation;
}

/** The older versions that are still offered, by number, without gaps. */
export type PayloadVersions = Readonly<Record<number, Downgrade | OlderVersion>>;

/** The versions of a type's payload. */
export interface OfferedVersions {
  readonly newest: number;
  readonly older: ReadonlyMap<number, OlderVersion>;
}

/** The highest allowed number, so that a date or a timestamp by mistake is reported. */
const MAX_VERSION = 9_999;

/** Reads options that {@link wrongVersions} has accepted. */
export function offeredVersions({ version = 1, versions = {} }: VersionOptions): OfferedVersions {
  const entries = Object.entries(versions).map(([number, given]): [number, OlderVersion] => [
    Number(number),
    typeof given === 'function' ? { render: given } : given,
  ]);
  return { newest: version, older: new Map(entries) };
}

interface VersionOptions {
  readonly version?: number;
  readonly versions?: PayloadVersions;
}

/** Every offered version, the newest first. */
export function versionNumbers({ newest, older }: OfferedVersions): number[] {
  return [newest, ...[...older.keys()].toSorted((a, b) => b - a)];
}

/** The first mistake in `version` and `versions`. */
export function wrongVersions(version: unknown = 1, versions?: unknown): WrongDescription | undefined {
  if (!Number.isInteger(version) || Number(version) < 1 || Number(version) > MAX_VERSION) {
    return wrong('version', version, `Allowed: a whole number from 1 to ${MAX_VERSION}`);
  }
  const newest = version as number;
  if (versions === undefined) {
    if (newest === 1) return undefined;
    const fix = `Allowed with version ${newest}: an object with a function for each older version that is still offered; {} offers none`;
    return wrong('versions', versions, fix);
  }
  if (!isPlainObject(versions))
    return wrong('versions', versions, 'Allowed: an object with a function for each number');
  const numbers = Object.keys(versions)
    .map(Number)
    .toSorted((a, b) => b - a);
  const gap = numbers.findIndex((number, n) => number !== newest - 1 - n || number < 1);
  if (gap !== -1) return wrong('versions', Object.keys(versions).join(', '), rangeOf(newest));
  for (const [number, given] of Object.entries(versions)) {
    const mistake = wrongOlderVersion(`versions.${number}`, given);
    if (mistake) return mistake;
  }
  return undefined;
}

function rangeOf(newest: number): string {
  if (newest === 1) return 'Allowed with version 1: no older version. Increase `version`';
  return `Allowed: whole numbers without gaps, from ${newest - 1} downwards, at least 1`;
}

function wrongOlderVersion(option: string, given: unknown): WrongDescription | undefined {
  if (typeof given === 'function') return undefined;
  if (!isPlainObject(given)) return wrong(option, given, 'Allowed: a function, or { render, schema, deprecated }');
  const misspelt = unknownKey(option, given, ['render', 'schema', 'deprecated']);
  if (misspelt) return misspelt;
  const { render, schema, deprecated } = given;
  if (typeof render !== 'function') return wrong(`${option}.render`, render, 'Allowed: a function');
  if (schema !== undefined && !isPlainObject(schema)) return wrong(`${option}.schema`, schema, 'Allowed: an object');
  return wrongDeprecation(`${option}.deprecated`, deprecated);
}

/**
 * A body in an older version. `previous` has the fields of the older version that changed, each with its whole old value: both states of the
 * row are rendered, and compared.
 *
 * @param body in the version `body.version`. This function changes it
 * @param to an offered version, below the version of the body
 * @param paths the paths of the payload, so that embedded objects in `previous` are completed. Other objects are values
 * @throws VersionError when a function throws, or returns something that is no JSON object
 */
export function olderBody(
  body: CanonicalBody,
  to: number,
  { older }: OfferedVersions,
  paths: readonly (readonly string[])[] = [],
): CanonicalBody {
  const { type, version: from = 1, data, previous, ...rest } = body;
  const render = (given: JsonObject) => downgraded(given, { from, to, older, type });
  const old = previous && { ...structuredClone(data), ...completed(data, previous, paths) };
  const rendered: CanonicalBody = { type, ...(to > 1 ? { version: to } : {}), ...rest, data: render(data) };
  if (old) rendered.previous = changedIn(render(old), rendered.data);
  return rendered;
}

function downgraded(
  data: JsonObject,
  { from, to, older, type }: { from: number; to: number; older: OfferedVersions['older']; type: string },
): JsonObject {
  let here = data;
  for (let version = from - 1; version >= to; version--) here = renderedBy(older.get(version), here, type, version);
  return here;
}

function renderedBy(step: OlderVersion | undefined, data: JsonObject, type: string, version: number): JsonObject {
  let result: unknown;
  try {
    const given: unknown = step?.render(data);
    // A Promise, a Map or an instance of a class would become `{}`.
    result = isPlainObject(given) ? (JSON.parse(JSON.stringify(given)) as unknown) : undefined;
  } catch (cause) {
    throw new VersionError(`versions[${version}] of '${type}' threw an error (see cause)`, cause);
  }
  if (!isPlainObject(result)) throw new VersionError(`versions[${version}] of '${type}' did not return a JSON object`);
  return result as JsonObject;
}

/** The top-level fields of `previous`. An embedded object has its unchanged properties, too. */
function completed(data: JsonObject, previous: JsonObject, paths: readonly (readonly string[])[]): JsonObject {
  const nested = paths.filter(({ length }) => length > 1);
  const isEmbedded = (key: string) => nested.some(([first]) => first === key);
  const whole: JsonObject = {};
  for (const [key, value] of Object.entries(previous)) {
    whole[key] = isEmbedded(key) ? structuredClone(data[key] ?? {}) : value;
  }
  for (const path of nested) {
    const value = valueAt(previous, path);
    if (value !== undefined) setPath(whole, path, value);
  }
  return whole;
}

function valueAt(from: JsonObject, path: readonly string[]): Json | undefined {
  let here: Json | undefined = from;
  for (const part of path) here = isPlainObject(here) ? (here as JsonObject)[part] : undefined;
  return here;
}

function changedIn(old: JsonObject, now: JsonObject): JsonObject {
  const isChanged = ([key, value]: [string, Json]) => JSON.stringify(value) !== JSON.stringify(now[key]);
  return Object.fromEntries(Object.entries(old).filter(isChanged));
}

/** A function of `versions` threw an error, or did not return a JSON object. `code` is `VERSION_FAILED`. */
export class VersionError extends WebhooksError {
  constructor(message: string, cause?: unknown) {
    super('VERSION_FAILED', `${message}. Make the function return an object for every payload.`, { cause });
  }
}
