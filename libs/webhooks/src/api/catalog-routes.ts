import type { CatalogType, CatalogVersion } from '../catalog/catalog-type.js';
import type { WebhookCatalog } from '../catalog/webhook-catalog.js';
import type { JsonObject } from '../json.js';
import { ApiError } from './api-error.js';
import { ref } from './components.js';
import type { EventTypesView } from './event-types.js';
import type { ApiAnswer, ApiCall, ApiRoute } from './route.js';
import type { Schema } from './schema.js';

/** The content type of TypeScript: browsers show plain text and do not run it. */
const TEXT_TYPE = 'text/plain; charset=utf-8';
const ANY_DOCUMENT: Schema = { type: 'object', description: 'The document.', additionalProperties: true };
/** The catalogue of a caller contains only types that the caller may see, so the documents show all its types. */
const ALL = { include: 'all' } as const;

const COMMON = { method: 'GET', capability: 'catalog:read', status: 200, isCatalog: true, errors: [] } as const;

/** The routes of the documents come before `{type}`, because Express takes the first route that matches. */
export const CATALOG_ROUTES: readonly ApiRoute[] = [
  {
    ...COMMON,
    operation: 'listEventTypes',
    path: '/event-types',
    summary: 'Lists the event types that the caller may subscribe to',
    answer: ref('EventTypes'),
    async run(call) {
      const view = await viewFor(call);
      return { body: { items: view.catalog.types.map((type) => summaryOf(view, type)) } };
    },
  },
  {
    ...COMMON,
    operation: 'getEventsOpenApi',
    path: '/event-types/openapi.json',
    summary: 'Describes the event types as webhooks of OpenAPI 3.1',
    answer: ANY_DOCUMENT,
    run: (call) => documentOf(call, 'openapi.json', (catalog) => catalog.openApi(ALL)),
  },
  {
    ...COMMON,
    operation: 'getEventsAsyncApi',
    path: '/event-types/asyncapi.json',
    summary: 'Describes the event types in AsyncAPI 3.1',
    answer: ANY_DOCUMENT,
    run: (call) => documentOf(call, 'asyncapi.json', (catalog) => catalog.asyncApi(ALL)),
  },
  {
    ...COMMON,
    operation: 'getEventsTypeScript',
    path: '/event-types/types.d.ts',
    summary: 'Types of the payloads for receivers, in TypeScript',
    answer: { type: 'string', description: 'The types.' },
    answerType: 'text/plain',
    async run(call) {
      const view = await viewFor(call);
      return { text: view.document('types.d.ts', (catalog) => catalog.typeScript(ALL)), contentType: TEXT_TYPE };
    },
  },
  {
    ...COMMON,
    operation: 'getEventSchema',
    path: '/event-types/schemas/{type}.json',
    summary:
      'Reads the JSON Schema of the payloads of an event type, or of one of its versions, such as order.updated.1.json',
    answer: ANY_DOCUMENT,
    errors: [404],
    run: async (call) => ({ body: schemaOf(await viewFor(call), call.id) }),
  },
  {
    ...COMMON,
    operation: 'getEventType',
    path: '/event-types/{type}',
    query: { version: { type: 'integer', minimum: 1, description: 'An older version. By default: the newest.' } },
    summary: 'Reads an event type, with its JSON Schema and examples',
    answer: ref('EventTypeDetails'),
    errors: [404],
    async run(call) {
      const view = await viewFor(call);
      const type = typeOf(view, call.id);
      const { schema, examples, deprecated, version } = versionOf(type, call.query['version']);
      return { body: { ...summaryOf(view, type), deprecated, version, schema, examples } };
    },
  },
];

function viewFor({ parts, principal }: ApiCall): Promise<EventTypesView> {
  return parts.eventTypes.viewFor(principal.kind === 'owner');
}

async function documentOf(call: ApiCall, name: string, make: (catalog: WebhookCatalog) => object): Promise<ApiAnswer> {
  const view = await viewFor(call);
  return { text: view.document(name, (catalog) => JSON.stringify(make(catalog))) };
}

function summaryOf(
  view: EventTypesView,
  { type, title, group, description, deprecated, visibility, ...of }: CatalogType,
) {
  const versions = [of.version, ...of.older.map(({ version }) => version)];
  const properties = view.propertiesOf(type);
  return { type, title, group, description, deprecated, visibility, version: of.version, versions, properties };
}

/** @throws ApiError `UNKNOWN_EVENT_TYPE` */
function schemaOf(view: EventTypesView, name: string): JsonObject {
  const [, type = '', version = ''] = /^(.+)\.(\d+)$/.exec(name) ?? [];
  const found = view.find(name) ? undefined : view.find(type);
  const numbered = found && [found, ...found.older].find((one) => String(one.version) === version);
  return (numbered ?? typeOf(view, name)).schema;
}

/** @throws ApiError `UNKNOWN_VERSION` */
function versionOf(type: CatalogType, version: unknown): CatalogType | CatalogVersion {
  const found = [type, ...type.older].find((one) => version === undefined || one.version === version);
  if (found) return found;
  throw new ApiError('UNKNOWN_VERSION', 404, `'${type.type}' has no version ${String(version)}.`);
}

/** @throws ApiError `UNKNOWN_EVENT_TYPE` */
function typeOf(view: EventTypesView, name: string): CatalogType {
  const type = view.find(name);
  if (type) return type;
  throw new ApiError('UNKNOWN_EVENT_TYPE', 404, `There is no event type '${name.slice(0, 64)}'.`);
}
