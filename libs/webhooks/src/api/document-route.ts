import { openApiDocument } from './openapi.js';
import type { ApiRoute } from './route.js';

/** The route of the OpenAPI document, which describes all routes, this one included. @param query the parameters of every route */
export function documentRoute(routes: readonly ApiRoute[], query: NonNullable<ApiRoute['query']>): ApiRoute {
  const route: ApiRoute = {
    operation: 'getOpenApi',
    method: 'GET',
    path: '/openapi.json',
    query,
    summary: 'Describes this API, in OpenAPI 3.1',
    capability: 'catalog:read',
    status: 200,
    isCatalog: true,
    answer: { type: 'object', description: 'The document.', additionalProperties: true },
    errors: [],
    // The URL of the server is relative to the document (OpenAPI 3.1, 4.8.5), so it is correct behind every prefix and proxy.
    run: () => ({ body: openApiDocument([...routes, route], '.') }),
  };
  return route;
}
