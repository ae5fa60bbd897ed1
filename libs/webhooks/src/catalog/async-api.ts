import type { JsonObject } from '../json.js';
import type { CatalogType } from './catalog-type.js';
import {
  documentSchemas,
  fullDescription,
  headersOf,
  includedTypes,
  type CatalogDocumentOptions,
} from './documents.js';
import type { SchemaNames } from './schema-names.js';

/** A document of AsyncAPI 3.1, https://www.asyncapi.com/docs/reference/specification/v3.1.0 */
export type AsyncApiDocument = JsonObject & { readonly asyncapi: '3.1.0' };

/** One channel, the URL of a listener, to which the application sends each type. */
export function asyncApiDocument(all: readonly CatalogType[], options: CatalogDocumentOptions): AsyncApiDocument {
  const { title = 'Webhooks', version = '1.0.0' } = options;
  const types = includedTypes(all, options);
  const { schemas, names } = documentSchemas(types, (name) => `#/components/schemas/${name}`);
  const each = (of: (type: CatalogType, names: SchemaNames) => JsonObject, prefix = '') =>
    Object.fromEntries(types.map((type) => [prefix + type.type, of(type, names.get(type.type) as SchemaNames)]));
  return {
    asyncapi: '3.1.0',
    info: { title, version },
    defaultContentType: 'application/json',
    channels: {
      listener: {
        // The URL of a listener is not known here.
        address: null,
        description: 'The URL of a listener.',
        messages: each(({ type }) => ({ $ref: `#/components/messages/${type}` })),
      },
    },
    operations: each(
      ({ type, title: summary }) => ({
        action: 'send',
        summary,
        channel: { $ref: '#/channels/listener' },
        messages: [{ $ref: `#/channels/listener/messages/${type}` }],
        bindings: { http: { method: 'POST', bindingVersion: '0.3.0' } },
      }),
      'send.',
    ),
    components: { schemas, messages: each(messageOf) },
  };
}

function messageOf(type: CatalogType, { payload }: SchemaNames): JsonObject {
  const description = fullDescription(type);
  return {
    name: type.type,
    title: type.title,
    ...(description === undefined ? {} : { description }),
    ...(type.group === null ? {} : { tags: [{ name: type.group }] }),
    contentType: 'application/json',
    headers: headersSchema(type),
    payload: { $ref: `#/components/schemas/${payload}` },
    examples: type.examples.map((example, n) => ({ name: `example${n + 1}`, payload: example })),
  };
}

function headersSchema(type: CatalogType): JsonObject {
  const headers = headersOf(type);
  return {
    type: 'object',
    properties: Object.fromEntries(headers.map(({ name, description }) => [name, { type: 'string', description }])),
    required: headers.filter(({ required }) => required).map(({ name }) => name),
  };
}
