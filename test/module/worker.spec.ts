import { Module, type DynamicModule, type INestApplicationContext, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, Entity, PrimaryGeneratedColumn, type DataSource } from 'typeorm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  DispatcherService,
  ListenerService,
  PayloadFormat,
  SignatureScheme,
  Webhook,
  WebhooksModule,
  WebhooksWorkerModule,
  type WebhooksModuleOptions,
} from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { LOOPBACK, startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ capture: 'trigger' })
@Entity('crate')
class Crate {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

class OwnScheme extends SignatureScheme {
  readonly name = 'own';

  sign(): Record<string, string> {
    return { 'x-own': 'signed' };
  }

  verify(): never {
    throw new Error('No receiver of this test verifies.');
  }
}

class OwnFormat extends PayloadFormat {
  readonly name = 'own-xml';
  override readonly contentType = 'application/xml';

  render(): string {
    return '<event/>';
  }
}

const KEYS = ['old', 'new'].map((id, n) => ({ id, key: Buffer.alloc(32, n) }));
const [OLD, NEW] = KEYS as [(typeof KEYS)[0], (typeof KEYS)[0]];

describeDatabases('WebhooksWorkerModule', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp | undefined;
  let workers: INestApplicationContext[];

  beforeEach(async () => {
    workers = [];
    fresh = await database.reuse();
  });
  afterEach(async () => {
    for (const worker of workers) await worker.close();
    await app?.close();
    await fresh.drop();
  });

  async function startWeb(webhooks: WebhooksModuleOptions = {}, entities: Type[] = [Parcel]): Promise<TestApp> {
    app = await startApp({ database: fresh.options, entities, webhooks });
    return app;
  }

  /** Starts a worker whose dispatcher does not start by itself. */
  async function startWorker(
    webhooks: WebhooksModuleOptions = {},
    { features = [], isAsync = false }: { features?: Type[]; isAsync?: boolean } = {},
  ): Promise<INestApplicationContext> {
    const { dataSource, parts, ...rest } = webhooks;
    const options = { security: LOOPBACK, dispatcher: { autoStart: false }, ...rest };
    const imports: DynamicModule[] = [
      TypeOrmModule.forRoot({ ...fresh.options, entities: features, synchronize: false, retryAttempts: 0 } as object),
      isAsync
        ? WebhooksWorkerModule.forRootAsync({ dataSource, parts, useFactory: () => Promise.resolve(options) })
        : WebhooksWorkerModule.forRoot({ dataSource, parts, ...options }),
    ];
    if (features.length) imports.push(WebhooksModule.forFeature(features as never));
    @Module({ imports })
    class WorkerModule {}
    const worker = await NestFactory.createApplicationContext(WorkerModule, { logger: false, abortOnError: false });
    workers.push(worker);
    return worker;
  }

  const incomplete = (details: object) => ({
    code: 'WORKER_INCOMPLETE',
    details: { schemes: [], formats: [], keys: [], origin: false, tables: [], ...details },
  });

  it.each([{ isAsync: false }, { isAsync: true }])(
    'sends the events of other processes, without their entities and without EventEmitterModule (async: $isAsync)',
    async ({ isAsync }) => {
      const web = await startWeb();
      await web.listeners.create({ events: ['*'], url: web.receiver.url });
      await web.dataSource.getRepository(Parcel).save({ name: 'a' });
      const worker = await startWorker({}, { isAsync });
      expect(await worker.get(DispatcherService).drain()).toEqual({ events: 1, attempts: 1 });
      expect(web.receiver.requests.map(({ json }) => json)).toMatchObject([{ data: { name: 'a' } }]);
    },
  );

  describe('does not start if an enabled listener needs', () => {
    it('a signature scheme or a payload format that it lacks', async () => {
      const parts = { signatureSchemes: [OwnScheme], payloadFormats: [OwnFormat] };
      const web = await startWeb({ parts });
      const { id } = await web.listeners.create({
        events: ['*'],
        url: web.receiver.url,
        schemes: ['standard', 'own'],
        format: 'own-xml',
      });
      await expect(startWorker()).rejects.toMatchObject(incomplete({ schemes: ['own'], formats: ['own-xml'] }));
      await expect(startWorker()).rejects.toThrow(/'own'.*'own-xml'/);
      await startWorker({ parts });
      await web.listeners.disable(id);
      await startWorker();
    });

    it('a sealing key that it lacks', async () => {
      const web = await startWeb({ secrets: { keys: [OLD] } });
      const auth = { type: 'basic', username: 'u', password: 'p' } as const;
      const { id } = await web.listeners.create({ events: ['*'], url: web.receiver.url, auth });
      await startWorker({ secrets: { keys: [NEW, OLD] } });
      await expect(startWorker({ secrets: { keys: [NEW] } })).rejects.toMatchObject(incomplete({ keys: ['old'] }));
      await expect(startWorker()).rejects.toMatchObject(incomplete({ keys: ['old'] }));
      await web.listeners.update(id, { auth: null });
      await expect(startWorker()).rejects.toMatchObject(incomplete({ keys: ['old'] }));
    });

    it('a sealing key for its credentials only, but not one for a secret that signs no more', async () => {
      const web = await startWeb();
      const { id } = await web.listeners.create({ events: ['*'], url: web.receiver.url });
      await web.close();
      const sealing = await startWeb({ secrets: { keys: [OLD] } });
      await sealing.listeners.update(id, { auth: { type: 'bearer', token: 't' } });
      await expect(startWorker()).rejects.toMatchObject(incomplete({ keys: ['old'] }));
      await sealing.listeners.update(id, { auth: null });
      await startWorker();
      await sealing.listeners.rotateSecret(id, { overlapMs: 0 });
      await expect(startWorker()).rejects.toMatchObject(incomplete({ keys: ['old'] }));
      const worker = await startWorker({ secrets: { keys: [NEW, OLD] } });
      await worker.get(ListenerService).rotateSecret(id, { overlapMs: 0 });
      await startWorker({ secrets: { keys: [NEW] } });
    });

    it('handshake.origin', async () => {
      const handshake = { origin: 'events.example.com' };
      const web = await startWeb({ handshake });
      await web.listeners.create({ events: ['*'], url: web.receiver.url, handshake: 'cloudevents' });
      await expect(startWorker()).rejects.toMatchObject(incomplete({ origin: true }));
      await startWorker({ handshake });
    });
  });

  it('starts with entities in trigger mode only if it has them, and then makes events of their images', async () => {
    const web = await startWeb({}, [Crate]);
    await web.listeners.create({ events: ['*'], url: web.receiver.url });
    const tables = [expect.stringMatching(/(^|\.)crate$/)];
    await expect(startWorker()).rejects.toMatchObject(incomplete({ tables }));
    await insertByHand(web.dataSource);
    const worker = await startWorker({}, { features: [Crate] });
    await worker.get(DispatcherService).drain();
    expect(web.receiver.requests.map(({ json }) => json)).toMatchObject([
      { type: 'crate.created', data: { name: 'by hand' } },
    ]);
  });
});

/** As another program would write. */
async function insertByHand(dataSource: DataSource): Promise<void> {
  await dataSource.query(`insert into crate (name) values ('by hand')`);
}
