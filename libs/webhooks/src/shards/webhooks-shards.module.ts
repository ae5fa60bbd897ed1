import { Global, Module, type DynamicModule, type FactoryProvider, type ModuleMetadata } from '@nestjs/common';
import { ConfigurationError } from '../errors.js';
import { DEFAULT_INSTANCE, runtimeToken } from '../instance.js';
import { isText } from '../module-options.js';
import { required, resolveTable, type OptionTable } from '../option-table.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { WebhooksShards, type ShardOf } from './webhooks-shards.js';

/** Options of `WebhooksShardsModule.forRoot()`. */
export interface WebhooksShardsOptions {
  /** The names of the data sources, one for each shard. Each needs its own `WebhooksModule.forRoot({ dataSource })`. */
  dataSources: readonly string[];
  /**
   * Returns the name of the data source of an owner, or `null` if no shard has this owner. It may return a promise. An owner must always
   * get the same answer, in every process.
   */
  shardOf: ShardOf;
}

/** Options of `WebhooksShardsModule.forRootAsync()`. */
export interface WebhooksShardsAsyncOptions
  extends Pick<WebhooksShardsOptions, 'dataSources'>, Pick<ModuleMetadata, 'imports'> {
  /** The providers that `useFactory` gets. */
  inject?: FactoryProvider['inject'];
  /** Returns {@link WebhooksShardsOptions.shardOf}. */
  useFactory: (...dependencies: never[]) => ShardOf | Promise<ShardOf>;
}

/** Every option of `WebhooksShardsModule.forRoot()`. */
export const SHARDS_OPTIONS = {
  dataSources: required<readonly string[]>({
    allowed: "a list of different names, such as `['eu', 'us']`",
    isAllowed: (given) =>
      Array.isArray(given) && given.length > 0 && given.every(isText) && new Set(given).size === given.length,
    read: (given) => Object.freeze([...given]),
  }),
  shardOf: required<ShardOf>({
    allowed: 'a function of the owner',
    isAllowed: (given) => typeof given === 'function',
  }),
} satisfies OptionTable<WebhooksShardsOptions>;

/**
 * Divides the owners among several data sources. It provides {@link WebhooksShards}, and `WebhooksApiModule.forRoot({ shards: true })`
 * serves all shards with one API. See `docs/scaling.md`.
 *
 * @example
 * imports: [
 *   WebhooksModule.forRoot({ dataSource: 'eu' }),
 *   WebhooksModule.forRoot({ dataSource: 'us' }),
 *   WebhooksShardsModule.forRoot({ dataSources: ['eu', 'us'], shardOf: (owner) => (owner.startsWith('eu-') ? 'eu' : 'us') }),
 * ]
 */
@Global()
@Module({})
export class WebhooksShardsModule {
  /** @throws ConfigurationError `INVALID_OPTION` immediately; `WEBHOOKS_MODULE_MISSING` when the application starts */
  static forRoot({ dataSources, shardOf, ...others }: WebhooksShardsOptions): DynamicModule {
    const options = resolved({ dataSources, shardOf, ...others });
    return WebhooksShardsModule.forRootAsync({ dataSources: options.dataSources, useFactory: () => options.shardOf });
  }

  /**
   * Like {@link forRoot}, but a factory returns `shardOf`, for example from a service that knows the shards of the owners.
   *
   * @throws ConfigurationError `INVALID_OPTION` immediately for `dataSources`; when the application starts for `shardOf`
   */
  static forRootAsync({
    dataSources,
    imports = [],
    inject = [],
    useFactory,
  }: WebhooksShardsAsyncOptions): DynamicModule {
    const SHARD_OF = Symbol('nestjs-entity-webhooks:shard-of');
    const names = resolved({ dataSources, shardOf: () => null }).dataSources;
    return {
      module: WebhooksShardsModule,
      imports,
      providers: [
        { provide: SHARD_OF, useFactory, inject },
        {
          provide: WebhooksShards,
          useFactory: (given: ShardOf, ...runtimes: (WebhooksRuntime | undefined)[]) => {
            const { shardOf } = resolved({ dataSources: names, shardOf: given });
            return new WebhooksShards(new Map(names.map((name, n) => [name, runtimeOf(name, runtimes[n])])), shardOf);
          },
          inject: [SHARD_OF, ...names.map((name) => ({ token: runtimeToken(name), optional: true }))],
        },
      ],
      exports: [WebhooksShards],
    };
  }
}

function resolved(options: WebhooksShardsOptions) {
  return resolveTable(SHARDS_OPTIONS, options, { name: 'WebhooksShardsModule' });
}

/** @throws ConfigurationError `WEBHOOKS_MODULE_MISSING` */
function runtimeOf(name: string, runtime: WebhooksRuntime | undefined): WebhooksRuntime {
  if (runtime) return runtime;
  const given = name === DEFAULT_INSTANCE ? '' : `{ dataSource: '${name}' }`;
  throw new ConfigurationError(
    'WEBHOOKS_MODULE_MISSING',
    `WebhooksShardsModule has the shard '${name}', but no WebhooksModule is imported for it. Import WebhooksModule.forRoot(${given}) in your root module.`,
  );
}
