import { EventEmitterModule } from '@nestjs/event-emitter';
import { Test, type TestingModule } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { generateSecret, WebhooksModule } from 'nestjs-entity-webhooks';
import { IncomingWebhooksModule } from 'nestjs-entity-webhooks/receiver/nest';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createProxied, networked, type ProxiedDatabase } from '../support/proxied-database.js';

/** The message of a client after its connection was reset, by driver and moment. */
const UNREACHABLE =
  /ECONNRESET|ECONNREFUSED|PROTOCOL_CONNECTION_LOST|Connection terminated|Connection lost|closed state/;
const sources = { bank: { secrets: [generateSecret()] } };

describe.each(networked)(
  'a database that goes down between connecting and the check of the tables ($name)',
  (target) => {
    let database: ProxiedDatabase;
    let module: TestingModule;

    beforeEach(async () => {
      database = await createProxied(target);
    });
    afterEach(async () => {
      await module.get(DataSource).destroy();
      await database.drop();
    });

    it.each([
      ['a sender', () => [EventEmitterModule.forRoot(), WebhooksModule.forRoot()], true],
      ['a receiver with an inbox', () => [IncomingWebhooksModule.forRoot({ sources, inbox: {} })], false],
    ] as const)('stops %s with what the driver says, and not with missing tables', async (_, modules, makesTables) => {
      const options = { ...database.proxied, retryAttempts: 0, synchronize: makesTables };
      const builder = Test.createTestingModule({ imports: [TypeOrmModule.forRoot(options), ...modules()] });
      // Providers and connections are created here. `init()` runs the checks.
      module = await builder.compile();
      database.proxy.cut();
      const error = await module.init().then(
        () => undefined,
        (failure: unknown) => failure as { code?: unknown; message: string },
      );
      expect(`${String(error?.code)} ${error?.message}`).toMatch(UNREACHABLE);
      expect(error).not.toMatchObject({ code: 'TABLES_MISSING' });
    });
  },
);

const SECOND = 1_000;

describe.each(networked)('a server that vanishes while an application starts ($name)', (target) => {
  let database: ProxiedDatabase;
  /** The data source of the application. */
  let source: DataSource;

  beforeEach(async () => {
    database = await createProxied(target);
    // The limits are tens of seconds.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  });
  afterEach(async () => {
    vi.useRealTimers();
    await source.destroy();
    await database.drop();
  });

  it.each([
    // TypeORM asks for the version when it opens a pool. 5 s for a connection, and 6 s for the answers.
    { moment: 'while the connections are opened', question: /version\(\)/i, limitMs: 11 * SECOND },
    { moment: 'while the tables are checked', question: /where 1 = 0/, limitMs: 30 * SECOND },
  ])('$moment: the start is refused with DATABASE_TIMEOUT', async ({ question, limitMs }) => {
    let vanishing: (happened: Promise<void>) => void = () => undefined;
    const vanished = new Promise<void>((resolve) => (vanishing = resolve));
    const typeorm = TypeOrmModule.forRootAsync({
      useFactory: () => ({ ...database.proxied, retryAttempts: 0, synchronize: true }),
      dataSourceFactory: async (options) => {
        source = await new DataSource(options as DataSourceOptions).initialize();
        vanishing(database.proxy.vanishAt((text) => question.test(text)));
        return source;
      },
    });
    const starting = Test.createTestingModule({
      imports: [typeorm, EventEmitterModule.forRoot(), WebhooksModule.forRoot()],
    })
      .compile()
      .then((module) => module.init());
    const ended = starting.then(
      () => 'started',
      (failure: unknown) => failure,
    );
    await vanished;
    await vi.advanceTimersByTimeAsync(limitMs - SECOND);
    const early = await Promise.race([ended, new Promise((resolve) => setImmediate(resolve, 'waits'))]);
    expect(early).toBe('waits');
    await vi.advanceTimersByTimeAsync(SECOND);
    expect(await ended).toMatchObject({ code: 'DATABASE_TIMEOUT' });
  });
});
