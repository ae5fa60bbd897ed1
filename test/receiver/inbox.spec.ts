import { Controller, HttpCode, Logger, Post } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryColumn, type DataSourceOptions, type EntityManager } from 'typeorm';
import { generateSecret } from 'nestjs-entity-webhooks';
import { webhookInboxEntities, webhookInboxMigrations, type SupportedDriver } from 'nestjs-entity-webhooks/migrations';
import {
  IncomingWebhookParam,
  IncomingWebhookMessage,
  VerifyIncomingWebhook,
  IncomingWebhookInbox,
} from 'nestjs-entity-webhooks/receiver/nest';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';

import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { waitInTheDatabase } from '../support/waits-for-lock.js';
import { startReceiverApp, type ReceiverApp } from './receiver-app.js';
import { signedByStandard } from './signed-requests.js';

const SECRET = generateSecret();
const DAY = 24 * 60 * 60 * 1_000;

@Entity()
class Account {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'int' })
  balance: number;
}

@Entity()
class Visit {
  @PrimaryColumn({ type: 'varchar', length: 64 })
  id: string;
}

/** `Promise.withResolvers`, which Node.js 20 does not have. */
function signal(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** Runs inside `processInTransaction`, before the balance grows. A test sets it. */
let during: (webhook: IncomingWebhookMessage, manager: EntityManager) => Promise<void> = async () => undefined;
let onArrival: () => void = () => undefined;

@Controller()
class BankController {
  constructor(private readonly dataSource: DataSource) {}

  /** In a transaction that `processInTransaction` opens. */
  @Post('deposit')
  @HttpCode(200)
  @VerifyIncomingWebhook('bank')
  async deposit(@IncomingWebhookParam() webhook: IncomingWebhookMessage<{ amount: number }>): Promise<object> {
    onArrival();
    const { isDuplicate } = await webhook.processInTransaction(this.dataSource.manager, async (manager) => {
      await during(webhook, manager);
      await manager.increment(Account, { id: 1 }, 'balance', webhook.data.amount);
    });
    return { isDuplicate };
  }

  /** In a transaction of the handler, which commits even if `processInTransaction` fails. */
  @Post('visit')
  @HttpCode(200)
  @VerifyIncomingWebhook('shop')
  visit(@IncomingWebhookParam() webhook: IncomingWebhookMessage<{ amount: number; visit: string }>): Promise<object> {
    onArrival();
    return this.dataSource.transaction(async (own) => {
      await own.insert(Visit, { id: webhook.data.visit });
      const processed = await webhook
        .processInTransaction(own, async (manager) => {
          await manager.increment(Account, { id: 1 }, 'balance', webhook.data.amount);
          await during(webhook, manager);
          return 'deposited';
        })
        .catch((error: unknown) => ({ failed: (error as Error).message }));
      return processed;
    });
  }
}

const sources = { bank: { secrets: SECRET }, shop: { secrets: SECRET } };

describeDatabases('the inbox', (database) => {
  let fresh: FreshDatabase;
  /** Two applications, which the database cannot distinguish from two processes. */
  let apps: ReceiverApp[];
  let dataSource: DataSource;

  beforeAll(async () => {
    vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    fresh = await database.create();
    const start = () =>
      startReceiverApp({
        receiver: { sources, inbox: {} },
        controllers: [BankController],
        imports: [
          TypeOrmModule.forRoot({ ...fresh.options, entities: [Account, Visit], synchronize: true, retryAttempts: 0 }),
        ],
      });
    apps = [await start(), await start()];
    dataSource = (apps[0] as ReceiverApp).app.get(DataSource);
  });
  afterAll(async () => {
    for (const test of apps) await test.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });
  beforeEach(async () => {
    during = async () => undefined;
    onArrival = () => undefined;
    await dataSource.query('delete from webhook_inbox');
    await dataSource.getRepository(Visit).clear();
    await dataSource.getRepository(Account).save({ id: 1, balance: 0 });
  });

  const app = (index: number) => apps[index % apps.length] as ReceiverApp;
  const balance = async () => (await dataSource.getRepository(Account).findOneByOrFail({ id: 1 })).balance;
  const remembered = async () => {
    const rows: { source: string; id: string }[] = await dataSource.query('select source, id from webhook_inbox');
    return rows.map(({ source, id }) => `${source} ${id}`).toSorted();
  };
  /** @returns the status of an error, or the handler's answer */
  async function deliver(id: string, { to = 0, path = '/deposit', data = {} as object } = {}): Promise<unknown> {
    const body = JSON.stringify({ type: 'deposit.made', data: { amount: 1, ...data } });
    const response = await app(to).post(path, signedByStandard(SECRET, body, { id, at: app(to).clock.now() }), body);
    return response.status === 200 ? response.json() : response.status;
  }

  it('processes a webhook once, and answers its redelivery with 2xx, too', async () => {
    expect(await deliver('evt_1')).toEqual({ isDuplicate: false });
    expect(await deliver('evt_1', { to: 1 })).toEqual({ isDuplicate: true });
    expect(await deliver('evt_2')).toEqual({ isDuplicate: false });
    expect(await balance()).toBe(2);
    expect(await remembered()).toEqual(['bank evt_1', 'bank evt_2']);
  });

  it('processes one of many racing deliveries, and answers all of them with 2xx', async () => {
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => deliver('evt_race', { to: i })));
    const sorted = answers.map((answer) => JSON.stringify(answer)).toSorted();
    expect(sorted).toEqual(['{"isDuplicate":false}', ...Array.from({ length: 11 }, () => '{"isDuplicate":true}')]);
    expect(await balance()).toBe(1);
  });

  /** Keeps the first delivery inside its transaction until all other deliveries wait for it. */
  async function firstOf(others: { to: number }[], end: 'commits' | 'rolls back'): Promise<unknown[]> {
    const isInside = signal();
    const mayEnd = signal();
    const allArrived = signal();
    let arrived = 0;
    onArrival = () => {
      arrived += 1;
      if (arrived === 1 + others.length) allArrived.resolve();
    };
    let runs = 0;
    during = async () => {
      runs += 1;
      if (runs > 1) return;
      isInside.resolve();
      await mayEnd.promise;
      if (end === 'rolls back') throw new Error('changed my mind');
    };
    const answers = [deliver('evt_same', { to: 0 })];
    await isInside.promise;
    answers.push(...others.map((other) => deliver('evt_same', other)));
    await allArrived.promise;
    await waitInTheDatabase(dataSource, others.length);
    mayEnd.resolve();
    return Promise.all(answers);
  }

  it.each([
    ['another process', 1],
    ['the same one', 0],
  ])(
    'lets a second delivery, in %s, wait for the first; it is a duplicate if the first commits',
    async (_where, to) => {
      expect(await firstOf([{ to }], 'commits')).toEqual([{ isDuplicate: false }, { isDuplicate: true }]);
      expect(await balance()).toBe(1);
    },
  );

  it.each([
    ['another process', 1],
    ['the same one', 0],
  ])(
    'lets a second delivery, in %s, wait for the first, and processes it if the first rolls back',
    async (_where, to) => {
      expect(await firstOf([{ to }], 'rolls back')).toEqual([500, { isDuplicate: false }]);
      expect(await balance()).toBe(1);
    },
  );

  // On MySQL and MariaDB the two waiting deliveries deadlock here.
  it('processes one of two waiting deliveries when the first rolls back; the other is a duplicate', async () => {
    const [first, ...waited] = await firstOf([{ to: 0 }, { to: 1 }], 'rolls back');
    expect(first).toBe(500);
    expect(waited.map((answer) => JSON.stringify(answer)).toSorted()).toEqual([
      '{"isDuplicate":false}',
      '{"isDuplicate":true}',
    ]);
    expect(await balance()).toBe(1);
  });

  it('processes a webhook once when many deliveries arrive together and some of them fail', async () => {
    let failures = 5;
    during = async () => {
      failures -= 1;
      if (failures >= 0) throw new Error('not yet');
    };
    const rounds: unknown[][] = [];
    while (rounds.length === 0 || rounds.at(-1)?.includes(500)) {
      rounds.push(await Promise.all(Array.from({ length: 10 }, (_, i) => deliver('evt_storm', { to: i }))));
      expect(rounds.length).toBeLessThan(10);
    }
    expect(await balance()).toBe(1);
    const answers = rounds.flat().filter((answer) => answer !== 500) as { isDuplicate: boolean }[];
    expect(answers.filter(({ isDuplicate }) => !isDuplicate)).toHaveLength(1);
  });

  it('joins a transaction of the handler, whose other writes are committed even for a duplicate', async () => {
    const visit = (id: string, name: string, to = 0) => deliver(id, { to, path: '/visit', data: { visit: name } });
    const answers = await Promise.all([visit('evt_v', 'a', 0), visit('evt_v', 'b', 1)]);
    expect(answers).toContainEqual({ isDuplicate: false, result: 'deposited' });
    expect(answers).toContainEqual({ isDuplicate: true });
    expect(await balance()).toBe(1);
    expect(await dataSource.getRepository(Visit).count()).toBe(2);
  });

  it('rolls back the id and the writes when a handler continues after a failure', async () => {
    const visit = (name: string) => deliver('evt_w', { path: '/visit', data: { visit: name } });
    during = () => Promise.reject(new Error('no'));
    expect(await visit('a')).toEqual({ failed: 'no' });
    expect([await balance(), await remembered()]).toEqual([0, []]);
    during = async () => undefined;
    expect(await visit('b')).toEqual({ isDuplicate: false, result: 'deposited' });
    expect(await balance()).toBe(1);
    expect(await dataSource.getRepository(Visit).count()).toBe(2);
  });

  it('distinguishes the ids of different sources, and ids that a collation would treat as equal', async () => {
    const inbox = apps[0]?.app.get(IncomingWebhookInbox) as IncomingWebhookInbox;
    const long = 'x'.repeat(200);
    const keys = ['a', 'A', 'ä', 'a ', ' a', 'a\0', '', long, `${long}y`, '🦜'];
    for (const source of ['bank', 'shop']) {
      for (const id of keys) {
        const once = () => inbox.once({ source, id }, dataSource.manager, () => undefined);
        expect([source, id, (await once()).isDuplicate]).toEqual([source, id, false]);
        expect([source, id, (await once()).isDuplicate]).toEqual([source, id, true]);
      }
    }
    expect(await remembered()).toHaveLength(2 * keys.length);
  });

  it('deletes old ids in batches, and no young ones', async () => {
    const { clock } = app(0);
    const inbox = app(0).app.get(IncomingWebhookInbox);
    const start = clock.now();
    await dataSource.transaction(async (manager) => {
      for (let i = 0; i < 1_203; i++) {
        await manager.query(
          `insert into webhook_inbox (source, id, received_at) values ('${i % 2 ? 'bank' : 'shop'}', 'old_${i}', ${start})`,
        );
      }
    });
    clock.advance(30 * DAY + 1);
    try {
      expect(await deliver('evt_young')).toEqual({ isDuplicate: false });
      expect(await inbox.prune()).toBe(1_203);
      expect(await remembered()).toEqual(['bank evt_young']);
      expect(await deliver('evt_young')).toEqual({ isDuplicate: true });
      expect(await inbox.prune()).toBe(0);
    } finally {
      clock.set(start);
    }
  });

  it('deletes each old id once when two processes prune at the same time', async () => {
    const { clock } = app(0);
    const start = clock.now();
    for (let i = 0; i < 40; i++) {
      await dataSource.query(
        `insert into webhook_inbox (source, id, received_at) values ('bank', 'old_${i}', ${start - 31 * DAY})`,
      );
    }
    await Promise.all(apps.map((test) => test.app.get(IncomingWebhookInbox).prune()));
    expect(await remembered()).toEqual([]);
  });

  it('rejects a manager of another data source', async () => {
    const other = await new DataSource({ type: 'better-sqlite3', database: ':memory:' }).initialize();
    const inbox = app(0).app.get(IncomingWebhookInbox);
    await expect(inbox.once({ source: 'bank', id: 'x' }, other.manager, () => 1)).rejects.toMatchObject({
      code: 'INBOX_MISSING',
    });
    await other.destroy();
  });
});

