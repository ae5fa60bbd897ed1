import { Injectable, Module, type OnApplicationBootstrap, type OnModuleInit, type Type } from '@nestjs/common';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { InjectRepository, TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryGeneratedColumn, Repository, type DataSourceOptions } from 'typeorm';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  DispatcherService,
  getDispatcherToken,
  InjectDeliveries,
  InjectListeners,
  InjectWebhooks,
  ListenerService,
  Webhook,
  WebhooksModule,
  WebhooksService,
  type DeliveryService,
} from 'nestjs-entity-webhooks';
import { TestReceiver } from 'nestjs-entity-webhooks/testing';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { LOOPBACK } from '../support/webhooks-app.js';

@Webhook()
@Entity('note')
class Note {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  text: string;
}

/** Has `@Webhook()`, but only some tests name it in `forFeature`. */
@Webhook()
@Entity('draft')
class Draft {
  @PrimaryGeneratedColumn()
  id: number;
}

@Entity('plain')
class Plain {
  @PrimaryGeneratedColumn()
  id: number;
}

@Entity('invoice')
@Webhook()
class Invoice {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  number: string;
}

const emitter = EventEmitterModule.forRoot();
const webhooks = (options: Parameters<typeof WebhooksModule.forRoot>[0] = {}) =>
  WebhooksModule.forRoot({ security: LOOPBACK, ...options });

let fresh: FreshDatabase[] = [];
let closing: (() => Promise<unknown>)[] = [];
beforeEach(() => {
  fresh = [];
  closing = [];
});
afterEach(async () => {
  for (const close of closing.toReversed()) await close();
  for (const database of fresh) await database.drop();
});

async function newDatabase(database = databases[0]): Promise<DataSourceOptions> {
  const made = await database!.create();
  fresh.push(made);
  return made.options;
}

async function newReceiver(): Promise<TestReceiver> {
  const receiver = await new TestReceiver().start();
  closing.push(() => receiver.stop());
  return receiver;
}

function database(options: DataSourceOptions, entities: Type[], more: object = {}) {
  return TypeOrmModule.forRoot({ synchronize: true, retryAttempts: 0, ...options, entities, ...more } as never);
}

async function boot(imports: unknown[], providers: Type[] = [], adapter = new ExpressAdapter() as never) {
  @Module({ imports: imports as never, providers })
  class AppModule {}
  const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
  const app = module.createNestApplication(adapter, { logger: false });
  closing.push(() => app.close());
  return app.init();
}

describe('an application with a configuration mistake does not start, and the error names the mistake:', () => {
  it('without EventEmitterModule.forRoot()', async () => {
    await expect(boot([database(await newDatabase(), []), webhooks()])).rejects.toMatchObject({
      code: 'EVENT_EMITTER_MISSING',
      message: expect.stringContaining('Import EventEmitterModule.forRoot()') as string,
    });
  });

  it('with an entity that its data source does not know', async () => {
    const imports = [database(await newDatabase(), [Plain]), emitter, webhooks(), WebhooksModule.forFeature([Note])];
    await expect(boot(imports)).rejects.toMatchObject({
      code: 'ENTITY_NOT_IN_DATA_SOURCE',
      message: expect.stringContaining('Note') as string,
    });
  });

  it('with an entity that has neither a decorator nor options', async () => {
    const imports = [database(await newDatabase(), [Plain]), emitter, webhooks(), WebhooksModule.forFeature([Plain])];
    await expect(boot(imports)).rejects.toMatchObject({ code: 'ENTITY_NOT_DECORATED' });
  });

  it.each([
    [undefined, 'Import WebhooksModule.forRoot() in your root module'],
    ['billing', "Import WebhooksModule.forRoot({ dataSource: 'billing' }) in your root module"],
  ])('with entities of an instance that does not exist: %s', async (name, fix) => {
    const other = webhooks({ dataSource: 'other' });
    const imports = [database(await newDatabase(), [Note], { name: 'other' }), emitter, other];
    await expect(boot([...imports, WebhooksModule.forFeature([Note], name)])).rejects.toMatchObject({
      code: 'WEBHOOKS_MODULE_MISSING',
      message: expect.stringContaining(fix) as string,
    });
  });

  it('with two instances on one data source', async () => {
    const imports = [database(await newDatabase(), [Note]), emitter, webhooks(), WebhooksModule.forFeature([Note])];
    await expect(boot([...imports, webhooks({ dispatch: 'inline' })])).rejects.toMatchObject({
      code: 'DATA_SOURCE_SERVED_TWICE',
      message: expect.stringContaining('Import WebhooksModule.forRoot() once') as string,
    });
  });

  it.each([undefined, null, 'Note', { entity: undefined }])('with %j instead of an entity', (entity) => {
    const feature = () => WebhooksModule.forFeature([Note, entity as never]);
    expect(feature).toThrow(
      /Invalid entity .* at index 1 of WebhooksModule\.forFeature\(\[\.\.\.\]\)\. Allowed: a class/,
    );
  });

  it('with two entities that have one name', async () => {
    const same = WebhooksModule.forFeature([Note, { entity: Draft, name: 'note' }]);
    await expect(boot([database(await newDatabase(), [Note, Draft]), emitter, webhooks(), same])).rejects.toMatchObject(
      {
        code: 'DUPLICATE_EVENT_NAME',
        message: expect.stringMatching(/Note and Draft|Draft and Note/) as string,
      },
    );
  });

  it('without its tables (the error names the migrations)', async () => {
    const imports = [database(await newDatabase(), [], { synchronize: false }), emitter, webhooks()];
    await expect(boot(imports)).rejects.toMatchObject({
      code: 'TABLES_MISSING',
      message: expect.stringContaining('webhookMigrations()') as string,
    });
  });
});

