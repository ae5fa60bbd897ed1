import { Module, type DynamicModule } from '@nestjs/common';
import type { EntityRegistry } from './entities/entity-registry.js';
import { registeredEntity, type WebhookFeature } from './entities/webhook-feature.js';
import type { EntityClass, WebhookOptions } from './entities/webhook.decorator.js';
import { ConfigurationError } from './errors.js';
import type { WebhooksModuleAsyncOptions, WebhooksModuleOptions } from './options/webhooks-options.js';
import { DEFAULT_INSTANCE, registryToken } from './instance.js';
import { WebhooksCoreModule } from './webhooks-core.module.js';

/** A feature whose options name what its own entity has; otherwise what the compiler shows. */
type Fitting<F> = F extends { entity: infer C extends EntityClass }
  ? { entity: C } & WebhookOptions<InstanceType<C>>
  : F;

/**
 * Turns committed changes of TypeORM entities into signed webhooks.
 *
 * @example
 * \@Module({
 *   imports: [
 *     TypeOrmModule.forRoot({ ...database, autoLoadEntities: true }),
 *     EventEmitterModule.forRoot(),
 *     WebhooksModule.forRoot(),
 *     WebhooksModule.forFeature([Order, { entity: User, fields: ['id', 'username'], owner: 'id' }]),
 *   ],
 * })
 * export class AppModule {}
 */
@Module({})
export class WebhooksModule {
  /**
   * One instance for one data source; every option has a default. Imported once, in the root module.
   *
   * A wrong option stops the bootstrap with a `ConfigurationError` that names it.
   */
  static forRoot(options: WebhooksModuleOptions = {}): DynamicModule {
    const { dataSource, parts, ...rest } = options;
    return {
      module: WebhooksModule,
      imports: [WebhooksCoreModule.create(instance(dataSource, parts), { useFactory: () => rest })],
    };
  }

  /** As {@link forRoot}, with options from a factory; `dataSource` and `parts` are known before it runs. */
  static forRootAsync(options: WebhooksModuleAsyncOptions): DynamicModule {
    const { dataSource, parts, imports, inject, useFactory } = options;
    return {
      module: WebhooksModule,
      imports: [
        WebhooksCoreModule.create(instance(dataSource, parts), { useFactory, inject: inject ?? [] }, imports ?? []),
      ],
    };
  }

  /**
   * Names entities whose changes become events.
   *
   * @param dataSource that of the instance, as in `forRoot({ dataSource })` @defaultValue the default one
   * @throws ConfigurationError `INVALID_OPTION` for what is no entity; the others stop the bootstrap
   * @example WebhooksModule.forFeature([Order, { entity: User, fields: ['id', 'username'], owner: 'id' }])
   */
  static forFeature<const F extends readonly WebhookFeature[]>(
    entities: F & { [K in keyof F]: Fitting<F[K]> },
    dataSource: string = DEFAULT_INSTANCE,
  ): DynamicModule {
    const registered = entities.map((feature: WebhookFeature, index) => {
      assertFeature(feature, index);
      return registeredEntity(feature);
    });
    return {
      module: WebhooksModule,
      providers: [
        {
          provide: Symbol('nestjs-entity-webhooks:feature'),
          useFactory: (registry: EntityRegistry | undefined) => {
            if (!registry) throw withoutInstance(dataSource);
            registry.register(registered);
          },
          inject: [{ token: registryToken(dataSource), optional: true }],
        },
      ],
    };
  }
}

function instance(dataSource: WebhooksModuleOptions['dataSource'], parts: WebhooksModuleOptions['parts']) {
  return { ...(dataSource === undefined ? {} : { dataSource }), ...(parts === undefined ? {} : { parts }) };
}

/** `undefined` is what an import that goes in a circle gives. */
function assertFeature(feature: unknown, index: number): void {
  const entity = typeof feature === 'object' && feature !== null && 'entity' in feature ? feature.entity : feature;
  if (typeof entity === 'function' || (typeof entity === 'object' && entity !== null)) return;
  throw new ConfigurationError(
    'INVALID_OPTION',
    `WebhooksModule.forFeature([...]) has ${String(entity)} for an entity at index ${index}: give a class or an EntitySchema. An import that goes in a circle is undefined when the module is made.`,
  );
}

function withoutInstance(dataSource: string): ConfigurationError {
  const [options, name] =
    dataSource === DEFAULT_INSTANCE ? ['', ''] : [`{ dataSource: '${dataSource}' }`, `'${dataSource}'`];
  return new ConfigurationError(
    'WEBHOOKS_MODULE_MISSING',
    `WebhooksModule.forFeature([...]${name && `, ${name}`}) belongs to an instance that is not there. Import WebhooksModule.forRoot(${options}) in your root module.`,
  );
}
