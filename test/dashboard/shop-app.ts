import { Module, type INestApplication, type NestApplicationOptions, type Type } from '@nestjs/common';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm';
import {
  DeliveryService,
  DispatcherService,
  ListenerService,
  TaskService,
  Webhook,
  WebhookClock,
  WebhooksModule,
  WebhooksService,
} from 'nestjs-entity-webhooks';
import { createWebhooksClient, type OperationTypes } from 'nestjs-entity-webhooks/client';
import { MANAGE, WebhooksApiModule, type Access } from 'nestjs-entity-webhooks/api';
import { WebhooksDashboardModule, type WebhooksDashboardOptions } from 'nestjs-entity-webhooks/dashboard';
import { FakeClock, FakeDns, TestReceiver } from 'nestjs-entity-webhooks/testing';
import { LOOPBACK } from '../support/webhooks-app.js';
import { buildPages } from './built-pages.js';

@Webhook({
  owner: 'customer',
  title: 'Order',
  group: 'Sales',
  description: 'An order of one customer.',
  events: { updated: { description: 'Any change of the status or the total.' } },
})
@Entity('shop_order')
export class Order {
  @PrimaryGeneratedColumn()
  id: number;
  @Column({ type: 'varchar' })
  customer: string;
  @Column({ type: 'varchar' })
  status: string;
  @Column({ type: 'decimal', precision: 10, scale: 2 })
  total: string;
  @Column({ type: 'varchar', default: 'EUR' })
  currency: string;
  @Column({ type: 'simple-json', nullable: true })
  items: unknown;
}

@Webhook({ owner: 'customer', title: 'Shipment', group: 'Logistics', description: 'A parcel on its way.' })
@Entity('shop_shipment')
export class Shipment {
  @PrimaryGeneratedColumn()
  id: number;
  @Column({ type: 'varchar' })
  customer: string;
  @Column({ type: 'varchar' })
  carrier: string;
  @Column({ type: 'varchar' })
  status: string;
}

/** `x-user: operator`, or the name of an owner. */
function accessOf({ headers }: { headers: Record<string, string | undefined> }): Access {
  const name = headers['x-user'];
  if (name === undefined) return null;
  if (name === 'operator') return { kind: 'operator', actor: 'operator@example.test' };
  return { kind: 'owner', owner: name, actor: `user of ${name}`, can: MANAGE };
}

export interface ShopOptions {
  platform?: 'express' | 'fastify';
  dashboard?: WebhooksDashboardOptions;
  /** The global prefix that `prepare` sets, with a slash before it. */
  root?: string;
  /** Runs between creation and start, where an application sets its prefix and pipes. */
  prepare?: (app: INestApplication) => unknown;
  nest?: NestApplicationOptions;
  /** When the clock of the application begins. */
  startsAt?: number;
}

/** A session of a customer. */
type OwnerSession = { owner: string } & Partial<
  Omit<OperationTypes['createSession']['input']['body'], 'kind' | 'owner'>
>;

export interface Shop {
  readonly app: INestApplication;
  readonly origin: string;
  readonly clock: FakeClock;
  /** Answers at the hosts of {@link HOSTS}. */
  readonly receiver: TestReceiver;
  readonly listeners: ListenerService;
  readonly deliveries: DeliveryService;
  readonly tasks: TaskService;
  readonly dispatcher: DispatcherService;
  readonly webhooks: WebhooksService;
  readonly dataSource: DataSource;
  /** A URL of the receiver at one of its hosts: `url('hooks.acme.test/orders')`. */
  url(hostAndPath: string): string;
  tokenOf(who: 'operator' | OwnerSession): Promise<string>;
  close(): Promise<void>;
}

/** Names of receivers. They lead to this machine. */
const HOSTS = [
  'hooks.acme.test',
  'warehouse.acme.test',
  'billing.globex.test',
  'crm.initech.test',
  'analytics.shop.test',
];

export async function startShop(options: ShopOptions = {}): Promise<Shop> {
  await buildPages();
  const receiver = new TestReceiver();
  await receiver.start();
  const clock = new FakeClock(options.startsAt ?? Date.now());
  let app: INestApplication;
  try {
    app = await startApplication(options, clock);
  } catch (error) {
    await receiver.stop();
    throw error;
  }
  const origin = (await app.getUrl()).replace('localhost', '127.0.0.1');
  const prefix = new URL(receiver.url).port;
  return {
    ...{ app, origin, clock, receiver },
    listeners: app.get(ListenerService),
    deliveries: app.get(DeliveryService),
    tasks: app.get(TaskService),
    dispatcher: app.get(DispatcherService),
    webhooks: app.get(WebhooksService),
    dataSource: app.get(DataSource),
    url: (hostAndPath) => `http://${hostAndPath.replace('/', `:${prefix}/`)}`,
    async tokenOf(who) {
      const client = createWebhooksClient({
        url: `${origin}${options.root ?? ''}/webhooks/v1`,
        headers: { 'x-user': 'operator' },
      });
      const { can } = await client.getMe();
      const body =
        who === 'operator'
          ? {
              kind: 'operator' as const,
              actor: 'operator@example.test',
              can: can.filter((one) => one !== 'sessions:create'),
            }
          : { kind: 'owner' as const, actor: `user of ${who.owner}`, can: MANAGE, ...who };
      return (await client.createSession({ body })).token;
    },
    async close() {
      await app.close();
      await receiver.stop();
    },
  };
}

async function startApplication(options: ShopOptions, clock: FakeClock): Promise<INestApplication> {
  const module = await Test.createTestingModule({ imports: [shopModule(options)] })
    .overrideProvider(WebhookClock)
    .useValue(clock)
    .compile();
  const adapter = options.platform === 'fastify' ? new FastifyAdapter() : new ExpressAdapter();
  const app = module.createNestApplication(adapter as never, { logger: ['error'], ...options.nest });
  await options.prepare?.(app);
  await app.listen(0, '127.0.0.1');
  if (options.platform === 'fastify') await (app as NestFastifyApplication).getHttpAdapter().getInstance().ready();
  return app;
}

function shopModule({ dashboard = { portal: {} } }: ShopOptions): Type {
  const dns = new FakeDns(Object.fromEntries(HOSTS.map((host) => [host, '127.0.0.1'])));
  @Module({
    imports: [
      TypeOrmModule.forRoot({
        ...{ type: 'better-sqlite3', database: ':memory:', synchronize: true, retryAttempts: 0 },
        entities: [Order, Shipment],
      }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRoot({
        security: { ...LOOPBACK, lookup: dns.lookup },
        publishedTypes: [{ type: 'report.ready', version: 2, versions: { 1: (data) => data } }],
        dispatcher: { autoStart: false },
      }),
      WebhooksModule.forFeature([Order, Shipment]),
      WebhooksApiModule.forRoot({
        access: accessOf,
        sessions: { keys: [{ id: 'k1', key: Buffer.alloc(32, 1).toString('base64') }] },
        // One browser does in seconds what people do in minutes.
        limits: {
          ...{ readsPerMinute: 100_000, writesPerMinute: 100_000 },
          ...{ previewsPerMinute: 100_000, urlChecksPerMinute: 100_000 },
        },
      }),
      WebhooksDashboardModule.forRoot(dashboard),
    ],
  })
  class ShopModule {}
  return ShopModule;
}
