import {
  Module,
  type DynamicModule,
  type INestApplication,
  type NestApplicationOptions,
  type Provider,
  type Type,
} from '@nestjs/common';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource, type DataSourceOptions } from 'typeorm';
import {
  WebhookClock,
  DeliveryService,
  DispatcherService,
  ListenerService,
  WebhooksModule,
  WebhooksService,
  type WebhookFeature,
  type WebhooksModuleOptions,
} from 'nestjs-entity-webhooks';
import { FakeClock, TestReceiver } from 'nestjs-entity-webhooks/testing';
import { arePartitioned, createPartitioned } from './partitioned.js';
import { reusedDatabase } from './reused-databases.js';

/** Waits longer than a `TestReceiver` does by default, because other processes may use the processors. A request that came does not wait. */
class PatientReceiver extends TestReceiver {
  override waitFor(count: number, options: { timeoutMs?: number } = {}): ReturnType<TestReceiver['waitFor']> {
    return super.waitFor(count, { timeoutMs: WAIT_MS, ...options });
  }

  override waitForRequest(
    predicate: Parameters<TestReceiver['waitForRequest']>[0],
    options: { timeoutMs?: number } = {},
  ): ReturnType<TestReceiver['waitForRequest']> {
    return super.waitForRequest(predicate, { timeoutMs: WAIT_MS, ...options });
  }
}

const WAIT_MS = 20_000;

/** Allows the addresses of receivers on this machine. */
export const LOOPBACK = { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true };

export interface TestApp {
  app: INestApplication;
  dataSource: DataSource;
  listeners: ListenerService;
  deliveries: DeliveryService;
  dispatcher: DispatcherService;
  webhooks: WebhooksService;
  clock: FakeClock;
  receiver: TestReceiver;
  close(): Promise<void>;
}

export interface TestAppOptions {
  database: DataSourceOptions;
  entities: readonly (WebhookFeature | Type)[];
  /** Entities of the data source that have no webhooks. */
  others?: readonly Type[];
  webhooks?: WebhooksModuleOptions;
  imports?: (DynamicModule | Type)[];
  controllers?: Type[];
  application?: NestApplicationOptions;
  dataSourceFactory?: (options: DataSourceOptions) => Promise<DataSource>;
  providers?: Provider[];
  /** Replaces the clock that stands still. */
  ownClock?: WebhookClock;
}

/**
 * A whole application on a real database, with a receiver. The dispatcher does not start: `dispatcher.drain()` sends everything that is
 * pending. The clock moves only when a test moves it.
 */
export async function startApp(options: TestAppOptions): Promise<TestApp> {
  const application = applicationOf(options);
  const reused = reusedDatabase(options.database);
  const synchronize = !(await reused?.has(application));
  const { tablePrefix, tableSchema } = options.webhooks ?? {};
  if (arePartitioned && options.database.type === 'postgres' && synchronize && options.database.synchronize !== false) {
    await createPartitioned(options.database, { ...(tablePrefix === undefined ? {} : { tablePrefix }), tableSchema });
  }
  const receiver = new PatientReceiver();
  await receiver.start();
  const clock = new FakeClock(Date.now());
  const features = [...options.entities] as WebhookFeature[];
  const classes = features.map((feature) => ('entity' in feature ? feature.entity : feature));
  @Module({
    imports: [
      TypeOrmModule.forRootAsync({
        useFactory: () => ({
          synchronize,
          retryAttempts: 0,
          ...options.database,
          entities: [...classes, ...(options.others ?? [])] as never,
        }),
        ...(options.dataSourceFactory && {
          dataSourceFactory: options.dataSourceFactory as (options?: DataSourceOptions) => Promise<DataSource>,
        }),
      }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRoot({
        security: LOOPBACK,
        // Tests make attempts fail on purpose.
        log: { attempts: 'none' },
        ...options.webhooks,
        dispatcher: { autoStart: false, ...options.webhooks?.dispatcher },
      }),
      WebhooksModule.forFeature(features as never),
      ...(options.imports ?? []),
    ],
    controllers: options.controllers ?? [],
    providers: options.providers ?? [],
  })
  class AppModule {}
  let app: INestApplication;
  try {
    const module = await Test.createTestingModule({ imports: [AppModule] })
      .overrideProvider(WebhookClock)
      .useValue(options.ownClock ?? clock)
      .compile();
    app = module.createNestApplication({ logger: ['error', 'warn'], ...options.application });
    await app.init();
    await reused?.made(application, app.get(DataSource));
  } catch (error) {
    await receiver.stop();
    throw error;
  }
  return {
    app,
    dataSource: app.get(DataSource),
    listeners: app.get(ListenerService),
    deliveries: app.get(DeliveryService),
    dispatcher: app.get(DispatcherService),
    webhooks: app.get(WebhooksService),
    clock,
    receiver,
    async close() {
      await app.close();
      await receiver.stop();
    },
  };
}

/** A text that is equal for applications that make the same tables and triggers. */
function applicationOf({ database, entities, others, webhooks = {}, imports }: TestAppOptions): string {
  const { tablePrefix, tableSchema, capture } = webhooks;
  const { entityPrefix, namingStrategy, schema } = database as DataSourceOptions & { schema?: string };
  const names = { tablePrefix, tableSchema, entityPrefix, schema, naming: namingStrategy && idOf(namingStrategy) };
  const made = { names, capture, entities, others, imports };
  return JSON.stringify(made, (_, value: unknown) => (typeof value === 'function' ? `class ${idOf(value)}` : value));
}

const ids = new WeakMap<object, number>();
let lastId = 0;

/** Classes of two suites may have the same name. */
function idOf(value: object): number {
  if (!ids.has(value)) ids.set(value, (lastId += 1));
  return ids.get(value) as number;
}
