import { STATUS_CODES } from 'node:http';
import { COMPONENTS, ref } from './components.js';
import { neededBy, type ApiRoute } from './route.js';
import type { Schema } from './schema.js';

type Json = Record<string, unknown>;

const MERGED_PARAMETERS = { id: 'The id.', type: 'The event type.' } as const;
/** Statuses that every route can answer. */
const COMMON_ERRORS = [400, 401, 403, 429, 500, 503];

/** The document of this API, in OpenAPI 3.1. @param server the path of the API, with `/v1` */
export function openApiDocument(routes: readonly ApiRoute[], server: string): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Webhooks', version: '1', description: 'Listeners, deliveries and events of webhooks.' },
    servers: [{ url: server }],
    security: [{ session: [] }, {}],
    paths,
    components: {
      securitySchemes: {
        session: {
          type: 'http',
          scheme: 'bearer',
          description: 'A token of a session, or the login of the application.',
        },
      },
      schemas: Object.fromEntries(Object.entries(COMPONENTS).map(([name, schema]) => [name, inOpenApi31(schema)])),
    },
  };
}

function operationOf(route: ApiRoute): Json {
  const { operation, summary, body, isBodyRequired, capability } = route;
  const needed = neededBy(capability);
  const content = body && { content: { 'application/json': { schema: inOpenApi31(body) } } };
  return {
    operationId: operation,
    summary,
    ...(needed.length ? { description: `Needs the capability ${needed.join(' or ')}.` } : {}),
    parameters: parametersOf(route),
    ...(content ? { requestBody: { required: isBodyRequired === true, ...content } } : {}),
    responses: responsesOf(route),
  };
}

/** The parameters of a route, in the form that OpenAPI 3.0 and 3.1 share. */
export function parametersOf({ path, query = {}, isIdempotent, hasRevision, isCatalog }: ApiRoute): Json[] {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    description: MERGED_PARAMETERS[name as keyof typeof MERGED_PARAMETERS],
    schema: { type: 'string' },
  }));
  const inQuery = Object.entries(query).map(([name, { description, ...schema }]) => ({
    name,
    in: 'query',
    required: false,
    description,
    schema,
  }));
  const header = (name: string, description: string, schema: Schema) => ({
    name,
    in: 'header',
    required: false,
    description,
    schema,
  });
  return [
    ...inPath,
    ...inQuery,
    ...(isIdempotent ? [header('Idempotency-Key', IDEMPOTENCY, IDEMPOTENCY_KEY)] : []),
    ...(hasRevision
      ? [header('If-Match', 'The ETag of a listener: change nothing if it has another one.', { type: 'string' })]
      : []),
    ...(isCatalog
      ? [header('If-None-Match', 'The ETag of an earlier answer: 304 if it is still right.', { type: 'string' })]
      : []),
  ];
}

const IDEMPOTENCY = 'A repeated request with the same key within 24 hours gets the first answer, and does nothing.';
/** RFC 8941 allows quotes around the key. */
export const IDEMPOTENCY_KEY: Schema = { type: 'string', minLength: 1, maxLength: 255, pattern: '^[\\x20-\\x7e]+$' };

function responsesOf(route: ApiRoute): Json {
  const { status, answer, answerType = 'application/json', otherAnswer, errors } = route;
  const success = {
    description: STATUS_CODES[status],
    ...(answer ? { content: { [answerType]: { schema: inOpenApi31(answer) } } } : {}),
  };
  const statuses = [
    ...errors,
    ...COMMON_ERRORS,
    ...(route.method === 'GET' ? [] : [413, 415]),
    ...(route.isIdempotent ? [409, 422] : []),
  ];
  const failures = [...new Set(statuses)]
    .toSorted((a, b) => a - b)
    .map((code) => [
      code,
      { description: STATUS_CODES[code], content: { 'application/problem+json': { schema: ref('Problem') } } },
    ]);
  const notModified = route.isCatalog ? { 304: { description: STATUS_CODES[304] } } : {};
  const other = otherAnswer && {
    description: STATUS_CODES[otherAnswer.status],
    content: { 'application/json': { schema: inOpenApi31(otherAnswer.answer) } },
  };
  return {
    [status]: success,
    ...(otherAnswer ? { [otherAnswer.status]: other } : {}),
    ...notModified,
    ...Object.fromEntries(failures),
  };
}

/** OpenAPI 3.1 has no `nullable`: `null` is one of the types. */
function inOpenApi31(schema: Schema): Json {
  const { nullable, items, properties, additionalProperties, oneOf, ...rest } = schema;
  const converted: Json = { ...rest };
  if (items) converted['items'] = inOpenApi31(items);
  if (properties) {
    converted['properties'] = Object.fromEntries(
      Object.entries(properties).map(([key, one]) => [key, inOpenApi31(one)]),
    );
  }
  if (additionalProperties !== undefined) {
    converted['additionalProperties'] =
      typeof additionalProperties === 'object' ? inOpenApi31(additionalProperties) : additionalProperties;
  }
  if (oneOf) converted['oneOf'] = [...oneOf.map(inOpenApi31), ...(nullable ? [{ type: 'null' }] : [])];
  if (nullable && schema.type !== undefined) converted['type'] = [schema.type, 'null'];
  if (nullable && schema.enum) converted['enum'] = [...schema.enum, null];
  return converted;
}
