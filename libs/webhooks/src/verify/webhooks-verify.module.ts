import { Inject, Module, type DynamicModule, type FactoryProvider, type NestModule } from '@nestjs/common';
import { ApplicationConfig, HttpAdapterHost } from '@nestjs/core';
import { ConfigurationError } from '../errors.js';
import { DEFAULT_INSTANCE, runtimeToken } from '../instance.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { expressKeepsRawBodies, readRawOnExpress, type ExpressApplication } from '../raw-body/express-raw-body.js';
import { fastifyKeepsRawBodies, readRawOnFastify, type FastifyApplication } from '../raw-body/fastify-raw-body.js';
import { rawBodyMissing } from '../raw-body/raw-body.js';
import { SentWebhookVerifier } from './sent-webhook-verifier.js';
import { verifyController } from './verify.controller.js';

/** Options of {@link WebhooksVerifyModule}. */
export interface WebhooksVerifyOptions {
  /** Where to POST to, below the application's global prefix; versioning does not apply. @defaultValue `'webhooks/verify'` */
  path?: string;
  /**
   * Which instance's webhooks: the name of its data source, as in `WebhooksModule.forRoot({ dataSource })`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
  /**
   * Put on the controller: the application's `Public()` where a global guard asks everybody to log in, a `Throttle()` of
   * its own, `UseGuards()`. Whoever asks is a receiver, with no account here.
   *
   * @defaultValue none
   */
  decorators?: readonly ClassDecorator[];
  /**
   * Where the exact bytes come from. `'nest'`: the application is created with `rawBody: true`, and is stopped at its
   * start when it is not. `'provided'`: a parser of the application's own keeps them in `request.rawBody`; the module then
   * reads and checks nothing before the first request, which fails with `RAW_BODY_MISSING` if they are not there.
   *
   * @defaultValue 'nest'
   */
  rawBody?: 'nest' | 'provided';
}

const DEFAULT_PATH = 'webhooks/verify';
const OPTIONS = Symbol('nestjs-entity-webhooks:verify-options');
const KNOWN_KEYS: readonly string[] = [
  'path',
  'dataSource',
  'decorators',
  'rawBody',
] satisfies (keyof WebhooksVerifyOptions)[];

type ResolvedVerifyOptions = Required<WebhooksVerifyOptions>;

/**
 * Serves a POST that answers "did you send this?", as PayPal's IPN does: a receiver hands back what it was delivered, its
 * `webhook-id`, `webhook-timestamp` and signature headers with the exact body, and is told `VERIFIED` or `INVALID`
 * in plain text, never why. For receivers that cannot check a signature by themselves.
 *
 * Needs `WebhooksModule.forRoot()`, and an application made with `rawBody: true`. It is a controller like any other: global
 * guards apply, and one that limits requests should.
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
    @Inject(OPTIONS) private readonly options: ResolvedVerifyOptions,
    @Inject(SentWebhookVerifier) private readonly verifier: SentWebhookVerifier,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
    @Inject(ApplicationConfig) private readonly config: ApplicationConfig,
  ) {}

  /**
   * @throws ConfigurationError `INVALID_OPTION` here; while the application starts `WEBHOOKS_MODULE_MISSING` and
   * `RAW_BODY_MISSING`
   */
  static forRoot(options: WebhooksVerifyOptions = {}): DynamicModule {
    const resolved = resolve(options);
    return {
      module: WebhooksVerifyModule,
      controllers: [verifyController(resolved.path, resolved.decorators)],
      providers: [{ provide: OPTIONS, useValue: resolved }, verifierProvider(resolved.dataSource)],
    };
  }

  /**
   * The one moment when the application's parsers stand and its routes do not yet, also in a testing module.
   */
  async configure(): Promise<void> {
    const adapter = this.host.httpAdapter;
    if (!adapter || this.options.rawBody === 'provided') return;
    const { bodyLimitBytes } = this.verifier;
    const isOurs = (url: string) => this.urls().has(normalised(url));
    if (adapter.getType() === 'express') {
      const app = adapter.getInstance<ExpressApplication>();
      if ((await expressKeepsRawBodies(app)) === false)
        throw rawBodyMissing('WebhooksVerifyModule', 'Express keeps only what it parsed of them');
      readRawOnExpress(app, ({ method, url }) => method === 'POST' && isOurs(url ?? ''), bodyLimitBytes);
    } else if (adapter.getType() === 'fastify') {
      const app = adapter.getInstance<FastifyApplication>();
      if ((await fastifyKeepsRawBodies(app)) === false)
        throw rawBodyMissing('WebhooksVerifyModule', 'Fastify keeps only what it parsed of them');
      readRawOnFastify(app, isOurs, bodyLimitBytes);
    }
  }

  /**
   * Where the route stands. Moved elsewhere, by a RouterModule for example, it still works: its bodies then come through
   * the application's parsers, with the limits and refusals of those.
   */
  private urls(): Set<string> {
    const prefix = this.config.getGlobalPrefix();
    const urls = new Set([normalised(`${prefix}/${this.options.path}`)]);
    if (this.config.getGlobalPrefixOptions().exclude?.length) urls.add(normalised(this.options.path));
    return urls;
  }
}

/** Routers take a path in any case, and with a slash at the end. */
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
        `WebhooksVerifyModule answers for the data source '${dataSource}', which no WebhooksModule serves. Import WebhooksModule.forRoot(${given}) in your root module, or name another one in WebhooksVerifyModule.forRoot({ dataSource }).`,
      );
    },
    inject: [{ token: runtimeToken(dataSource), optional: true }],
  };
}

function resolve(options: WebhooksVerifyOptions): ResolvedVerifyOptions {
  const { path = DEFAULT_PATH, dataSource = DEFAULT_INSTANCE, decorators = [], rawBody = 'nest' } = options;
  const unknown = Object.keys(options).find((key) => !KNOWN_KEYS.includes(key));
  if (unknown !== undefined) throw invalid(unknown, `there is no such option; known are ${KNOWN_KEYS.join(', ')}`);
  if (typeof path !== 'string' || path.trim() === '') throw invalid('path', "give a path such as 'webhooks/verify'");
  if (typeof dataSource !== 'string' || dataSource === '')
    throw invalid('dataSource', 'give the name of a data source');
  if (!Array.isArray(decorators) || decorators.some((decorate) => typeof decorate !== 'function')) {
    throw invalid('decorators', 'give a list of class decorators, called: [Public()]');
  }
  if (rawBody !== 'nest' && rawBody !== 'provided') throw invalid('rawBody', "give 'nest' or 'provided'");
  return Object.freeze({ path, dataSource, decorators: Object.freeze([...decorators]), rawBody });
}

function invalid(key: string, fix: string): ConfigurationError {
  return new ConfigurationError('INVALID_OPTION', `The option ${key} of WebhooksVerifyModule is wrong: ${fix}.`);
}
