import { ConfigurationError } from '../errors.js';
import { assertEventType } from '../events/event-type.js';
import { isReservedType } from '../events/reserved-names.js';
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
      throw invalidOption(place, entry, "event types, or { type, fields: ['name', …], example: {…} }");
    }
    assertEventType(published.type, 'configuration');
    assertNotReserved(published.type, place);
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
  const { type, fields, example, ...others } = entry;
  const isList = Array.isArray(fields) && fields.every((field) => typeof field === 'string');
  return (
    typeof type === 'string' &&
    (fields === undefined || isList) &&
    (example === undefined || isObject(example)) &&
    Object.keys(others).length === 0
  );
}
