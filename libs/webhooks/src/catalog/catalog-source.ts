import type { INestApplicationContext, InjectionToken } from '@nestjs/common';
import { EntityRegistry } from '../entities/entity-registry.js';
import { loadExposure } from '../entities/exposed-properties.js';
import { registeredEntity, type WebhookFeature } from '../entities/webhook-feature.js';
import type { CaptureMode } from '../entities/webhook.decorator.js';
import { ConfigurationError } from '../errors.js';
import { DEFAULT_INSTANCE, optionsToken, registryToken } from '../instance.js';
import { publishedTypesByName } from '../options/published-types.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { PublishedType } from '../options/webhooks-options.js';
import { withMetadata, type DataSource } from '../typeorm-compat.js';
import { assertSupportedTypeorm } from '../typeorm-version.js';
import { catalogTypes } from './catalog-type.js';
import { OPERATIONAL_TYPES } from './operational-types.js';
import { WebhookCatalog } from './webhook-catalog.js';

/** Options of the webhooks module that affect the catalogue and that a data source does not contain. */
export interface WebhookCatalogOptions {
  /** As in `WebhooksModule.forRoot({ publishedTypes })`. @defaultValue none */
  publishedTypes?: readonly (string | PublishedType)[];
  /** As in `WebhooksModule.forRoot({ operationalEvents })`. @defaultValue false */
  operationalEvents?: boolean;
  /**
   * Entities with options in `WebhooksModule.forFeature([...])`, in the same form as there. Entities with `@Webhook()` are found without
   * this list.
   *
   * @defaultValue none
   */
  entities?: readonly WebhookFeature[];
  /**
   * As in `WebhooksModule.forRoot({ capture })`. It changes no schema, but each capture mode rejects different entities. @defaultValue
   * 'orm'
   */
  capture?: CaptureMode;
}

/** The options that declare types. */
type TypeOptions = Pick<ResolvedWebhooksOptions, 'publishedTypes' | 'operationalEvents'>;

/**
 * The catalogue of a Nest application that imports `WebhooksModule`. It may be made before or after `app.init()`.
 *
 * @param instance name of the data source, as in `forRoot({ dataSource })`
 * @throws ConfigurationError `WEBHOOKS_MODULE_MISSING`; and for wrong options of an entity
 * @example
 * const catalog = await webhookCatalog(app);
 */
export function webhookCatalog(app: INestApplicationContext, instance?: string): Promise<WebhookCatalog>;
/**
 * The catalogue of the entities of a data source. The data source need not be connected, so CI needs no database.
 *
 * @throws ConfigurationError for wrong options of an entity or of `publishedTypes`; and what TypeORM throws for wrong entities
 * @example
 * const catalog = await webhookCatalog(new DataSource({ type: 'postgres', entities: [Order] }));
 */
export function webhookCatalog(dataSource: DataSource, options?: WebhookCatalogOptions): Promise<WebhookCatalog>;
export async function webhookCatalog(
  source: INestApplicationContext | DataSource,
  options?: string | WebhookCatalogOptions,
): Promise<WebhookCatalog> {
  assertSupportedTypeorm();
  await loadExposure();
  return isDataSource(source)
    ? ofDataSource(source, options as WebhookCatalogOptions | undefined)
    : ofApplication(source, options as string | undefined);
}

function ofApplication(app: INestApplicationContext, instance: string = DEFAULT_INSTANCE): WebhookCatalog {
  const registry = provided(app, registryToken(instance), instance) as EntityRegistry;
  const options = provided(app, optionsToken(instance), instance) as TypeOptions;
  return catalogOf(registry, options);
}

function provided(app: INestApplicationContext, token: InjectionToken, instance: string): unknown {
  try {
    return app.get(token, { strict: false });
  } catch (cause) {
    const options = instance === DEFAULT_INSTANCE ? '' : `{ dataSource: '${instance}' }`;
    throw new ConfigurationError(
      'WEBHOOKS_MODULE_MISSING',
      `webhookCatalog() found no WebhooksModule for the data source '${instance}'. Import WebhooksModule.forRoot(${options}) in your root module.`,
      { cause },
    );
  }
}

async function ofDataSource(
  given: DataSource,
  { publishedTypes = [], operationalEvents = false, entities = [], capture = 'orm' }: WebhookCatalogOptions = {},
): Promise<WebhookCatalog> {
  const dataSource = await withMetadata(given);
  const registry = new EntityRegistry();
  registry.register(entities.map(registeredEntity));
  registry.registerDecorated(dataSource);
  registry.serve(dataSource, DEFAULT_INSTANCE, capture);
  const place = { module: { name: 'webhookCatalog()' }, key: 'publishedTypes' };
  return catalogOf(registry, { publishedTypes: publishedTypesByName(publishedTypes, place), operationalEvents });
}

/** The catalogue of an instance. @internal */
export function catalogOf(
  registry: EntityRegistry,
  { publishedTypes, operationalEvents }: TypeOptions,
): WebhookCatalog {
  const published = [...publishedTypes.values(), ...(operationalEvents ? OPERATIONAL_TYPES : [])];
  return new WebhookCatalog(catalogTypes(registry.all(), published));
}

/** Checks members instead of the class, because the application may have another copy of TypeORM. */
function isDataSource(source: INestApplicationContext | DataSource): source is DataSource {
  const { createQueryRunner, entityMetadatas } = source as Partial<DataSource>;
  return typeof createQueryRunner === 'function' && Array.isArray(entityMetadatas);
}
