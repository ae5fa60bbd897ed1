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
   * Path of the route, below the global prefix of the application. Versioning does not apply.
   *
   * @defaultValue `'webhooks/verify'`
   */
  path?: string;
  /**
   * The instance whose webhooks are verified; each instance needs its own `forRoot` and path. Give the name of its data
   * source, as in `WebhooksModule.forRoot({ dataSource })`.
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
   * Where the exact bytes of a body come from; `'provided'` if a parser of the application keeps them.
   *
   * - `'nest'`: the application is created with `rawBody: true`. Without it, the application does not start.
   * - `'provided'`: a parser of the application keeps the bytes in `request.rawBody`. The module then reads nothing
   *   itself, and does not check at start. A request without the bytes fails with `RAW_BODY_MISSING`.
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
 * Serves a POST route that answers "did you send this?", as PayPal's IPN does. A receiver posts back a webhook: its
 * `webhook-id`, `webhook-timestamp` and signature headers, and the exact body. The answer is `VERIFIED` or `INVALID` in
 * plain text, never a reason. It is for receivers that cannot verify a signature themselves.
 *
 * It needs `WebhooksModule.forRoot()`, and an application that was created with `rawBody: true`. Global guards apply to
 * its controller. One of them should limit the rate of requests.
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
   * Runs when the parsers of the application are registered but its routes are not. In a testing module too, only this
   * hook runs at that moment.
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
   * The URLs of the route. If the application moves the route, for example with a RouterModule, the route still works,
   * but its bodies go through the parsers of the application, with their limits and refusals.
   */
  private urls(): Set<string> {
    const prefix = this.config.getGlobalPrefix();
    const urls = new Set([normalised(`${prefix}/${this.options.path}`)]);
    if (this.config.getGlobalPrefixOptions().exclude?.length) urls.add(normalised(this.options.path));
    return urls;
  }
}

/** Routers match a path in any case, and with a slash at the end. */
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
