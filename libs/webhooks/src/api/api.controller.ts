import {
  All,
  Catch,
  Controller,
  Inject,
  Req,
  RequestMapping,
  RequestMethod,
  Res,
  UseFilters,
  UseGuards,
  VERSION_NEUTRAL,
  type ArgumentsHost,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
  type Type,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { ServerResponse } from 'node:http';
import { ApiError } from './api-error.js';
import { sessionTokenOf, type ApiHandler, type HttpAnswer } from './api-handler.js';
import type { HttpRequest } from './read-request.js';
import type { ApiMethod, ApiRoute } from './route.js';
import { describeForSwagger, hideFromSwagger } from './swagger.js';

/** Token of the {@link ApiHandler} of a module. */
export const HANDLER = Symbol('nestjs-entity-webhooks:api-handler');

/**
 * Sends an answer through the adapter, so that no interceptor of the application can change it and the headers of helmet and CORS stay. The
 * text is already serialized, so no serializer of the framework runs.
 */
export function send({ httpAdapter }: HttpAdapterHost, response: unknown, answer: HttpAnswer): void {
  const { status, headers, text, stream } = answer;
  // The answer is already sent: an interceptor of the application has thrown afterwards.
  if (httpAdapter.isHeadersSent(response)) return stream?.cancel();
  for (const [name, value] of Object.entries(headers)) httpAdapter.setHeader(response, name, value);
  if (stream) stream.open(rawResponse(response, status));
  else httpAdapter.reply(response, text, status);
}

interface FastifyReply {
  readonly raw: ServerResponse;
  readonly hijack: () => void;
  readonly getHeaders: () => Record<string, string | string[] | number | undefined>;
}

/** The response of Node.js, with its headers already sent, so that the framework cannot buffer, wrap or end a stream. */
function rawResponse(response: unknown, status: number): ServerResponse {
  const { raw, hijack } = response as Partial<FastifyReply>;
  const node = raw ?? (response as ServerResponse);
  if (hijack) {
    hijack.call(response);
    for (const [name, value] of Object.entries((response as FastifyReply).getHeaders()))
      if (value !== undefined) node.setHeader(name, value);
  }
  // An open connection would delay the shutdown of the application, on Fastify by 72 s.
  node.shouldKeepAlive = false;
  node.writeHead(status);
  node.flushHeaders();
  return node;
}

/** Answers errors of guards with a problem document. */
@Catch()
export class ApiProblemFilter implements ExceptionFilter {
  constructor(
    @Inject(HANDLER) private readonly handler: ApiHandler,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  catch(error: unknown, host: ArgumentsHost): void {
    send(this.host, host.switchToHttp().getResponse(), this.handler.problem(error));
  }
}

/** The options that `apiController()` needs. */
export interface ControllerOptions {
  readonly path: string;
  readonly guards: readonly (Type<CanActivate> | CanActivate)[];
  readonly decorators: readonly ClassDecorator[];
  readonly hasSessions: boolean;
  readonly isCatalogPublic: boolean;
  /** The name of the data source. */
  readonly instance: string;
}

/** Creates a controller class for each `forRoot`, because Nest stores path and guards on the class. @internal */
export function apiController(routes: readonly ApiRoute[], options: ControllerOptions): Type {
  const { path, guards, decorators, instance } = options;
  @Controller({ path: `${path}/v1`, version: VERSION_NEUTRAL })
  @UseFilters(ApiProblemFilter)
  class WebhooksApiController {
    constructor(
      @Inject(HANDLER) readonly handler: ApiHandler,
      @Inject(HttpAdapterHost) readonly host: HttpAdapterHost,
    ) {}
  }
  for (const route of routes) addRoute(WebhooksApiController, route, instance);
  addNoRoute(WebhooksApiController, routes);
  const skips = skipsGuards(routes, options);
  if (guards.length) UseGuards(...guards.map((guard) => skippable(guard, skips)))(WebhooksApiController);
  for (const decorate of decorators) decorate(WebhooksApiController);
  return WebhooksApiController;
}

interface ControllerInstance {
  readonly handler: ApiHandler;
  readonly host: HttpAdapterHost;
}

const METHODS: Readonly<Record<ApiMethod, RequestMethod>> = {
  GET: RequestMethod.GET,
  POST: RequestMethod.POST,
  PUT: RequestMethod.PUT,
  PATCH: RequestMethod.PATCH,
  DELETE: RequestMethod.DELETE,
};

function addRoute(controller: Type, route: ApiRoute, instance: string): void {
  const { operation, method, path } = route;
  const nestPath = path.replaceAll(/\{(\w+)\}/g, ':$1');
  const decorate = RequestMapping({ path: nestPath, method: METHODS[method] });
  const descriptor = addMethod(controller, operation, decorate, async function (request, response) {
    send(this.host, response, await this.handler.handle(route, request));
  });
  describeForSwagger(controller, descriptor, route, instance);
}

/** Unknown routes and methods get a problem document, too. */
function addNoRoute(controller: Type, routes: readonly ApiRoute[]): void {
  const descriptor = addMethod(controller, NO_ROUTE, All('*path'), function (request, response) {
    send(this.host, response, this.handler.problem(noRoute(request, routes)));
    return Promise.resolve();
  });
  hideFromSwagger(controller, NO_ROUTE, descriptor);
}

const NO_ROUTE = 'noRoute';

/** Sets the path of the catch-all route, which Express and Fastify write differently. Call it before the routes are registered. */
export function setWildcard(controller: Type, framework: string): void {
  const prototype = controller.prototype as object;
  const descriptor = Object.getOwnPropertyDescriptor(prototype, NO_ROUTE) as PropertyDescriptor;
  All(framework === 'fastify' ? '*' : '*path')(prototype, NO_ROUTE, descriptor);
}

function noRoute(request: HttpRequest, routes: readonly ApiRoute[]): ApiError {
  const [url = ''] = (request.originalUrl ?? request.url).split('?');
  const allowed = routes.filter((route) => patternOf(route).test(url)).map(({ method }) => method);
  if (!allowed.length) return new ApiError('ROUTE_NOT_FOUND', 404, 'There is no such route. See /openapi.json.');
  const Allow = [...new Set(allowed)].join(', ');
  return new ApiError('METHOD_NOT_ALLOWED', 405, `Allowed: ${Allow}.`, { headers: { Allow } });
}

function patternOf({ path }: ApiRoute): RegExp {
  return new RegExp(`/v1${path.replaceAll(/\{\w+\}/g, '[^/]+')}/?$`, 'i');
}

function addMethod(
  controller: Type,
  name: string,
  decorate: MethodDecorator,
  method: (this: ControllerInstance, request: HttpRequest, response: unknown) => Promise<void>,
): PropertyDescriptor {
  const descriptor = { value: method, writable: true, configurable: true, enumerable: false };
  const prototype = controller.prototype as object;
  Object.defineProperty(prototype, name, descriptor);
  Object.defineProperty(method, 'name', { value: name });
  Reflect.defineMetadata('design:paramtypes', [Object, Object], prototype, name);
  Req()(prototype, name, 0);
  Res()(prototype, name, 1);
  decorate(prototype, name, descriptor);
  return descriptor;
}

type Skips = (context: ExecutionContext) => boolean;

/** Runs the application's guard, except for requests with a session token, which the token authenticates, and for a public catalogue. */
function skipsGuards(routes: readonly ApiRoute[], { hasSessions, isCatalogPublic }: ControllerOptions): Skips {
  const open = routes.filter(({ isCatalog }) => isCatalog && isCatalogPublic).map(({ operation }) => operation);
  return (context) => {
    const request = context.switchToHttp().getRequest<HttpRequest>();
    return (hasSessions && sessionTokenOf(request) !== undefined) || open.includes(context.getHandler().name);
  };
}

function skippable(guard: Type<CanActivate> | CanActivate, skips: Skips): Type<CanActivate> | CanActivate {
  if (typeof guard !== 'function') {
    return { canActivate: (context) => skips(context) || guard.canActivate(context) };
  }
  // A subclass, so that Nest injects the dependencies of the guard.
  return class extends guard {
    override canActivate(context: ExecutionContext): ReturnType<CanActivate['canActivate']> {
      return skips(context) || super.canActivate(context);
    }
  };
}
