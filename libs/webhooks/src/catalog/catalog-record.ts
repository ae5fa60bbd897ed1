import type { Visibility } from '../entities/described-type.js';
import type { Deprecation } from '../entities/wrong-description.js';
import { ConfigurationError } from '../errors.js';
import { isPlainObject, type Json, type JsonObject } from '../json.js';
import { invalidValue } from '../show.js';
import type { CatalogType, CatalogVersion } from './catalog-type.js';
import { schemaChanges } from './schema-changes.js';

/**
 * The parts of the event types that receivers rely on: the content of `catalog.json`, which is kept beside the source and compared in CI.
 */
export interface CatalogRecord {
  /** The version of the record's format. */
  readonly catalog: 1;
  /** By event type. */
  readonly types: Readonly<Record<string, RecordedType>>;
}

export interface RecordedType {
  readonly visibility: Visibility;
  readonly deprecated?: Deprecation;
  /** Schema of `data`, without texts for people. */
  readonly data: JsonObject;
  /** Schema of `previous`; absent for types that have none. */
  readonly previous?: JsonObject;
  /** The version of `data`. @defaultValue 1 */
  readonly version?: number;
  /** The older versions that are offered, by number. */
  readonly versions?: Readonly<Record<string, RecordedVersion>>;
}

interface RecordedVersion {
  readonly deprecated?: Deprecation;
  /** Schema of `data`, if the application gives one. */
  readonly data?: JsonObject;
}

/** One difference between two catalogues. */
export interface CatalogChange {
  readonly type: string;
  /** Path in the payload, such as `data.address.city`; `null` for a change of the type itself. */
  readonly path: string | null;
  /** Whether a receiver that was written for the old catalogue may fail. */
  readonly breaking: boolean;
  /** The change in words, without type and path: `may be null now` */
  readonly change: string;
}

export function recordOf(types: readonly CatalogType[]): CatalogRecord {
  const recorded = types.map(
    ({ type, visibility, deprecated, data, previous, version, older }): [string, RecordedType] => [
      type,
      {
        visibility,
        ...(deprecated ? { deprecated } : {}),
        data: withoutTexts(data),
        ...(previous ? { previous: withoutTexts(previous) } : {}),
        ...(version > 1 ? { version } : {}),
        ...(older.length > 0 ? { versions: Object.fromEntries(older.map(recordedVersion)) } : {}),
      },
    ],
  );
  return { catalog: 1, types: Object.fromEntries(recorded) };
}

function recordedVersion({ version, deprecated, data, isDescribed }: CatalogVersion): [number, RecordedVersion] {
  return [version, { ...(deprecated ? { deprecated } : {}), ...(isDescribed ? { data: withoutTexts(data) } : {}) }];
}

/** The older versions whose function cannot render the examples of the newest version. */
export function unrenderedVersions({ type, older }: CatalogType): CatalogChange[] {
  return older
    .filter(({ examples }) => examples.length === 0)
    .map(({ version }) => ({
      type,
      path: `versions[${version}]`,
      breaking: true,
      change: 'cannot render the examples',
    }));
}

/**
 * The differences between two records, breaking ones first.
 *
 * @param today a type may be removed after its `sunset`
 * @throws ConfigurationError `INVALID_CATALOG`
 */
export function compareRecords(old: unknown, now: CatalogRecord, today: Date): CatalogChange[] {
  assertRecord(old);
  const day = today.toISOString().slice(0, 'YYYY-MM-DD'.length);
  const changes = Object.entries(old.types).flatMap(([type, before]) => {
    const after = now.types[type];
    return after ? typeChanges(type, before, after, day) : [removed(type, before, day)];
  });
  for (const type of Object.keys(now.types)) {
    if (!old.types[type]) changes.push({ type, path: null, breaking: false, change: 'is new' });
  }
  return [...changes.filter(({ breaking }) => breaking), ...changes.filter(({ breaking }) => !breaking)];
}

function typeChanges(type: string, before: RecordedType, after: RecordedType, day: string): CatalogChange[] {
  const changes: CatalogChange[] = [];
  if (before.visibility !== after.visibility) {
    const change = `is ${after.visibility} now`;
    changes.push({ type, path: null, breaking: after.visibility === 'internal', change });
  }
  if (after.deprecated && !before.deprecated) {
    changes.push({ type, path: null, breaking: false, change: `is deprecated since ${after.deprecated.since}` });
  }
  return [...changes, ...versionChanges(type, before, after, day), ...payloadChanges(type, before, after)];
}

