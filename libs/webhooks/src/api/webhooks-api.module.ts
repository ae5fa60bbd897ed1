import {
  Inject,
  Module,
  type DynamicModule,
  type FactoryProvider,
  type NestModule,
  type OnModuleDestroy,
  type Type,
} from '@nestjs/common';
import { ApplicationConfig, HttpAdapterHost } from '@nestjs/core';
import { ConfigurationError } from '../errors.js';
import { DEFAULT_INSTANCE, runtimeToken } from '../instance.js';
import { resolveTable, type Resolved } from '../option-table.js';
import { WebhooksShards } from '../shards/webhooks-shards.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { ApiHandler } from './api-handler.js';
import { API_OPTIONS, type WebhooksApiOptions } from './api-options.js';
import { apiController, ApiProblemFilter, HANDLER, send, setWildcard } from './api.controller.js';
import { answerFrameworkErrors } from './framework-errors.js';
import { documentRoute } from './document-route.js';
import { CATALOG_ROUTES } from './catalog-routes.js';
import { ABOUT_ROUTES, SESSION_ROUTES } from './about-routes.js';
import { DELIVERY_ROUTES } from './delivery-routes.js';
import { LISTENER_ROUTES } from './listener-routes.js';
import { SYSTEM_ROUTES } from './system-routes.js';
import type { ApiRoute } from './route.js';
import { SHARD } from './queries.js';
import { shardedInstances, singleInstance } from './serve-instances.js';
import { STREAM_ROUTES } from './stream-routes.js';
import { TASK_ROUTES } from './task-routes.js';

const PLACE = Symbol('nestjs-entity-webhooks:api-place');

/** The routes of one `forRoot()`. */
interface ApiPlace {
  readonly path: string;
  readonly controller: Type;
}

/**
 * Every route. The routes for sessions exist only if the option `sessions` is set. With `isSharded`, each route has the parameter `shard`.
 *
 * @internal
 */
export function apiRoutes(hasSessions: boolean, isSharded = false): readonly ApiRoute[] {
  const sessionRoutes = hasSessions ? SESSION_ROUTES : [];
  const routes = [
    ...ABOUT_ROUTES,
    ...CATALOG_ROUTES,
    ...LISTENER_ROUTES,
    ...DELIVERY_ROUTES,
    ...TASK_ROUTES,
    ...SYSTEM_ROUTES,
    ...STREAM_ROUTES,
    ...sessionRoutes,
  ];
  const more = isSharded ? SHARD : {};
  const all = routes.map((route) => ({ ...route, query: { ...route.query, ...more } }));
  return [...all, documentRoute(all, more)];
}

/**
 * The REST API: listeners, deliveries, events and event types, for operators and for customers. See `docs/api.md`.
 *
 * @example
 * \@Module({
 *   imports: [
 *     WebhooksModule.forRoot(),
 *     WebhooksApiModule.forRoot({
 *       guards: [LoginGuard],
 *       access: ({ user }: { user?: User }) => user ? { kind: 'owner', owner: user.tenantId, can: MANAGE } : null,
 *     }),
 *   ],
 * })
 * export class AppModule {}
 */
@Module({})
export class WebhooksApiModule implements NestModule, OnModuleDestroy {
  /** @internal */
  constructor(
    @Inject(PLACE) private readonly place: ApiPlace,
    @Inject(HANDLER) private readonly handler: ApiHandler,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
    @Inject(ApplicationConfig) private readonly config: ApplicationConfig,
  ) {}

  /** @throws ConfigurationError `ACCESS_MISSING`, `INVALID_OPTION` immediately; `WEBHOOKS_MODULE_MISSING` when the application starts */
  static forRoot(given: WebhooksApiOptions): DynamicModule {
    assertAccess(given);
    const options = resolveTable(API_OPTIONS, given, { name: 'WebhooksApiModule' });
    const { path, dataSource, guards, imports, decorators, sessions, catalog, shards } = options;
    assertNoDataSource(given);
    const hasSessions = sessions !== null;
    const controller = apiController(apiRoutes(hasSessions, shards), {
      ...{ path, guards, decorators, hasSessions },
      isCatalogPublic: catalog.public,
      instance: dataSource,
    });
    return {
      module: WebhooksApiModule,
      imports: [...imports],
      controllers: [controller],
      providers: [
        { provide: PLACE, useValue: { path, controller } satisfies ApiPlace },
        ApiProblemFilter,
        handlerProvider(options),
      ],
    };
  }

