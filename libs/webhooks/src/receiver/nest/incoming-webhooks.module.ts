import { Inject, Module, type DynamicModule, type FactoryProvider, type NestModule } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { WebhookClock, SystemWebhookClock } from '../../clock.js';
import { ConfigurationError } from '../../errors.js';
import { expressKeepsRawBodies, type ExpressApplication } from '../../raw-body/express-raw-body.js';
import { fastifyKeepsRawBodies, type FastifyApplication } from '../../raw-body/fastify-raw-body.js';
import { rawBodyMissing } from '../../raw-body/raw-body.js';
import { DEFAULT_INSTANCE } from '../../instance.js';
import { assertSupportedTypeorm } from '../../typeorm-version.js';
import { VERIFIER } from './verify-incoming-webhook.decorator.js';
import { IncomingWebhookInbox } from './incoming-webhook-inbox.js';
import {
  resolveIncomingWebhooksOptions,
  type ResolvedIncomingWebhooksOptions,
  type IncomingWebhooksModuleAsyncOptions,
  type IncomingWebhooksModuleOptions,
  type IncomingWebhooksOptions,
} from './incoming-webhooks-options.js';
import { MODULE, IncomingWebhookVerifier } from './incoming-webhook-verifier.js';

const RAW_OPTIONS = Symbol('nestjs-entity-webhooks:receiver-options-given');
const OPTIONS = Symbol('nestjs-entity-webhooks:receiver-options');

/**
 * Receives webhooks. The options of this module list the senders and their secrets. Import the module once, in the root module. Then
 * `@VerifyIncomingWebhook()` and `@IncomingWebhookParam()` work in every module.
 *
 * Create the application with `rawBody: true`, because signatures cover the exact bytes of a body.
 *
 * @example
 * \@Module({
 *   imports: [
 *     IncomingWebhooksModule.forRoot({
 *       sources: { billing: { secrets: process.env.BILLING_WEBHOOK_SECRET }, ci: { scheme: 'github', secrets } },
 *       inbox: {},
 *     }),
 *   ],
 * })
 * export class AppModule {}
 * const app = await NestFactory.create(AppModule, { rawBody: true });
 */
@Module({})
export class IncomingWebhooksModule implements NestModule {
  /** @internal */
  constructor(
    @Inject(OPTIONS) private readonly options: ResolvedIncomingWebhooksOptions,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  /**
   * Configures the module. An invalid option stops the bootstrap with `INVALID_OPTION` or `INVALID_SECRET`. The message of
   * the error names the option.
   */
  static forRoot(options: IncomingWebhooksModuleOptions): DynamicModule {
    const { dataSource, ...rest } = options;
    return incomingWebhooksModule(dataSource, { provide: RAW_OPTIONS, useFactory: () => rest });
  }

  /** Like {@link forRoot}, but with options from a factory. Pass `dataSource` beside the factory. */
  static forRootAsync(options: IncomingWebhooksModuleAsyncOptions): DynamicModule {
    const { dataSource, imports, inject, useFactory } = options;
    return incomingWebhooksModule(dataSource, { provide: RAW_OPTIONS, useFactory, inject: inject ?? [] }, imports);
  }

  /**
   * Runs when the body parsers of the application are registered but the routes are not yet registered.
   */
  async configure(): Promise<void> {
    const adapter = this.host.httpAdapter;
    if (!adapter || this.options.rawBody === 'provided') return;
    const type = adapter.getType();
    const keeps =
      type === 'express'
        ? await expressKeepsRawBodies(adapter.getInstance<ExpressApplication>())
        : type === 'fastify'
          ? await fastifyKeepsRawBodies(adapter.getInstance<FastifyApplication>())
          : null;
    const name = type === 'express' ? 'Express' : 'Fastify';
    if (keeps === false) throw rawBodyMissing(MODULE, `${name} keeps only the parsed bodies`);
  }
}

function incomingWebhooksModule(
  dataSource: string = DEFAULT_INSTANCE,
  options: FactoryProvider,
  imports: DynamicModule['imports'] = [],
): DynamicModule {
  return {
    module: IncomingWebhooksModule,
    global: true,
    imports,
    providers: [
      options,
      {
        provide: OPTIONS,
        useFactory: (given: IncomingWebhooksOptions) => resolveIncomingWebhooksOptions(given),
        inject: [RAW_OPTIONS],
      },
      { provide: WebhookClock, useClass: SystemWebhookClock },
      inboxProvider(dataSource),
      {
        provide: VERIFIER,
        useFactory: (
          resolved: ResolvedIncomingWebhooksOptions,
          clock: WebhookClock,
          inbox: IncomingWebhookInbox,
          emitter: EventEmitter2 | undefined,
        ) => new IncomingWebhookVerifier({ options: resolved, clock, inbox, emitter }),
        inject: [OPTIONS, WebhookClock, IncomingWebhookInbox, { token: EventEmitter2, optional: true }],
      },
    ],
    exports: [VERIFIER, IncomingWebhookInbox],
  };
}

function inboxProvider(dataSource: string): FactoryProvider {
  return {
    provide: IncomingWebhookInbox,
    useFactory: ({ inbox }: ResolvedIncomingWebhooksOptions, clock: WebhookClock, source: DataSource | undefined) => {
      if (!inbox) return new IncomingWebhookInbox(null);
      assertSupportedTypeorm();
      if (source) return new IncomingWebhookInbox({ dataSource: source, options: inbox, clock });
      throw new ConfigurationError(
        'INVALID_OPTION',
        `The option \`inbox\` of IncomingWebhooksModule needs the data source '${dataSource}', which does not exist. Import TypeOrmModule.forRoot(…), name another data source in forRoot({ dataSource }), or remove \`inbox\`.`,
      );
    },
    inject: [
      OPTIONS,
      WebhookClock,
      {
        token: dataSource === DEFAULT_INSTANCE ? getDataSourceToken() : getDataSourceToken(dataSource),
        optional: true,
      },
    ] as FactoryProvider['inject'],
  };
}
