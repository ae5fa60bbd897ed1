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

/** A document of OpenAPI 3.1, https://spec.openapis.org/oas/v3.1.1, whose only operations are webhooks. */
export interface OpenApiDocument {
  readonly openapi: '3.1.0';
  readonly info: { readonly title: string; readonly version: string };
  /** Path items, by event type. */
  readonly webhooks: Record<string, object>;
  readonly components: { readonly schemas: Record<string, object> };
}

export function openApiDocument(all: readonly CatalogType[], options: CatalogDocumentOptions): OpenApiDocument {
  const { title = 'Webhooks', version = '1.0.0' } = options;
  const types = includedTypes(all, options);
  const { schemas, names } = documentSchemas(types, schemaReference);
  const webhooks = types.map((type) => [type.type, { post: operationOf(type, names.get(type.type) as SchemaNames) }]);
  return {
    openapi: '3.1.0',
    info: { title, version },
    webhooks: Object.fromEntries(webhooks) as Record<string, object>,
    components: { schemas },
  };
}

function operationOf(type: CatalogType, { payload }: SchemaNames): JsonObject {
  const description = fullDescription(type);
  const examples = type.examples.map((value, n) => [`example${n + 1}`, { value }] as const);
  const schema = { $ref: schemaReference(payload) };
  return {
    operationId: payload,
    summary: type.title,
    ...(description === undefined ? {} : { description }),
    ...(type.group === null ? {} : { tags: [type.group] }),
    ...(type.deprecated ? { deprecated: true } : {}),
    parameters: headersOf(type).map((header) => ({ ...header, in: 'header', schema: { type: 'string' } })),
    requestBody: {
      required: true,
      content: { 'application/json': { schema, examples: Object.fromEntries(examples) } },
    },
    responses: RESPONSES,
  };
}

/** How the dispatcher reads the status of an answer: `docs/receiving/README.md`. */
const RESPONSES: JsonObject = {
  '2XX': { description: 'Accepted. The webhook is not sent again.' },
  '410': { description: 'The receiver is gone. No more webhooks are sent to it.' },
  '429': {
    description: 'Too many requests. The webhook is sent again later.',
    headers: {
      'Retry-After': { description: 'When to send it again: seconds, or a date.', schema: { type: 'string' } },
    },
  },
  default: { description: 'Not accepted. The webhook is sent again later.' },
};

function schemaReference(name: string): string {
  return `#/components/schemas/${name}`;
}