  /** Runs after the application's body parsers are registered, and before its routes are. */
  configure(): void {
    const { httpAdapter } = this.host;
    if (!httpAdapter) return;
    this.handler.warnIfOpen();
    setWildcard(this.place.controller, httpAdapter.getType());
    answerFrameworkErrors(
      this.host,
      (path) => this.isBelow(path),
      (response, error) => send(this.host, response, this.handler.problem(error)),
    );
  }

  /** Runs before the HTTP server waits for its open connections. */
  async onModuleDestroy(): Promise<void> {
    await this.handler.close();
  }

  private isBelow(url: string): boolean {
    const path = normalised(url);
    return this.roots().some((root) => path === root || path.startsWith(`${root}/`));
  }

  /** Limit: if the application moves the routes with a RouterModule, errors of its body parsers are not problem documents. */
  private roots(): string[] {
    const root = `${this.place.path}/v1`;
    const prefixed = normalised(`${this.config.getGlobalPrefix()}/${root}`);
    return this.config.getGlobalPrefixOptions().exclude?.length ? [prefixed, normalised(root)] : [prefixed];
  }
}

/** Routers ignore upper and lower case, and a slash at the end. */
function normalised(url: string): string {
  const [path = ''] = url.split('?', 1);
  return path.split('/').filter(Boolean).join('/').toLowerCase();
}

function assertAccess(given: Partial<WebhooksApiOptions> | undefined): void {
  if (given?.access !== undefined) return;
  throw new ConfigurationError(
    'ACCESS_MISSING',
    "WebhooksApiModule.forRoot() needs `access`: a function of the request that returns { kind: 'operator' }, { kind: 'owner', owner, can } or null. OPEN_ACCESS opens the API to everybody.",
  );
}

/** @throws ConfigurationError `INVALID_OPTION` */
function assertNoDataSource({ dataSource, shards }: WebhooksApiOptions): void {
  if (shards !== true || dataSource === undefined) return;
  throw new ConfigurationError(
    'INVALID_OPTION',
    'Invalid value true for `shards` of WebhooksApiModule. Allowed: false, if `dataSource` is set. Remove `dataSource` to serve every shard of WebhooksShardsModule.',
    { details: { key: 'shards' } },
  );
}

function handlerProvider(options: Resolved<typeof API_OPTIONS>): FactoryProvider {
  const { access, catalog, dataSource, limits, shards: isSharded } = options;
  return {
    provide: HANDLER,
    useFactory: (runtime: WebhooksRuntime | undefined, shards: WebhooksShards | undefined) => {
      if (isSharded && !shards) throw withoutShards();
      if (!isSharded && !runtime) throw withoutInstance(dataSource);
      const instances = isSharded
        ? shardedInstances(shards as WebhooksShards, options)
        : singleInstance(runtime as WebhooksRuntime, options);
      return new ApiHandler(instances, { access, catalog, limits });
    },
    inject: [
      { token: runtimeToken(dataSource), optional: true },
      { token: WebhooksShards, optional: true },
    ],
  };
}

function withoutShards(): ConfigurationError {
  return new ConfigurationError(
    'WEBHOOKS_MODULE_MISSING',
    'WebhooksApiModule serves all shards, but no WebhooksShardsModule is imported. Import WebhooksShardsModule.forRoot({ dataSources, shardOf }) in your root module, or remove `shards` from WebhooksApiModule.forRoot().',
  );
}

function withoutInstance(dataSource: string): ConfigurationError {
  const given = dataSource === DEFAULT_INSTANCE ? '' : `{ dataSource: '${dataSource}' }`;
  return new ConfigurationError(
    'WEBHOOKS_MODULE_MISSING',
    `WebhooksApiModule serves the data source '${dataSource}', but no WebhooksModule is imported for it. Import WebhooksModule.forRoot(${given}) in your root module, or name another data source in WebhooksApiModule.forRoot({ dataSource }).`,
  );
}
