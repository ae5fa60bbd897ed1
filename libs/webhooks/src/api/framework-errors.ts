import type { HttpAdapterHost } from '@nestjs/core';
import { frameworkStatus } from './problem.js';

type ExpressHandler = (
  error: unknown,
  request: { originalUrl: string },
  response: unknown,
  next: (e?: unknown) => void,
) => void;
type FastifyHandler = (error: unknown, request: unknown, reply: unknown) => void;

/** The parts of Express and Fastify that this file uses. */
interface ExpressApplication {
  use(handler: ExpressHandler): unknown;
}
interface FastifyApplication {
  addHook(name: 'onRoute', hook: (route: { readonly url: string; errorHandler?: FastifyHandler }) => void): unknown;
}

/**
 * Answers errors of body parsers, which run before the controller, with problem documents. Call it when the parsers are registered, but
 * the routes are not.
 *
 * @param isRoute whether a path is below the API
 */
export function answerFrameworkErrors(
  { httpAdapter }: HttpAdapterHost,
  isRoute: (path: string) => boolean,
  answer: (response: unknown, error: unknown) => void,
): void {
  if (httpAdapter.getType() === 'express') {
    httpAdapter.getInstance<ExpressApplication>().use((error, { originalUrl }, response, next) => {
      if (isRoute(originalUrl) && frameworkStatus(error) !== undefined) answer(response, error);
      else next(error);
    });
  } else if (httpAdapter.getType() === 'fastify') {
    httpAdapter.getInstance<FastifyApplication>().addHook('onRoute', (route) => {
      if (isRoute(route.url)) route.errorHandler = (error, _request, reply) => answer(reply, error);
    });
  }
}