it('one warning names an entity with @Webhook() that no forFeature() names', async () => {
  const warnings: string[] = [];
  const { Logger } = await import('@nestjs/common');
  const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => {
    warnings.push(String(text));
  });
  try {
    const feature = WebhooksModule.forFeature([Note]);
    await boot([database(await newDatabase(), [Note, Draft, Plain]), emitter, webhooks(), feature]);
  } finally {
    warn.mockRestore();
  }
  expect(warnings.filter((text) => text.includes('forFeature'))).toEqual([
    'Draft has @Webhook() but is in no WebhooksModule.forFeature([...]), so changes make no events. Add it to forFeature(), or remove @Webhook().',
  ]);
});

describe.each([
  ['Express', () => new ExpressAdapter()],
  ['Fastify', () => new FastifyAdapter()],
])('on %s', (_, adapter) => {
  it('an application delivers', async () => {
    const receiver = await newReceiver();
    const imports = [database(await newDatabase(), [Note]), emitter, webhooks(), WebhooksModule.forFeature([Note])];
    const app = await boot(imports, [], adapter() as never);
    await app.get(ListenerService).create({ entity: Note, url: receiver.url });
    await app.get(DataSource).getRepository(Note).save({ text: 'a' });
    const [request] = await receiver.waitFor(1);
    expect(request?.json).toMatchObject({ type: 'note.created', data: { text: 'a' } });
  });
});

it('rows that providers write while the application starts are delivered', async () => {
  const receiver = await newReceiver();
  @Injectable()
  class Seeds implements OnModuleInit, OnApplicationBootstrap {
    constructor(
      @InjectRepository(Note) private readonly notes: Repository<Note>,
      private readonly listeners: ListenerService,
    ) {}
    async onModuleInit() {
      await this.listeners.create({ entity: Note, url: receiver.url });
      await this.notes.save({ text: 'while modules start' });
    }
    async onApplicationBootstrap() {
      await this.notes.save({ text: 'as the application starts' });
    }
  }
  const notes = TypeOrmModule.forFeature([Note]);
  const imports = [
    database(await newDatabase(), [Note]),
    notes,
    emitter,
    webhooks(),
    WebhooksModule.forFeature([Note]),
  ];
  await boot(imports, [Seeds]);
  const requests = await receiver.waitFor(2);
  const texts = requests.map((request) => (request.json as { data: { text: string } }).data.text);
  expect(texts.toSorted()).toEqual(['as the application starts', 'while modules start']);
});

it('with dispatcher.autoStart false an application stores its events and sends nothing until dispatcher.start()', async () => {
  const receiver = await newReceiver();
  const off = webhooks({ dispatcher: { autoStart: false } });
  const app = await boot([database(await newDatabase(), [Note]), emitter, off, WebhooksModule.forFeature([Note])]);
  const dispatcher = app.get(DispatcherService);
  await app.get(ListenerService).create({ entity: Note, url: receiver.url });
  await app.get(DataSource).getRepository(Note).save({ text: 'a' });
  expect(dispatcher.isRunning).toBe(false);
  expect(receiver.requests).toEqual([]);
  dispatcher.start();
  await receiver.waitFor(1);
});

describe('several applications in one process', () => {
  it('do not see the events of each other, although they share entity classes', async () => {
    const one = await newReceiver();
    const other = await newReceiver();
    const feature = () => WebhooksModule.forFeature([Note]);
    const first = await boot([database(await newDatabase(), [Note]), emitter, webhooks(), feature()]);
    const second = await boot([database(await newDatabase(), [Note]), emitter, webhooks(), feature()]);
    await first.get(ListenerService).create({ entity: Note, url: one.url });
    await second.get(ListenerService).create({ entity: Note, url: other.url });
    await first.get(DataSource).getRepository(Note).save({ text: 'first' });
    await one.waitFor(1);
    await first.get(DispatcherService).drain();
    await second.get(DispatcherService).drain();
    expect(one.requests).toHaveLength(1);
    expect(other.requests).toEqual([]);
  });
});

