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
import { WebhookClock, SystemWebhookClock } from './clock.js';
import { ConfigurationError } from './errors.js';
import { show } from './show.js';
import { RetrySchedule, StandardRetrySchedule } from './health/retry-schedule.js';
import type { PayloadFormat } from './events/payload-format.js';
import { resolveOptions, type ResolvedWebhooksOptions } from './options/resolve-options.js';
import type {
  WebhooksInstanceOptions,
  WebhooksOptions,
  WebhooksPart,
  WebhooksParts,
} from './options/webhooks-options.js';
import { boundedLookup } from './sending/lookup.js';
import { HttpTransport } from './sending/http-transport.js';
import { WebhookTransport } from './sending/transport.js';
import { createWebhooksHttpService, type WebhooksHttp } from './sending/webhooks-http-service.js';
import type { SignatureScheme } from './signing/signature-scheme.js';
import {
  getDeliveriesToken,
  getDispatcherToken,
  getListenersToken,
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

/** Wires one instance. @internal */
@Global()
@Module({})
export class WebhooksCoreModule {
  /** @param options gives the module's options, before defaults */
  static create(
    { dataSource: name = DEFAULT_INSTANCE, parts = {} }: WebhooksInstanceOptions,
    options: Omit<FactoryProvider, 'provide'>,
    imports: DynamicModule['imports'] = [],
  ): DynamicModule {
    const services: Provider[] = [
      service(getWebhooksToken(name), name, (runtime) => runtime.webhooks),
      service(getListenersToken(name), name, (runtime) => runtime.listeners),
      service(getDeliveriesToken(name), name, (runtime) => runtime.deliveries),
      service(getDispatcherToken(name), name, (runtime) => runtime.dispatcher),
    ];
    return {
      module: WebhooksCoreModule,
      imports: [...imports, ...(parts.imports ?? [])],
      providers: [
        {
          provide: optionsToken(name),
          // In one step: what is given holds the sealing keys as text, and the container keeps whatever is provided.
          useFactory: async (...args: unknown[]) =>
            resolveOptions((await options.useFactory(...args)) as WebhooksOptions),
          inject: options.inject ?? [],
        },
        { provide: registryToken(name), useFactory: () => new EntityRegistry() },
        { provide: WebhookClock, useClass: SystemWebhookClock },
        // One for creating listeners and for sending: it bounds what is asked at once.
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
              // Customers may share an origin. A request that waits for a connection uses up its time limit.
              connectionsPerOrigin: dispatcher.concurrency,
              // What the attempt has given up is not connected to any longer.
              connectTimeoutMs: Math.min(dispatcher.timeoutMs, CONNECT_TIMEOUT_MS),
              lookup,
            }),
          inject: [optionsToken(name), LOOKUP],
        },
        { provide: getWebhooksHttpToken(name), useFactory: ({ http }: WebhooksHttp) => http, inject: [HTTP] },
        ...partProviders(parts, name),
        runtimeProvider(name),
        ...services,
      ],
      exports: [registryToken(name), runtimeToken(name), getWebhooksHttpToken(name), ...services.map(tokenOfProvider)],
    };
  }
}

function partProviders(parts: WebhooksParts, name: string): Provider[] {
  const formats = (parts.payloadFormats ?? []).map((part) => partProvider('payloadFormats', part));
  const schemes = (parts.signatureSchemes ?? []).map((part) => partProvider('signatureSchemes', part));
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
    ...formats,
    ...schemes,
    all(FORMATS, formats),
    all(SCHEMES, schemes),
  ];
}

const SCHEDULE = Symbol('nestjs-entity-webhooks:schedule');

type PartProvider = Exclude<Provider, Type>;

/** @param token where nothing else names the part: its class, or a token of its own */
function partProvider<T>(
  key: keyof WebhooksParts,
  part: WebhooksPart<T>,
  token: InjectionToken = typeof part === 'function' ? part : Symbol(`nestjs-entity-webhooks:${key}`),
): PartProvider {
  if (typeof part === 'function') return { provide: token, useClass: part };
  if (WAYS.some((way) => Object.hasOwn(part ?? {}, way))) return { ...part, provide: token };
  throw new ConfigurationError(
    'INVALID_PART',
    `WebhooksModule option parts.${key} is ${show(part)}: give a class, or an object with one of ${WAYS.join(', ')}.`,
    { details: { key: `parts.${key}` } },
  );
}

const WAYS = ['useClass', 'useFactory', 'useExisting', 'useValue'];

function all(token: symbol, parts: readonly PartProvider[]): Provider {
  return {
    provide: token,
    useFactory: (...instances: unknown[]) => instances,
    inject: parts.map(({ provide }) => provide),
  };
}

function runtimeProvider(name: string): Provider {
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
      payloadFormats: PayloadFormat[],
      signatureSchemes: SignatureScheme[],
      lookup: LookupFunction,
      modules: ModulesContainer,
    ) =>
      WebhooksRuntime.create({
        name,
        options,
        dataSource,
        registry,
        emitter,
        clock,
        transport,
        retrySchedule,
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
