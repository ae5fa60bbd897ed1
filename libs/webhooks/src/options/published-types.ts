import { DESCRIPTION_KEYS, wrongDescription } from '../entities/described-type.js';
import { wrongDeprecation } from '../entities/wrong-description.js';
import { ConfigurationError } from '../errors.js';
import { assertEventType } from '../events/event-type.js';
import { isReservedType } from '../events/reserved-names.js';
import { isPlainObject } from '../json.js';
import { knownNames } from '../known-names.js';
import { invalidOption, isObject, type OptionPlace } from '../option-table.js';
import type { PublishedType } from './webhooks-options.js';

/**
 * The option `publishedTypes`, by type.
 *
 * @throws ConfigurationError `INVALID_OPTION`, `INVALID_EVENT_TYPE`, `RESERVED_EVENT_TYPE`
 */
export function publishedTypesByName(
  given: readonly (string | PublishedType)[],
  place: OptionPlace,
): ReadonlyMap<string, PublishedType> {
  const types = new Map<string, PublishedType>();
  for (const entry of given) {
    const published: unknown = typeof entry === 'string' ? { type: entry } : entry;
    if (!isPublishedType(published)) {
      throw invalidOption(place, entry, "event types, or { type, fields: ['name', …], examples: [{…}], … }");
    }
    assertEventType(published.type, 'configuration');
    assertNotReserved(published.type, place);
    assertDescribed(published, place);
    if (types.has(published.type)) {
      throw invalidOption(place, published.type, 'each type once', 'Remove the second entry.');
    }
    types.set(published.type, published);
  }
  return types;
}

function assertNotReserved(type: string, { key, module }: OptionPlace): void {
  if (!isReservedType(type)) return;
  throw new ConfigurationError(
    'RESERVED_EVENT_TYPE',
    `Invalid value '${type}' for \`${key}\` of ${module.name}. Types that begin with 'webhooks.' are reserved for lifecycle events. Choose another first word.`,
    { details: { key } },
  );
}

function isPublishedType(entry: unknown): entry is PublishedType {
  if (!isObject(entry)) return false;
  const { type, fields } = entry;
  const isList = Array.isArray(fields) && fields.every((field) => typeof field === 'string');
  return typeof type === 'string' && (fields === undefined || isList);
}

const KEYS: readonly string[] = ['type', 'fields', 'schema', 'deprecated', ...DESCRIPTION_KEYS];

function assertDescribed(published: PublishedType, place: OptionPlace): void {
  const wrong = (option: string, value: string, fix: string) =>
    new ConfigurationError(
      'INVALID_OPTION',
      `Invalid value '${value}' for \`${option}\` of '${published.type}' in \`${place.key}\` of ${place.module.name}. ${fix}.`,
      { details: { key: place.key } },
    );
  const misspelt = Object.keys(published).find((key) => !KEYS.includes(key));
  if (misspelt !== undefined) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `Unknown option \`${misspelt}\` of '${published.type}' in \`${place.key}\` of ${place.module.name}.${knownNames(misspelt, KEYS)}`,
      { details: { key: place.key } },
    );
  }
  const mistake =
    wrongDescription(published as unknown as Readonly<Record<string, unknown>>) ??
    wrongDeprecation('deprecated', published.deprecated);
  if (mistake) throw wrong(mistake.option, mistake.value, mistake.fix);
  const { schema } = published;
  if (schema !== undefined && !isPlainObject(schema)) throw wrong('schema', String(schema), 'Allowed: an object');
}

/** The properties that filters may name; `undefined` if they may name any. */
export function filterFieldsOf({ fields, schema }: PublishedType): readonly string[] | undefined {
  const properties = schema?.['properties'];
  return fields ?? (isPlainObject(properties) ? Object.keys(properties) : undefined);
}
