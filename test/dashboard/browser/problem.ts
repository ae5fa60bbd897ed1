import type { Route } from 'playwright-core';

/** The id of a request that failed. */
export const REQUEST = 'urn:uuid:0b6e7a9c-5d0e-4c0e-9f4e-2f5a5f3c8a11';

/** An error of the API, as a route of the browser. */
export const problem = (status: number, code: string) => (route: Route) =>
  route.fulfill({
    status,
    contentType: 'application/problem+json',
    body: JSON.stringify({
      type: 'about:blank',
      title: code,
      status,
      code,
      detail: `About ${code}.`,
      instance: REQUEST,
    }),
  });
