import { ConfigurationError } from './errors.js';
import { CloudEventsBinaryFormat, CloudEventsFormat } from './events/cloud-events-format.js';
import { storedCause } from './events/event-context.js';
import { versionOf } from './events/payload.js';
import { JSON_CONTENT_TYPE, STANDARD_FORMAT, type PayloadFormat } from './events/payload-format.js';
import { pinOf, readPins } from './events/payload-pins.js';
import { knownNames } from './known-names.js';
import { invalidOption } from './option-table.js';
import { WEBHOOKS_MODULE, type ResolvedWebhooksOptions } from './options/resolve-options.js';
import { GithubScheme } from './signing/github-scheme.js';
import { GoogleCodeScheme } from './signing/google-code-scheme.js';
import type { SignatureScheme } from './signing/signature-scheme.js';
import { StandardScheme, StandardV1aScheme } from './signing/standard-scheme.js';
import { StripeScheme } from './signing/stripe-scheme.js';
import type { VersionedTypes } from './listeners/versioned-types.js';
import { OWN_TEXT, type BodyOf, type RenderedEvent } from './store/queue/rendered-body.js';

/** The signature schemes of an instance: the built-in schemes and the schemes of the application. */
export interface RegisteredSchemes {
  readonly byName: ReadonlyMap<string, SignatureScheme>;
  /** The names that customers may choose. */
  readonly customers: ReadonlySet<string>;
}

/** The payload formats of an instance: the built-in formats and the formats of the application. */
export interface RegisteredFormats {
  /** All formats except `standard`, which sends the stored payload. */
  readonly byName: ReadonlyMap<string, PayloadFormat>;
  readonly names: ReadonlySet<string>;
  /** The names that customers may choose. */
  readonly customers: ReadonlySet<string>;
  /** Whether a format sends the stored payload unchanged. Such a payload is stored once for all listeners. */
  readonly isOwnText: (format: string) => boolean;
  /** The content type of a delivery with this format, or of the listener's format if the delivery has none. */
  readonly contentTypeOf: (format: string | null, listenerFormat: string | null) => string;
  /** Renders the body of an event for a listener. */
  readonly bodyOf: BodyOf;
}

/** @throws ConfigurationError `INVALID_PART`, `INVALID_OPTION` */
export function registerSchemes(
  own: readonly SignatureScheme[],
  { customers }: Pick<ResolvedWebhooksOptions, 'customers'>,
): RegisteredSchemes {
  const builtIn = [
    new StandardScheme(),
    new StandardV1aScheme(),
    new GithubScheme(),
    new StripeScheme(),
    new GoogleCodeScheme(),
  ];
  const schemes = byName([...builtIn, ...own], 'signature scheme');
  const known = new Set(schemes.keys());
  return { byName: schemes, customers: choosableNames('schemes', customers.schemes, namesOf(builtIn), known) };
}

/** @throws ConfigurationError `INVALID_PART`, `INVALID_OPTION` */
export function registerFormats(
  own: readonly PayloadFormat[],
  { customers, payload }: Pick<ResolvedWebhooksOptions, 'customers' | 'payload'>,
  types: VersionedTypes,
): RegisteredFormats {
  const cloudEvents = { source: payload.cloudEventsSource, schemaBaseUrl: payload.schemaBaseUrl };
  const binary = new CloudEventsBinaryFormat(cloudEvents);
  const builtIn = [new CloudEventsFormat(cloudEvents), binary];
  const formats = byName([...builtIn, ...own], 'payload format');
  const names = new Set([STANDARD_FORMAT, ...formats.keys()]);
  const isOwnText = (format: string) => format === STANDARD_FORMAT || format === binary.name;
  return {
    byName: formats,
    names,
    customers: choosableNames('formats', customers.formats, [STANDARD_FORMAT, ...namesOf(builtIn)], names),
    isOwnText,
    contentTypeOf: (format, listenerFormat) =>
      formats.get(format ?? (isOwnText(listenerFormat ?? '') ? (listenerFormat ?? '') : ''))?.contentType ??
      JSON_CONTENT_TYPE,
    bodyOf: ({ format, versions }, event) => {
      const older = olderPayload(versions, event, types);
      const { version, payload } = older ?? { version: null, payload: event.payload };
      if (payload === null) return { ...OWN_TEXT, version };
      if (isOwnText(format)) return { body: older && payload, format: null, version };
      return { body: render(formats, format, { ...event, payload }), format, version };
    },
  };
}

/** Parts by name. @throws ConfigurationError `INVALID_PART` if a name is missing or is used twice */
function byName<T extends { readonly name: string }>(parts: readonly T[], kind: string): Map<string, T> {
  const map = new Map<string, T>();
  for (const part of parts) {
    if (typeof part.name !== 'string' || part.name === '') {
      throw new ConfigurationError(
        'INVALID_PART',
        `A ${kind} has no \`name\`. Set \`name\` to a non-empty text, because listeners choose a ${kind} by name.`,
      );
    }
    if (map.has(part.name)) {
      throw new ConfigurationError(
        'INVALID_PART',
        `Two ${kind}s have the name '${part.name}'. Give each ${kind} a different name.`,
      );
    }
    map.set(part.name, part);
  }
  return map;
}

interface OlderPayload {
  readonly version: number;
  /** `null`: this process does not offer the version. */
  readonly payload: string | null;
}

/**
 * The payload in the version that a listener has pinned. `null`: the event has this version or an older one, which cannot be turned into a
 * newer one.
 *
 * @throws VersionError
 */
function olderPayload(stored: string | null, event: RenderedEvent, types: VersionedTypes): OlderPayload | null {
  const { type, payload } = event;
  const has = versionOf(payload);
  // Most types have one version. Then nothing is parsed.
  if (has === 1) return null;
  const version = pinOf(readPins(stored), type);
  return has <= version ? null : { version, payload: types.render(type, payload, version) };
}

function render(
  formats: ReadonlyMap<string, PayloadFormat>,
  name: string,
  { id, type, payload, context }: RenderedEvent,
): string {
  const format = formats.get(name);
  if (!format) throw new Error(`There is no payload format '${name}'.`);
  const body: unknown = format.render({ id, type, payload, context: storedCause(context).context });
  if (typeof body !== 'string') throw new TypeError(`The payload format '${name}' did not return a text.`);
  if (body.includes('\0'))
    throw new TypeError(`The payload format '${name}' returned a text with NUL, which PostgreSQL cannot store.`);
  return body;
}

function namesOf(parts: readonly { readonly name: string }[]): string[] {
  return parts.map(({ name }) => name);
}

/** Names of parts that customers may choose. @throws ConfigurationError `INVALID_OPTION` if a name is not registered */
function choosableNames(
  key: 'formats' | 'schemes',
  given: readonly string[] | undefined,
  shipped: readonly string[],
  known: ReadonlySet<string>,
): ReadonlySet<string> {
  const unknown = given?.find((name) => !known.has(name));
  if (unknown === undefined) return new Set(given ?? shipped);
  throw invalidOption(
    { module: WEBHOOKS_MODULE, key: `customers.${key}` },
    unknown,
    `names of registered ${key}`,
    knownNames(unknown, [...known]).trim(),
  );
}
