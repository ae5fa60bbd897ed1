import {
  Module,
  type INestApplication,
  type ModuleMetadata,
  type NestApplicationOptions,
  type Type,
} from '@nestjs/common';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryColumn, type DataSourceOptions } from 'typeorm';
import {
  DeliveryService,
  DispatcherService,
  ListenerService,
  TaskService,
  Webhook,
  WebhookClock,
  WebhooksModule,
  WebhooksService,
  type WebhooksModuleOptions,
} from 'nestjs-entity-webhooks';
import {
  MANAGE,
  OPERATE,
  VIEW,
  WebhooksApiModule,
  type Access,
  type WebhooksApiOptions,
} from 'nestjs-entity-webhooks/api';
import { FakeClock, TestReceiver } from 'nestjs-entity-webhooks/testing';
import { LOOPBACK } from '../support/webhooks-app.js';

export type Platform = 'express' | 'fastify';

@Webhook({ owner: 'customer' })
@Entity('api_order')
export class Order {
  @PrimaryColumn({ type: 'int' })
  id: number;
  @Column({ type: 'varchar' })
  customer: string;
  @Column({ type: 'varchar' })
  status: string;
}

/** Declares no owner: owners never see its events. */
@Webhook()
@Entity('api_rate')
export class Rate {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

const PRESETS = { view: VIEW, operate: OPERATE, manage: MANAGE };

/** Reads `x-user: operator`, or `x-user: <owner> view|operate|manage`, as the login of an application would say it. */
export function accessOf({ headers }: { headers: Record<string, string | undefined> }): Access {
  const [name, preset = 'manage'] = headers['x-user']?.split(' ') ?? [];
  if (name === undefined) return null;
  if (name === 'operator') return { kind: 'operator', actor: 'op@example.test' };
  return { kind: 'owner', owner: name, actor: `user of ${name}`, can: PRESETS[preset as keyof typeof PRESETS] };
}

export const SESSION_KEY = { id: 'k1', key: Buffer.alloc(32, 1).toString('base64') };

export interface ApiAppOptions {
  platform?: Platform;
  database?: DataSourceOptions;
  webhooks?: WebhooksModuleOptions;
  api?: Partial<WebhooksApiOptions>;
  imports?: ModuleMetadata['imports'];
  providers?: ModuleMetadata['providers'];
  nest?: NestApplicationOptions;
  /** Runs between creation and start, where an application sets its prefix and pipes. */
  prepare?: (app: INestApplication) => unknown;
}

/** An answer with its parsed body. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- tests compare parts of any answer
  readonly body: any;
}

export interface Call {
  /** `operator`, or an owner and a preset: `acme view`. */
  as?: string;
  body?: unknown;
  headers?: Record<string, string>;
}

export interface ApiApp {
  app: INestApplication;
  /** Origin of the server. */
  origin: string;
  clock: FakeClock;
  receiver: TestReceiver;
  listeners: ListenerService;
  deliveries: DeliveryService;
  tasks: TaskService;
  dispatcher: DispatcherService;
  webhooks: WebhooksService;
  dataSource: DataSource;
  /** @param path below the root of the API, which is `/webhooks/v1` unless `path` begins with `!` */
  call: (method: string, path: string, options?: Call) => Promise<Answer>;
  close: () => Promise<void>;
}

export const MEMORY: DataSourceOptions = { type: 'better-sqlite3', database: ':memory:' };

export async function startApiApp(options: ApiAppOptions = {}): Promise<ApiApp> {
  const receiver = new TestReceiver();
  await receiver.start();
  const clock = new FakeClock(Date.now());
  const adapter = options.platform === 'fastify' ? new FastifyAdapter() : new ExpressAdapter();
  let app: INestApplication;
  try {
    const module = await Test.createTestingModule({ imports: [appModule(options)] })
      .overrideProvider(WebhookClock)
      .useValue(clock)
      .compile();
    app = module.createNestApplication(adapter as never, { logger: ['error'], ...options.nest });
    await options.prepare?.(app);
    await app.listen(0, '127.0.0.1');
  } catch (error) {
    await receiver.stop();
    throw error;
  }
  if (options.platform === 'fastify') await (app as NestFastifyApplication).getHttpAdapter().getInstance().ready();
  const origin = (await app.getUrl()).replace('localhost', '127.0.0.1');
  return {
    app,
    origin,
    clock,
    receiver,
    listeners: app.get(ListenerService),
    deliveries: app.get(DeliveryService),
    tasks: app.get(TaskService),
    dispatcher: app.get(DispatcherService),
    webhooks: app.get(WebhooksService),
    dataSource: app.get(DataSource),
    call: (method, path, given) => call(origin, method, path, given),
    async close() {
      await app.close();
      await receiver.stop();
    },
  };
}

function appModule(options: ApiAppOptions): Type {
  @Module({
    imports: [
      TypeOrmModule.forRoot({
        synchronize: true,
        retryAttempts: 0,
        ...(options.database ?? MEMORY),
        entities: [Order, Rate],
      }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRoot({
        security: LOOPBACK,
        publishedTypes: ['note.sent'],
        ...options.webhooks,
        dispatcher: { autoStart: false, ...options.webhooks?.dispatcher },
      }),
      WebhooksModule.forFeature([Order, Rate]),
      WebhooksApiModule.forRoot({ access: accessOf, sessions: { keys: [SESSION_KEY] }, ...options.api }),
      ...(options.imports ?? []),
    ],
    providers: options.providers ?? [],
  })
  class AppModule {}
  return AppModule;
}

export async function call(
  origin: string,
  method: string,
  path: string,
  { as, body, headers = {} }: Call = {},
): Promise<Answer> {
  const url = path.startsWith('!') ? origin + path.slice(1) : `${origin}/webhooks/v1${path}`;
  const response = await fetch(url, {
    method,
    headers: {
      ...(as === undefined ? {} : { 'x-user': as }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  // A stream has no end. `stream-reading.ts` reads it.
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
  if (isStream) await response.body?.cancel();
  const text = isStream ? '' : await response.text();
  return { status: response.status, headers: response.headers, text, body: parsed(text) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
