import { openApiDocument } from './openapi.js';
import type { ApiRoute } from './route.js';

/** The document of the other routes and of itself. */
export function documentRoute(routes: readonly ApiRoute[]): ApiRoute {
  const route: ApiRoute = {
    operation: 'getOpenApi',
    method: 'GET',
    path: '/openapi.json',
    summary: 'Describes this API, in OpenAPI 3.1',
    capability: 'catalog:read',
    status: 200,
    isCatalog: true,
    answer: { type: 'object', description: 'The document.', additionalProperties: true },
    errors: [],
    // Relative to the document (OpenAPI 3.1, 4.8.5), so that it is right under every prefix and proxy.
    run: () => ({ body: openApiDocument([...routes, route], '.') }),
  };
  return route;
}
