import { versionOf } from '../events/payload.js';
import { VERSION_HEADER } from '../events/reserved-names.js';
import type { VersionedTypes } from '../listeners/versioned-types.js';

/** What decides on the headers: the type, the version of the stored body (`null`: that of the payload), and the payload of the event. */
interface Versioned {
  readonly type: string;
  readonly version: number | null;
  readonly event: { readonly payload: string };
}

/** The version of the payload that a delivery sends. */
export function sentVersion({ version, event }: Omit<Versioned, 'type'>): number {
  return version ?? versionOf(event.payload);
}

/**
 * The headers about the version and the end of a type. A type with one version and no deprecation has none.
 *
 * `deprecation` and `sunset` have the form of RFC 9745 and RFC 8594, which define them for responses: in a webhook they are a convention of
 * this library.
 */
export function versionHeaders(
  delivery: Versioned,
  types: Pick<VersionedTypes, 'find'>,
): Readonly<Record<string, string>> {
  const sent = sentVersion(delivery);
  const known = types.find(delivery.type);
  if (!known) return sent === 1 ? {} : { [VERSION_HEADER]: String(sent) };
  const deprecated = known.deprecated ?? known.older.get(sent)?.deprecated;
  return {
    ...(known.newest === 1 && sent === 1 ? {} : { [VERSION_HEADER]: String(sent) }),
    ...(deprecated ? { deprecation: `@${timeOf(deprecated.since) / 1_000}` } : {}),
    ...(deprecated?.sunset === undefined ? {} : { sunset: new Date(timeOf(deprecated.sunset)).toUTCString() }),
  };
}

/** The start of a day in UTC, in ms. */
function timeOf(day: string): number {
  return Date.parse(`${day}T00:00:00Z`);
}