describeDatabases('the table of the inbox', (database) => {
  it.each([
    { title: 'by default', options: {}, tablePrefix: undefined },
    { title: 'under prefixes', options: { entityPrefix: 'app_' }, tablePrefix: 'hooks_' },
  ])('has the same columns from its migration as from its entity, $title', async ({ options, tablePrefix }) => {
    const created = await database.create();
    const prefix = tablePrefix === undefined ? {} : { tablePrefix };
    const source = await new DataSource({
      ...created.options,
      ...options,
      entities: webhookInboxEntities({ type: created.options.type as SupportedDriver, ...prefix }),
      migrations: webhookInboxMigrations(prefix),
    } as DataSourceOptions).initialize();
    try {
      const wanted = async () => (await source.driver.createSchemaBuilder().log()).upQueries.map(({ query }) => query);
      await source.runMigrations();
      const left = await wanted();
      await source.undoLastMigration();
      expect((await wanted()).length).toBeGreaterThan(0);
      if (database.name !== 'mysql2') expect(left).toEqual([]);
    } finally {
      await source.destroy();
      await created.drop();
    }
  });

  it('stops the bootstrap while it is missing, with a message that names the migration', async () => {
    const created = await database.create();
    const start = (options: object) =>
      startReceiverApp({
        receiver: { sources, inbox: {} },
        controllers: [BankController],
        imports: [
          TypeOrmModule.forRoot({ ...created.options, entities: [Account, Visit], retryAttempts: 0, ...options }),
        ],
      });
    try {
      await expect(start({})).rejects.toMatchObject({
        code: 'TABLES_MISSING',
        message: expect.stringMatching(/webhook_inbox.*webhookInboxMigrations\(\).*migration:run/s) as string,
      });
      const test = await start({ migrations: webhookInboxMigrations(), migrationsRun: true });
      await test.close();
    } finally {
      await created.drop();
    }
  });
});

describe('without an inbox', () => {
  it('processInTransaction fails with a message that names the option', async () => {
    const logged: string[] = [];
    vi.spyOn(Logger.prototype, 'error').mockImplementation((text: unknown) => void logged.push(String(text)));
    const test = await startReceiverApp({
      receiver: { sources },
      controllers: [BankController],
      imports: [TypeOrmModule.forRoot({ type: 'better-sqlite3', database: ':memory:', entities: [Account, Visit] })],
    });
    try {
      const body = JSON.stringify({ type: 'a', data: { amount: 1 } });
      const headers = signedByStandard(SECRET, body, { at: test.clock.now() });
      expect((await test.post('/deposit', headers, body)).status).toBe(500);
      expect(logged.join()).toContain('inbox: {}');
      expect(await test.app.get(IncomingWebhookInbox).prune()).toBe(0);
    } finally {
      await test.close();
      vi.restoreAllMocks();
    }
  });
});
