import type { LookupFunction } from 'node:net';
import {
  Global,
  Module,
  type DynamicModule,
  type FactoryProvider,
  type InjectionToken,
  type Provider,
  type Type,
} from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { EntityRegistry } from './entities/entity-registry.js';
import type { WebhookArchive } from './archive/webhook-archive.js';
import { WebhookClock, SystemWebhookClock } from './clock.js';
import { ConfigurationError } from './errors.js';
import { show } from './show.js';
import { RetrySchedule, StandardRetrySchedule } from './health/retry-schedule.js';
import type { PayloadFormat } from './events/payload-format.js';
import {
  resolveInstanceOptions,
  resolveOptions,
  type ResolvedInstanceOptions,
  type ResolvedWebhooksOptions,
} from './options/resolve-options.js';
import type {
  WebhooksModuleAsyncOptions,
  WebhooksModuleOptions,
  WebhooksPart,
  WebhooksParts,
} from './options/webhooks-options.js';
import type { InstanceRole } from './runtime-parts.js';
import { boundedLookup } from './sending/lookup.js';
import { HttpTransport } from './sending/http-transport.js';
import { WebhookTransport } from './sending/transport.js';
import { createWebhooksHttpService, type WebhooksHttp } from './sending/webhooks-http-service.js';
import type { SignatureScheme } from './signing/signature-scheme.js';
import {
  getDeliveriesToken,
  getDispatcherToken,
  getEventsToken,
  getListenersToken,
  getTasksToken,
  getSystemToken,
  getWebhooksHttpToken,
  getWebhooksToken,
} from './tokens.js';
import { DEFAULT_INSTANCE, optionsToken, registryToken, runtimeToken } from './instance.js';
import { WebhooksRuntime } from './webhooks-runtime.js';

const HTTP = Symbol('nestjs-entity-webhooks:http');
const LOOKUP = Symbol('nestjs-entity-webhooks:lookup');
const CONNECT_TIMEOUT_MS = 10_000;
const FORMATS = Symbol('nestjs-entity-webhooks:formats');
const SCHEMES = Symbol('nestjs-entity-webhooks:schemes');

/** Provides one instance of the library: its options, its replaceable parts and its services. @internal */
@Global()
@Module({})
export class WebhooksCoreModule {
  static forRoot({ dataSource, parts, ...options }: WebhooksModuleOptions, role: InstanceRole): DynamicModule {
    return WebhooksCoreModule.forRootAsync({ dataSource, parts, useFactory: () => options }, role);
  }

  static forRootAsync(options: WebhooksModuleAsyncOptions, role: InstanceRole): DynamicModule {
    const { imports = [], inject = [], useFactory } = options;
    const { dataSource: name, parts } = resolveInstanceOptions(options);
    const services: Provider[] = [
      service(getWebhooksToken(name), name, (runtime) => runtime.webhooks),
      service(getListenersToken(name), name, (runtime) => runtime.listeners),
      service(getDeliveriesToken(name), name, (runtime) => runtime.deliveries),
      service(getEventsToken(name), name, (runtime) => runtime.events),
      service(getTasksToken(name), name, (runtime) => runtime.tasks),
      service(getSystemToken(name), name, (runtime) => runtime.system),
      service(getDispatcherToken(name), name, (runtime) => runtime.dispatcher),
    ];
    return {
      module: WebhooksCoreModule,
      imports: [...imports, ...parts.imports],
      providers: [
        {
          provide: optionsToken(name),
          // The given options are not a separate provider. These options contain the sealing keys as text, and the container would
          // keep them in memory.
          useFactory: async (...args: unknown[]) => resolveOptions(await useFactory(...args)),
          inject,
        },
        { provide: registryToken(name), useFactory: () => new EntityRegistry() },
        { provide: WebhookClock, useClass: SystemWebhookClock },
        // Listener checks and deliveries share this lookup, because it limits the number of concurrent queries.
        {
          provide: LOOKUP,
          useFactory: ({ security }: ResolvedWebhooksOptions) => boundedLookup(security.lookup),
          inject: [optionsToken(name)],
        },
        {
          provide: HTTP,
          useFactory: ({ security, dispatcher }: ResolvedWebhooksOptions, lookup: LookupFunction) =>
            createWebhooksHttpService({
              security,
              // Listeners of several customers may have the same origin. If their requests waited for a connection, the time limit
              // of a request would include this wait.
              connectionsPerOrigin: dispatcher.concurrency,
              // An attempt that timed out must not continue to connect.
              connectTimeoutMs: Math.min(dispatcher.timeoutMs, CONNECT_TIMEOUT_MS),
              lookup,
            }),
          inject: [optionsToken(name), LOOKUP],
        },
        { provide: getWebhooksHttpToken(name), useFactory: ({ http }: WebhooksHttp) => http, inject: [HTTP] },
        ...partProviders(parts, name),
        runtimeProvider(name, role),
        ...services,
      ],
      exports: [registryToken(name), runtimeToken(name), getWebhooksHttpToken(name), ...services.map(tokenOfProvider)],
    };
  }
}

