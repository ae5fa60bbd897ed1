import { Module, type INestApplication, type ModuleMetadata } from '@nestjs/common';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { Test } from '@nestjs/testing';
import { getDataSourceToken, TypeOrmModule } from '@nestjs/typeorm';
import type { DataSource, DataSourceOptions } from 'typeorm';
import {
  getDispatcherToken,
  WebhookClock,
  WebhooksModule,
  WebhooksShards,
  WebhooksShardsModule,
  type DispatcherService,
  type ShardOf,
  type WebhooksModuleOptions,
  type WebhooksShard,
} from 'nestjs-entity-webhooks';
import { FakeClock, TestReceiver } from 'nestjs-entity-webhooks/testing';
import { databases, type FreshDatabase, type TestDatabase } from '../support/databases.js';
import { LOOPBACK } from '../support/webhooks-app.js';
import { Order, Rate } from '../api/api-app.js';

/** Two databases for two shards: of two kinds and of the same kind, if the run has several kinds. */
export const PAIRS: [name: string, eu: TestDatabase, us: TestDatabase][] = databases.map((eu, n) => {
  const us = n % 2 ? eu : (databases[n + 1] ?? eu);
  return [`${eu.name} and ${us.name}`, eu, us];
});

export type ShardName = 'eu' | 'us';
const NAMES: readonly ShardName[] = ['eu', 'us'];

/** One shard of the application, with the parts that tests need. */
export interface TestShard extends WebhooksShard {
  dataSource: DataSource;
  dispatcher: DispatcherService;
  /** Saves an order of this owner, which becomes an event, and sends its deliveries. */
  order(owner: string, status?: string): Promise<void>;
}

export interface ShardedApp {
  app: INestApplication;
  shards: WebhooksShards;
  eu: TestShard;
  us: TestShard;
  clock: FakeClock;
  receiver: TestReceiver;
  close(): Promise<void>;
}

export interface ShardedAppOptions {
  databases: Readonly<Record<ShardName, DataSourceOptions>>;
  shardOf?: ShardOf;
  /** For each instance. */
  webhooks?: WebhooksModuleOptions | undefined;
  imports?: ModuleMetadata['imports'];
}

/** Owners that begin with `us` belong to the shard `us`, `nowhere` to no shard, and all others to `eu`. */
export const shardOf: ShardOf = (owner) => (owner === 'nowhere' ? null : owner.startsWith('us') ? 'us' : 'eu');

/** An application with two shards. It listens on a port, and its dispatchers do not start. */
export async function startShardedApp(options: ShardedAppOptions): Promise<ShardedApp> {
  const receiver = new TestReceiver();
  await receiver.start();
  const clock = new FakeClock(Date.now());
  const created = await Test.createTestingModule({ imports: [shardedModule(options)] })
    .overrideProvider(WebhookClock)
    .useValue(clock)
    .compile()
    .catch(async (error: unknown) => {
      await receiver.stop();
      throw error;
    });
  const app = created.createNestApplication({ logger: false });
  await app.listen(0, '127.0.0.1');
  const shards = app.get(WebhooksShards);
  const [eu, us] = NAMES.map((name) => testShard(app, shards, name)) as [TestShard, TestShard];
  return {
    ...{ app, shards, eu, us, clock, receiver },
    async close() {
      await app.close();
      await receiver.stop();
    },
  };
}

let lastOrder = 0;

function testShard(app: INestApplication, shards: WebhooksShards, name: ShardName): TestShard {
  const dataSource = app.get<DataSource>(getDataSourceToken(name));
  const dispatcher = app.get<DispatcherService>(getDispatcherToken(name));
  return {
    ...{ ...shards.get(name), dataSource, dispatcher },
    async order(owner, status = 'new') {
      await dataSource.getRepository(Order).save({ id: ++lastOrder, customer: owner, status });
      await dispatcher.drain();
    },
  };
}

function shardedModule({ databases, shardOf: chosen = shardOf, webhooks = {}, imports = [] }: ShardedAppOptions) {
  @Module({
    imports: [
      EventEmitterModule.forRoot(),
      ...NAMES.flatMap((name) => [
        TypeOrmModule.forRoot({
          name,
          synchronize: true,
          retryAttempts: 0,
          ...databases[name],
          entities: [Order, Rate],
        }),
        WebhooksModule.forRoot({
          dataSource: name,
          security: LOOPBACK,
          publishedTypes: ['note.sent'],
          log: { attempts: 'none' },
          ...webhooks,
          dispatcher: { autoStart: false },
        }),
        WebhooksModule.forFeature([Order, Rate], name),
      ]),
      WebhooksShardsModule.forRoot({ dataSources: NAMES, shardOf: chosen }),
      ...imports,
    ],
  })
  class AppModule {}
  return AppModule;
}

/** Two new databases. */
export async function createPair(
  eu: TestDatabase,
  us: TestDatabase,
): Promise<{ options: Record<ShardName, DataSourceOptions>; drop(): Promise<void> }> {
  const fresh: readonly FreshDatabase[] = [await eu.create(), await us.create()];
  const [first, second] = fresh as [FreshDatabase, FreshDatabase];
  return {
    options: { eu: first.options, us: second.options },
    async drop() {
      for (const { drop } of fresh) await drop();
    },
  };
}