describe('a second instance, on its own data source', () => {
  @Injectable()
  class Billing {
    constructor(
      @InjectListeners('billing') readonly listeners: ListenerService,
      @InjectDeliveries('billing') readonly deliveries: DeliveryService,
      @InjectWebhooks('billing') readonly webhooks: WebhooksService,
    ) {}
  }

  const two = async () => [
    database(await newDatabase(), [Note]),
    database(await newDatabase(), [Invoice], { name: 'billing' }),
    emitter,
    webhooks({ publishedTypes: ['shop.opened'] }),
    webhooks({ dataSource: 'billing', publishedTypes: ['month.closed'] }),
    WebhooksModule.forFeature([Note]),
    WebhooksModule.forFeature([Invoice], 'billing'),
  ];

  it('is injected by its name, and captures only entities of its own data source', async () => {
    const shop = await newReceiver();
    const billing = await newReceiver();
    const app = await boot(await two(), [Billing]);
    const services = app.get(Billing);
    await app.get(ListenerService).create({ events: ['*'], url: shop.url });
    await services.listeners.create({ events: ['*'], url: billing.url });
    await app.get(DataSource).getRepository(Note).save({ text: 'a' });
    await app.get<DataSource>('billingDataSource').getRepository(Invoice).save({ number: '1' });
    await services.webhooks.publish('month.closed', { month: '2026-11' });
    await shop.waitFor(1);
    await billing.waitFor(2);
    await app.get(DispatcherService).drain();
    await app.get<DispatcherService>(getDispatcherToken('billing')).drain();
    const types = (receiver: TestReceiver) =>
      receiver.requests.map((request) => (request.json as { type: string }).type).toSorted();
    expect(types(shop)).toEqual(['note.created']);
    expect(types(billing)).toEqual(['invoice.created', 'month.closed']);
    expect((await services.deliveries.list()).items).toHaveLength(2);
    await expect(services.listeners.create({ entity: Note, url: billing.url })).rejects.toMatchObject({
      code: 'UNKNOWN_ENTITY',
    });
  });

  it('refuses to publish in a transaction of another data source', async () => {
    const app = await boot(await two(), [Billing]);
    const billing = app.get<DataSource>('billingDataSource');
    await expect(
      billing.transaction((manager) => app.get(WebhooksService).publish('shop.opened', {}, { manager })),
    ).rejects.toMatchObject({ code: 'WRONG_DATA_SOURCE' });
  });
});

// SQLite has no replication in TypeORM.
const servers = databases.filter(({ name }) => name !== 'sqlite');
describe.each(servers)('a data source with a replica ($name)', (server) => {
  it('is read and written at its primary, because the replica may lag behind', async () => {
    const receiver = await newReceiver();
    const { type, ...master } = (await newDatabase(server)) as DataSourceOptions & object;
    const { type: _, ...replica } = (await newDatabase(server)) as DataSourceOptions & object;
    const imports = [
      database({ type, replication: { master, slaves: [replica] } } as never, [Note]),
      emitter,
      webhooks(),
      WebhooksModule.forFeature([Note]),
    ];
    const app = await boot(imports);
    const { id } = await app.get(ListenerService).create({ entity: Note, url: receiver.url, where: { text: 'b' } });
    expect((await app.get(ListenerService).list()).items).toMatchObject([{ id }]);
    const notes = app.get(DataSource).getRepository(Note);
    const note = await notes.save({ text: 'a' });
    await notes.save({ id: note.id, text: 'b' });
    const [request] = await receiver.waitFor(1);
    expect(request?.json).toMatchObject({ type: 'note.updated', data: { text: 'b' }, previous: { text: 'a' } });
  });
});

describeDatabases('an application that closes', (server) => {
  it('leaves nothing open, and completes the request in flight', async () => {
    const receiver = await newReceiver();
    const options = await newDatabase(server);
    const openBefore = openResources();
    const app = await boot([database(options, [Note]), emitter, webhooks(), WebhooksModule.forFeature([Note])]);
    await app.get(ListenerService).create({ entity: Note, url: receiver.url });
    let release = () => undefined as void;
    receiver.respond({ status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) });
    await app.get(DataSource).getRepository(Note).save({ text: 'a' });
    await receiver.waitFor(1);
    const closed = app.close();
    release();
    await closed;
    await receiver.stop();
    const deadline = Date.now() + 5_000;
    // A timer would be counted as an open resource.
    while (openResources() > openBefore && Date.now() < deadline) await new Promise(setImmediate);
    expect(openResources()).toBeLessThanOrEqual(openBefore);
    if (server.name === 'sqlite') return;
    const look = await new DataSource({ ...options, poolSize: 1 } as DataSourceOptions).initialize();
    const rows: { state: string; attempts: number }[] = await look.query(
      'select state, attempts from webhook_deliveries',
    );
    await look.destroy();
    expect(rows).toEqual([{ state: 'succeeded', attempts: 1 }]);
  });
});

/** Sockets and timers that keep a process alive. */
function openResources(): number {
  const names = process.getActiveResourcesInfo();
  return names.filter((name) => name === 'TCPSocketWrap' || name === 'Timeout').length;
}