function partProviders(parts: ResolvedInstanceOptions['parts'], name: string): Provider[] {
  const formats = parts.payloadFormats.map((part) => partProvider('payloadFormats', part));
  const schemes = parts.signatureSchemes.map((part) => partProvider('signatureSchemes', part));
  return [
    parts.transport
      ? partProvider('transport', parts.transport, WebhookTransport)
      : {
          provide: WebhookTransport,
          useFactory: (http: WebhooksHttp, clock: WebhookClock, { dispatcher }: ResolvedWebhooksOptions) =>
            new HttpTransport(http, { clock, retryAfterCapMs: dispatcher.retryAfterCapMs }),
          inject: [HTTP, WebhookClock, optionsToken(name)],
        },
    { provide: RetrySchedule, useFactory: (schedule: RetrySchedule) => schedule, inject: [SCHEDULE] },
    parts.retrySchedule
      ? partProvider('retrySchedule', parts.retrySchedule, SCHEDULE)
      : { provide: SCHEDULE, useFactory: () => new StandardRetrySchedule() },
    parts.archive ? partProvider('archive', parts.archive, ARCHIVE) : { provide: ARCHIVE, useValue: null },
    ...formats,
    ...schemes,
    arrayProvider(FORMATS, formats),
    arrayProvider(SCHEMES, schemes),
  ];
}

const SCHEDULE = Symbol('nestjs-entity-webhooks:schedule');
const ARCHIVE = Symbol('nestjs-entity-webhooks:archive');

type PartProvider = Exclude<Provider, Type>;

/** @param token by default, the class of the part or a new token */
function partProvider<T>(
  key: keyof WebhooksParts,
  part: WebhooksPart<T>,
  token: InjectionToken = typeof part === 'function' ? part : Symbol(`nestjs-entity-webhooks:${key}`),
): PartProvider {
  if (typeof part === 'function') return { provide: token, useClass: part };
  if (PROVIDER_KEYS.some((key) => Object.hasOwn(part ?? {}, key))) return { ...part, provide: token };
  throw new ConfigurationError(
    'INVALID_PART',
    `Invalid value ${show(part)} for \`parts.${key}\`. Allowed: a class, or an object with one of ${PROVIDER_KEYS.join(', ')}.`,
    { details: { key: `parts.${key}` } },
  );
}

const PROVIDER_KEYS = ['useClass', 'useFactory', 'useExisting', 'useValue'];

/** Provides the instances of several parts as one array. */
function arrayProvider(token: symbol, parts: readonly PartProvider[]): Provider {
  return {
    provide: token,
    useFactory: (...instances: unknown[]) => instances,
    inject: parts.map(({ provide }) => provide),
  };
}

function runtimeProvider(name: string, role: InstanceRole): Provider {
  return {
    provide: runtimeToken(name),
    useFactory: (
      options: ResolvedWebhooksOptions,
      dataSource: DataSource,
      registry: EntityRegistry,
      emitter: EventEmitter2 | undefined,
      clock: WebhookClock,
      transport: WebhookTransport,
      retrySchedule: RetrySchedule,
      archive: WebhookArchive | null,
      payloadFormats: PayloadFormat[],
      signatureSchemes: SignatureScheme[],
      lookup: LookupFunction,
      modules: ModulesContainer,
    ) =>
      WebhooksRuntime.create({
        name,
        role,
        options,
        dataSource,
        registry,
        emitter,
        clock,
        transport,
        retrySchedule,
        archive,
        payloadFormats,
        signatureSchemes,
        lookup,
        modules,
      }),
    inject: [
      optionsToken(name),
      name === DEFAULT_INSTANCE ? getDataSourceToken() : getDataSourceToken(name),
      registryToken(name),
      { token: EventEmitter2, optional: true },
      WebhookClock,
      WebhookTransport,
      RetrySchedule,
      ARCHIVE,
      FORMATS,
      SCHEMES,
      LOOKUP,
      ModulesContainer,
    ] as FactoryProvider['inject'],
  };
}

function service(
  token: ReturnType<typeof getListenersToken>,
  name: string,
  pick: (runtime: WebhooksRuntime) => unknown,
): Provider {
  return { provide: token, useFactory: pick, inject: [runtimeToken(name)] };
}

function tokenOfProvider(provider: Provider) {
  return (provider as FactoryProvider).provide;
}
