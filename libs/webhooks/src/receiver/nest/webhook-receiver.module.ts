import { Inject, Module, type DynamicModule, type FactoryProvider, type NestModule } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { Clock, SystemClock } from '../../clock.js';
import { ConfigurationError } from '../../errors.js';
import { expressKeepsRawBodies, type ExpressApplication } from '../../raw-body/express-raw-body.js';
import { fastifyKeepsRawBodies, type FastifyApplication } from '../../raw-body/fastify-raw-body.js';
import { rawBodyMissing } from '../../raw-body/raw-body.js';
import { DEFAULT_INSTANCE } from '../../instance.js';
import { VERIFIER } from './verify-webhook.decorator.js';
import { WebhookInbox } from './webhook-inbox.js';
import {
  resolveReceiverOptions,
  type ResolvedReceiverOptions,
  type WebhookReceiverModuleAsyncOptions,
  type WebhookReceiverModuleOptions,
  type WebhookReceiverOptions,
} from './webhook-receiver-options.js';
import { MODULE, WebhookVerifier } from './webhook-verifier.js';

const RAW_OPTIONS = Symbol('nestjs-entity-webhooks:receiver-options-given');
const OPTIONS = Symbol('nestjs-entity-webhooks:receiver-options');

/**
 * Receives webhooks: names who sends them, and what they sign with. Imported once, in the root module; then `@VerifyWebhook()`
 * and `@IncomingWebhook()` work everywhere.
 *
 * Needs an application made with `rawBody: true`, as signatures are over the exact bytes.
 *
 * @example
 * \@Module({
 *   imports: [
 *     WebhookReceiverModule.forRoot({
 *       sources: { billing: { secrets: process.env.BILLING_WEBHOOK_SECRET }, ci: { scheme: 'github', secrets } },
 *       inbox: {},
 *     }),
 *   ],
 * })
 * export class AppModule {}
 * const app = await NestFactory.create(AppModule, { rawBody: true });
 */
@Module({})
export class WebhookReceiverModule implements NestModule {
  /** @internal */
  constructor(
    @Inject(OPTIONS) private readonly options: ResolvedReceiverOptions,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  /** A wrong option stops the bootstrap with `INVALID_OPTION` or `INVALID_SECRET`, and a sentence that names it. */
  static forRoot(options: WebhookReceiverModuleOptions): DynamicModule {
    const { dataSource, ...rest } = options;
    return receiverModule(dataSource, { provide: RAW_OPTIONS, useFactory: () => rest });
  }

  /** As {@link forRoot}, with options from a factory; `dataSource` is known before it runs. */
  static forRootAsync(options: WebhookReceiverModuleAsyncOptions): DynamicModule {
    const { dataSource, imports, inject, useFactory } = options;
    return receiverModule(dataSource, { provide: RAW_OPTIONS, useFactory, inject: inject ?? [] }, imports);
  }

  /**
   * The application's parsers stand by now, and its routes do not.
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
    if (keeps === false) throw rawBodyMissing(MODULE, `${name} keeps only what it parsed of them`);
  }
}

function receiverModule(
  dataSource: string = DEFAULT_INSTANCE,
  options: FactoryProvider,
  imports: DynamicModule['imports'] = [],
): DynamicModule {
  return {
    module: WebhookReceiverModule,
    global: true,
    imports,
    providers: [
      options,
      {
        provide: OPTIONS,
        useFactory: (given: WebhookReceiverOptions) => resolveReceiverOptions(given),
        inject: [RAW_OPTIONS],
      },
      { provide: Clock, useClass: SystemClock },
      inboxProvider(dataSource),
      {
        provide: VERIFIER,
        useFactory: (
          resolved: ResolvedReceiverOptions,
          clock: Clock,
          inbox: WebhookInbox,
          emitter: EventEmitter2 | undefined,
        ) => new WebhookVerifier({ options: resolved, clock, inbox, emitter }),
        inject: [OPTIONS, Clock, WebhookInbox, { token: EventEmitter2, optional: true }],
      },
    ],
    exports: [VERIFIER, WebhookInbox],
  };
}

function inboxProvider(dataSource: string): FactoryProvider {
  return {
    provide: WebhookInbox,
    useFactory: ({ inbox }: ResolvedReceiverOptions, clock: Clock, source: DataSource | undefined) => {
      if (!inbox) return new WebhookInbox(null);
      if (source) return new WebhookInbox({ dataSource: source, options: inbox, clock });
      throw new ConfigurationError(
        'INVALID_OPTION',
        `The option inbox of WebhookReceiverModule needs the data source '${dataSource}', which is not there: import TypeOrmModule.forRoot(…), name another one in forRoot({ dataSource }), or leave the inbox out.`,
      );
    },
    inject: [
      OPTIONS,
      Clock,
      {
        token: dataSource === DEFAULT_INSTANCE ? getDataSourceToken() : getDataSourceToken(dataSource),
        optional: true,
      },
    ] as FactoryProvider['inject'],
  };
}
