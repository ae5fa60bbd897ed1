import type { JsonObject } from '../json.js';
import { VERSION_HEADER } from '../events/reserved-names.js';
import { atVersions, type CatalogType } from './catalog-type.js';
import { payloadSchema } from './event-schema.js';
import { schemaNames, type SchemaNames } from './schema-names.js';

/** Options of the documents and of the TypeScript types. */
export interface CatalogDocumentOptions {
  /**
   * `'public'`: the types with `visibility: 'public'`, for documents that customers read. `'all'`: internal types, too.
   *
   * @defaultValue 'public'
   */
  include?: 'public' | 'all';
  /** Title of the document. @defaultValue 'Webhooks' */
  title?: string;
  /** Version of the document. @defaultValue '1.0.0' */
  version?: string;
  /**
   * Versions by event type, in place of the newest: what a listener with these `versions` gets.
   *
   * @defaultValue the newest version of every type
   */
  versions?: Readonly<Record<string, number>>;
}

/** A header of every request of this library. */
export interface CatalogHeader {
  readonly name: string;
  readonly description: string;
  readonly required: boolean;
}

/** `webhook-signature` is that of the scheme `standard`; `docs/signing.md` has the headers of the other schemes. */
const HEADERS: readonly CatalogHeader[] = [
  {
    name: 'webhook-id',
    description: 'The id of the event, the same in every attempt. Remember it, and do nothing the second time.',
    required: true,
  },
  { name: 'webhook-timestamp', description: 'The time of this attempt, in Unix seconds.', required: true },
  {
    name: 'webhook-signature',
    description: 'The signatures of the body, by Standard Webhooks. Listeners with another scheme get other headers.',
    required: false,
  },
];

/** The types that a document contains. */
export function includedTypes(
  types: readonly CatalogType[],
  { include = 'public', versions = {} }: CatalogDocumentOptions,
): readonly CatalogType[] {
  const asked = atVersions(types, versions);
  return include === 'all' ? asked : asked.filter(({ visibility }) => visibility === 'public');
}

/** The headers of the requests of a type. */
export function headersOf({ version, older }: CatalogType): readonly CatalogHeader[] {
  return version === 1 && older.length === 0 ? HEADERS : [...HEADERS, VERSION];
}

const VERSION: CatalogHeader = {
  name: VERSION_HEADER,
  description: 'The version of the payload. The body contains it, too, unless it is version 1.',
  required: true,
};

/** The schemas of a document, by name. Payloads refer to the schema of their data, so that types of one entity share it. */
export function documentSchemas(
  types: readonly CatalogType[],
  referTo: (name: string) => string,
): { readonly schemas: Record<string, JsonObject>; readonly names: ReadonlyMap<string, SchemaNames> } {
  const names = schemaNames(types);
  const schemas: Record<string, JsonObject> = {};
  for (const { type, version, title, data, previous } of types) {
    const { payload, data: dataName, previous: previousName } = names.get(type) as SchemaNames;
    const reference = (name: string): JsonObject => ({ $ref: referTo(name) });
    schemas[dataName] = data;
    if (previous) schemas[previousName] = previous;
    const parts = { data: reference(dataName), ...(previous ? { previous: reference(previousName) } : {}) };
    schemas[payload] = { title, ...payloadSchema({ type, version }, parts) };
  }
  return { schemas, names };
}

/** The description of a type, with a note if it is deprecated. */
export function fullDescription({ description, deprecated }: CatalogType): string | undefined {
  const parts = [description ?? '', deprecated ? deprecationNote(deprecated) : ''].filter((part) => part !== '');
  return parts.length === 0 ? undefined : parts.join(' ');
}

function deprecationNote({ since, sunset, use }: NonNullable<CatalogType['deprecated']>): string {
  const end = sunset === undefined ? '' : `, sent until ${sunset}`;
  return `Deprecated since ${since}${end}.${use === undefined ? '' : ` Use ${use}.`}`;
}
