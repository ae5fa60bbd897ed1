import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { createScratchProject, type ScratchProject } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook()
@Entity('parcel')
class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

/** An application that prints what it has done, and is killed after that. */
const WRITER = `
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook, WebhooksModule } from 'nestjs-entity-webhooks';

@Webhook()
@Entity('parcel')
class Parcel {
  @PrimaryGeneratedColumn() id: number;
  @Column({ type: 'varchar', length: 50 }) name: string;
}

const { database, autoStart } = JSON.parse(process.env.WRITER ?? '{}');

@Module({
  imports: [
    TypeOrmModule.forRoot({ ...database, entities: [Parcel], retryAttempts: 0 }),
    EventEmitterModule.forRoot(),
    WebhooksModule.forRoot({
      security: { allowedAddresses: ['127.0.0.0/8'], allowHttp: true },
      dispatcher: { autoStart },
    }),
    WebhooksModule.forFeature([Parcel]),
  ],
})
class AppModule {}

const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error'] });
const dataSource = app.get(DataSource);
await dataSource.transaction((manager) => manager.save(Parcel, { name: 'committed' }));
const runner = dataSource.createQueryRunner();
await runner.startTransaction();
await runner.manager.save(Parcel, { name: 'uncommitted' });
console.log('ready');
setInterval(() => undefined, 1_000);
`;

let scratch: ScratchProject;
beforeAll(async () => {
  scratch = await createScratchProject();
  await scratch.write('src/writer.ts', WRITER);
  await scratch.compile();
}, 120_000);
afterAll(() => scratch.remove());

describeDatabases('a process killed with SIGKILL', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let writer: ChildProcess | undefined;

  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: [Parcel] });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
  });
  afterEach(async () => {
    writer?.kill('SIGKILL');
    await app.close();
    await fresh.drop();
  });

  /** Starts the application, and returns when it is ready; its output can still be read. */
  async function startWriter(autoStart: boolean): Promise<void> {
    writer = spawn(process.execPath, [join(scratch.folder, 'dist/writer.js')], {
      env: { ...process.env, WRITER: JSON.stringify({ database: fresh.options, autoStart }) },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface(writer.stdout as NodeJS.ReadableStream), 'line')) as [string];
    expect(line).toBe('ready');
  }

  async function kill(): Promise<void> {
    const exited = once(writer as ChildProcess, 'exit');
    writer?.kill('SIGKILL');
    await exited;
  }

  const names = () => app.receiver.requests.map(({ json }) => (json as { data: { name: string } }).data.name);

  it('between commit and send loses no event, and never sends uncommitted changes', async () => {
    await startWriter(false);
    await kill();
    await app.dispatcher.drain();
    expect(names()).toEqual(['committed']);
  });

  it('between send and record makes one more attempt under the same id, once its lease has expired', async () => {
    let release = () => undefined as void;
    app.receiver.respond([
      { status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) },
      { status: 204 },
    ]);
    await startWriter(true);
    await app.receiver.waitFor(1);
    await kill();
    release();
    await app.dispatcher.drain();
    expect(names()).toEqual(['committed']);
    app.clock.set(Date.now() + 61_000);
    await app.dispatcher.drain();
    expect(names()).toEqual(['committed', 'committed']);
    expect(app.receiver.requests[0]?.headers['webhook-id']).toBe(app.receiver.requests[1]?.headers['webhook-id']);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, leased: 0 });
  });
});
