import { createRequire } from 'node:module';
import { STATUS_CODES } from 'node:http';
import type { Type } from '@nestjs/common';
import { DEFAULT_INSTANCE } from '../instance.js';
import { COMPONENTS } from './components.js';
import { parametersOf } from './openapi.js';
import type { ApiRoute } from './route.js';
import { resolveRef, type Schema } from './schema.js';

type Decorate = (options: object) => MethodDecorator;

/** The decorators of @nestjs/swagger that are used. */
interface Swagger {
  readonly ApiOperation: Decorate;
  readonly ApiParam: Decorate;
  readonly ApiQuery: Decorate;
  readonly ApiHeader: Decorate;
  readonly ApiBody: Decorate;
  readonly ApiResponse: Decorate;
  readonly ApiTags: (...tags: string[]) => MethodDecorator;
  readonly ApiExcludeEndpoint: () => MethodDecorator;
}

/**
 * Describes a route in the OpenAPI document that an application makes with @nestjs/swagger. Without that package the decorator does
 * nothing.
 */
export function describeForSwagger(
  controller: Type,
  descriptor: PropertyDescriptor,
  route: ApiRoute,
  instance: string,
): void {
  const swagger = loadSwagger();
  if (!swagger) return;
  for (const decorate of decoratorsOf(swagger, route, instance)) {
    decorate(controller.prototype as object, route.operation, descriptor);
  }
}

/** Keeps the catch-all route out of the document. */
export function hideFromSwagger(controller: Type, name: string, descriptor: PropertyDescriptor): void {
  loadSwagger()?.ApiExcludeEndpoint()(controller.prototype as object, name, descriptor);
}

let loaded: Swagger | null | undefined;

function loadSwagger(): Swagger | null {
  if (loaded !== undefined) return loaded;
  try {
    loaded = createRequire(import.meta.url)('@nestjs/swagger') as Swagger;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== 'MODULE_NOT_FOUND' && code !== 'ERR_MODULE_NOT_FOUND') throw error;
    loaded = null;
  }
  return loaded;
}

function* decoratorsOf(swagger: Swagger, route: ApiRoute, instance: string): Generator<MethodDecorator> {
  const { operation, summary, body, isBodyRequired = false, status, answer, answerType = 'application/json' } = route;
  // Operation ids must be unique in a document (OpenAPI 3.1, 4.8.10), even if the application imports this module twice.
  const isDefault = instance === DEFAULT_INSTANCE;
  yield swagger.ApiTags(isDefault ? 'webhooks' : `webhooks of ${instance}`);
  yield swagger.ApiOperation({ operationId: isDefault ? operation : `${operation}_${instance}`, summary });
  const decorators = { path: swagger.ApiParam, query: swagger.ApiQuery, header: swagger.ApiHeader };
  for (const { in: place, ...parameter } of parametersOf(route)) {
    yield decorators[place as keyof typeof decorators](parameter);
  }
  if (body) yield swagger.ApiBody({ required: isBodyRequired, schema: body });
  const content = answer && { content: { [answerType]: { schema: inlined(answer) } } };
  yield swagger.ApiResponse({ status, description: STATUS_CODES[status], ...content });
  yield swagger.ApiResponse({
    status: 'default',
    description: 'An error',
    content: { 'application/problem+json': { schema: COMPONENTS['Problem'] } },
  });
}

/** Replaces references by the schemas themselves, because the application's document does not contain the schemas of this module. */
function inlined(schema: Schema): Schema {
  if (schema.$ref !== undefined) return inlined(resolveRef(schema.$ref, COMPONENTS));
  const { items, properties } = schema;
  return {
    ...schema,
    ...(items ? { items: inlined(items) } : {}),
    ...(properties
      ? { properties: Object.fromEntries(Object.entries(properties).map(([key, one]) => [key, inlined(one)])) }
      : {}),
  };
}
