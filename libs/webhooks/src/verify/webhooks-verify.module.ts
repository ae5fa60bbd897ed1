import { Inject, Module, type DynamicModule, type FactoryProvider, type NestModule } from '@nestjs/common';
import { ApplicationConfig, HttpAdapterHost } from '@nestjs/core';
import { ConfigurationError } from '../errors.js';
import { DEFAULT_INSTANCE, runtimeToken } from '../instance.js';
import { DATA_SOURCE, DECORATORS, pathOption, RAW_BODY } from '../module-options.js';
import { resolveTable, type OptionTable } from '../option-table.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { expressKeepsRawBodies, readRawOnExpress, type ExpressApplication } from '../raw-body/express-raw-body.js';
import { fastifyKeepsRawBodies, readRawOnFastify, type FastifyApplication } from '../raw-body/fastify-raw-body.js';
import { rawBodyMissing } from '../raw-body/raw-body.js';
import { SentWebhookVerifier } from './sent-webhook-verifier.js';
import { verifyController } from './verify.controller.js';

/** Options of {@link WebhooksVerifyModule}. */
export interface WebhooksVerifyOptions {
  /**
   * Path of the route, below the global prefix of the application. Nest's versioning does not apply to this route.
   *
   * @defaultValue `'webhooks/verify'`
   */
  path?: string;
  /**
   * The instance whose webhooks are verified. Each instance needs a separate `forRoot` and a separate path. Give the
   * name of the data source of the instance, as in `WebhooksModule.forRoot({ dataSource })`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
  /**
   * Decorators for the controller, such as the application's `Public()` if a global guard requires a login,
   * `Throttle()` or `UseGuards()`. The caller is a receiver and has no account in this application.
   *
   * @defaultValue none
   */
  decorators?: readonly ClassDecorator[];
  /**
   * The parser that keeps the exact bytes of a body: the parser of Nest, or a parser of the application.
   *
   * - `'nest'`: the application is created with `rawBody: true`. Otherwise it does not start.
   * - `'provided'`: a parser of the application keeps the bytes in `request.rawBody`. The module then does not read bodies itself, and
   *   does not check the parsers at start. A request without the bytes fails with `RAW_BODY_MISSING`.
   *
   * @defaultValue 'nest'
   */
  rawBody?: 'nest' | 'provided';
}

/** Every option of `WebhooksVerifyModule.forRoot()`. */
export const VERIFY_OPTIONS = {
  path: pathOption('webhooks/verify'),
  dataSource: DATA_SOURCE,
  decorators: DECORATORS,
  rawBody: RAW_BODY,
} satisfies OptionTable<WebhooksVerifyOptions>;

const OPTIONS = Symbol('nestjs-entity-webhooks:verify-options');

/**
 * Serves a POST route that answers the question "did you send this webhook?", as PayPal's IPN does. The route is for
 * receivers that cannot verify a signature themselves. A receiver posts a webhook back, with the headers `webhook-id`
 * and `webhook-timestamp`, the signature headers and the exact body. The answer is `VERIFIED` or `INVALID` in plain
 * text. The answer never contains a reason.
 *
 * The module needs `WebhooksModule.forRoot()`, and an application that was created with `rawBody: true`. Global guards
 * apply to the controller of the module. One of these guards should limit the rate of requests.
 *
 * @example
 * \@Module({ imports: [WebhooksModule.forRoot(), WebhooksVerifyModule.forRoot({ path: 'webhooks/verify' })] })
 * export class AppModule {}
 * const app = await NestFactory.create(AppModule, { rawBody: true });
 */
@Module({})
export class WebhooksVerifyModule implements NestModule {
  /** @internal */
  constructor(
    @Inject(OPTIONS) private readonly options: Required<WebhooksVerifyOptions>,
    @Inject(SentWebhookVerifier) private readonly verifier: SentWebhookVerifier,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
    @Inject(ApplicationConfig) private readonly config: ApplicationConfig,
  ) {}

  /**
   * @throws ConfigurationError `INVALID_OPTION` immediately; `WEBHOOKS_MODULE_MISSING` and `RAW_BODY_MISSING` when the
   * application starts
   */
  static forRoot(options: WebhooksVerifyOptions = {}): DynamicModule {
    const resolved = resolveTable(VERIFY_OPTIONS, options, { name: 'WebhooksVerifyModule' });
    return {
      module: WebhooksVerifyModule,
      controllers: [verifyController(resolved.path, resolved.decorators)],
      providers: [{ provide: OPTIONS, useValue: resolved }, verifierProvider(resolved.dataSource)],
    };
  }

  /**
   * Runs when the parsers of the application are registered but the routes are not yet registered. No other hook runs at that moment. The
   * hook also runs in a testing module.
   */
  async configure(): Promise<void> {
    const adapter = this.host.httpAdapter;
    if (!adapter || this.options.rawBody === 'provided') return;
    const { bodyLimitBytes } = this.verifier;
    const isVerifyRoute = (url: string) => this.urls().has(normalised(url));
    if (adapter.getType() === 'express') {
      const app = adapter.getInstance<ExpressApplication>();
      if ((await expressKeepsRawBodies(app)) === false)
        throw rawBodyMissing('WebhooksVerifyModule', 'Express does not keep them');
      readRawOnExpress(app, ({ method, url }) => method === 'POST' && isVerifyRoute(url ?? ''), bodyLimitBytes);
    } else if (adapter.getType() === 'fastify') {
      const app = adapter.getInstance<FastifyApplication>();
      if ((await fastifyKeepsRawBodies(app)) === false)
        throw rawBodyMissing('WebhooksVerifyModule', 'Fastify does not keep them');
      readRawOnFastify(app, isVerifyRoute, bodyLimitBytes);
    }
  }

  /**
   * The URLs of the route. If the application moves the route, for example with a RouterModule, the route still works.
   * But then the parsers of the application read the bodies of the route. These parsers have their own limits, and
   * refuse some bodies.
   */
  private urls(): Set<string> {
    const prefix = this.config.getGlobalPrefix();
    const urls = new Set([normalised(`${prefix}/${this.options.path}`)]);
    if (this.config.getGlobalPrefixOptions().exclude?.length) urls.add(normalised(this.options.path));
    return urls;
  }
}

/** Returns the URL in lower case and without a slash at its end, because routers ignore both differences. */
function normalised(url: string): string {
  const [path = ''] = url.split('?', 1);
  return path.split('/').filter(Boolean).join('/').toLowerCase();
}

function verifierProvider(dataSource: string): FactoryProvider {
  return {
    provide: SentWebhookVerifier,
    useFactory: (runtime: WebhooksRuntime | undefined) => {
      if (runtime) return new SentWebhookVerifier(runtime);
      const given = dataSource === DEFAULT_INSTANCE ? '' : `{ dataSource: '${dataSource}' }`;
      throw new ConfigurationError(
        'WEBHOOKS_MODULE_MISSING',
        `WebhooksVerifyModule verifies webhooks of the data source '${dataSource}', but no WebhooksModule is imported for it. Import WebhooksModule.forRoot(${given}) in your root module, or name another data source in WebhooksVerifyModule.forRoot({ dataSource }).`,
      );
    },
    inject: [{ token: runtimeToken(dataSource), optional: true }],
  };
}