/** The changes of the newest payload. If its version changed, receivers of the old version do not get the new payload. */
function payloadChanges(type: string, before: RecordedType, after: RecordedType): CatalogChange[] {
  const changes: CatalogChange[] = [];
  if (versionOf(before) !== versionOf(after)) return changes;
  for (const part of ['data', 'previous'] as const) {
    const [old, now] = [before[part], after[part]];
    if (old && now) changes.push(...schemaChanges(old, now, part).map((change) => ({ type, ...change })));
    else if (old) changes.push({ type, path: part, breaking: true, change: 'is not sent any more' });
    else if (now) changes.push({ type, path: part, breaking: false, change: 'is new' });
  }
  return changes;
}

function versionOf({ version = 1 }: RecordedType): number {
  return version;
}

/** The changes of the versions that listeners may have pinned: every version that was offered must still be offered. */
function versionChanges(type: string, before: RecordedType, after: RecordedType, day: string): CatalogChange[] {
  const changes: CatalogChange[] = [];
  const [was, is] = [versionOf(before), versionOf(after)];
  if (was > is) changes.push({ type, path: null, breaking: true, change: `has version ${is} now, and had ${was}` });
  if (was < is) changes.push({ type, path: null, breaking: false, change: `has version ${is} now` });
  const offered = { ...before.versions, ...(was < is ? { [was]: { data: before.data } } : {}) };
  for (const [version, old] of Object.entries<RecordedVersion>(offered)) {
    changes.push(...olderChanges({ type, version }, old, after.versions?.[version], day));
  }
  return changes;
}

function olderChanges(
  { type, version }: { readonly type: string; readonly version: string },
  old: RecordedVersion,
  now: RecordedVersion | undefined,
  day: string,
): CatalogChange[] {
  const path = `versions[${version}]`;
  if (now) {
    // Without a schema of the application, the payload of the version is not known.
    if (!old.data || !now.data) return [];
    return schemaChanges(old.data, now.data, `${path}.data`).map((change) => ({ type, ...change }));
  }
  const { change, breaking } = removed(type, { ...old, visibility: 'public', data: {} }, day);
  return [{ type, path, breaking, change: breaking ? 'is missing: add a function that makes this version' : change }];
}

function removed(type: string, { deprecated }: RecordedType, today: string): CatalogChange {
  const isAnnounced = deprecated?.sunset !== undefined && deprecated.sunset < today;
  const change = isAnnounced ? `was removed after its sunset, ${deprecated.sunset}` : 'was removed';
  return { type, path: null, breaking: !isAnnounced, change };
}

const TEXTS = new Set(['title', 'description', 'examples', '$comment', 'default']);

/** A schema without keywords that do not matter to receivers. Inside `properties`, the keys are property names and not keywords. */
function withoutTexts(schema: JsonObject): JsonObject {
  const kept = Object.entries(schema).filter(([keyword]) => !TEXTS.has(keyword));
  return Object.fromEntries(kept.map(([keyword, value]) => [keyword, withoutTextsIn(keyword, value)]));
}

function withoutTextsIn(keyword: string, value: Json): Json {
  if (keyword === 'enum' || keyword === 'const') return value;
  if (Array.isArray(value)) return value.map((item) => (isPlainObject(item) ? withoutTexts(item as JsonObject) : item));
  if (!isPlainObject(value)) return value;
  const isMap = ['properties', 'patternProperties', '$defs', 'definitions'].includes(keyword);
  if (!isMap) return withoutTexts(value as JsonObject);
  const entries = Object.entries(value as JsonObject);
  return Object.fromEntries(
    entries.map(([name, part]) => [name, isPlainObject(part) ? withoutTexts(part as JsonObject) : part]),
  );
}

function assertRecord(given: unknown): asserts given is CatalogRecord {
  const isRecord =
    isPlainObject(given) &&
    given['catalog'] === 1 &&
    isPlainObject(given['types']) &&
    Object.values(given['types']).every((type) => isPlainObject(type) && isPlainObject(type['data']));
  if (isRecord) return;
  throw new ConfigurationError(
    'INVALID_CATALOG',
    `${invalidValue('record', given, 'the result of record() of this version: { catalog: 1, types: {…} }')} Write it again.`,
  );
}
