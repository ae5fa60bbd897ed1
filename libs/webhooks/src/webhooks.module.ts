import { Module, type DynamicModule } from '@nestjs/common';
import type { EntityRegistry } from './entities/entity-registry.js';
import { registeredEntity, type WebhookFeature } from './entities/webhook-feature.js';
import type { EntityClass, WebhookOptions } from './entities/webhook.decorator.js';
import { ConfigurationError } from './errors.js';
import type { WebhooksModuleAsyncOptions, WebhooksModuleOptions } from './options/webhooks-options.js';
import { DEFAULT_INSTANCE, registryToken } from './instance.js';
import { WebhooksCoreModule } from './webhooks-core.module.js';

/**
 * Checks that the options of a feature name properties of the entity of the feature. If an option names another property,
 * the compiler shows this type.
 */
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
   * One instance of the library for one data source. Import it once for each data source, in the root module. Every option has a default.
   *
   * An invalid option stops the bootstrap with a `ConfigurationError` that names the option.
   */
  static forRoot(options: WebhooksModuleOptions = {}): DynamicModule {
    return { module: WebhooksModule, imports: [WebhooksCoreModule.forRoot(options, 'application')] };
  }

  /**
   * Like {@link forRoot}, but a factory returns the options. Nest needs `dataSource` and `parts` before it calls the factory. So
   * pass these two options directly.
   */
  static forRootAsync(options: WebhooksModuleAsyncOptions): DynamicModule {
    return { module: WebhooksModule, imports: [WebhooksCoreModule.forRootAsync(options, 'application')] };
  }

  /**
   * Registers entities whose changes become events.
   *
   * @param entities classes or schemas with `@Webhook()`, or `{ entity, ...options }`
   * @param dataSource name of the data source, as in `forRoot({ dataSource })` @defaultValue the default data source
   * @throws ConfigurationError `INVALID_OPTION` if an element is no entity. Other mistakes stop the bootstrap later
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

/** A circular import gives `undefined`. */
function assertFeature(feature: unknown, index: number): void {
  const entity = typeof feature === 'object' && feature !== null && 'entity' in feature ? feature.entity : feature;
  if (typeof entity === 'function' || (typeof entity === 'object' && entity !== null)) return;
  throw new ConfigurationError(
    'INVALID_OPTION',
    `Invalid entity ${String(entity)} at index ${index} of WebhooksModule.forFeature([...]). Allowed: a class or an EntitySchema. If the entity is undefined, look for a circular import.`,
  );
}

function withoutInstance(dataSource: string): ConfigurationError {
  const [options, name] =
    dataSource === DEFAULT_INSTANCE ? ['', ''] : [`{ dataSource: '${dataSource}' }`, `'${dataSource}'`];
  return new ConfigurationError(
    'WEBHOOKS_MODULE_MISSING',
    `WebhooksModule.forFeature([...]${name && `, ${name}`}) needs an instance for its data source, but there is none. Import WebhooksModule.forRoot(${options}) in your root module.`,
  );
}
