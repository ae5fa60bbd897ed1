import { EventEmitterModule } from '@nestjs/event-emitter';
import { Test, type TestingModule } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { generateSecret, WebhooksModule } from 'nestjs-entity-webhooks';
import { IncomingWebhooksModule } from 'nestjs-entity-webhooks/receiver/nest';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
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
