import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { DataSource, EntitySchema, type DataSourceOptions } from 'typeorm';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import { freePort } from '../support/child-process.js';
import { describeOn, describeServers, type FreshDatabase } from '../support/databases.js';
import { createSqlite } from '../support/fresh-database.js';
import { makeDay } from '../support/partitioned.js';
import { startPgBouncer } from '../support/pgbouncer.js';
import { startApp } from '../support/webhooks-app.js';
import { dayText } from '../../libs/webhooks/src/store/database/partition-names.js';
import { createCommandLine, dataSourceFile, PARCEL, type CommandLine } from './command-line.js';

interface Examined {
  readonly check: string;
  readonly level: 'ok' | 'warn' | 'FAIL';
  readonly text: string;
  readonly fix?: string;
}

const DAY = 86_400_000;
const Parcel = new EntitySchema(PARCEL as never);
const KEY = { id: 'first', key: Buffer.alloc(32, 1).toString('base64') };
const OTHER_KEY = { id: 'second', key: Buffer.alloc(32, 2).toString('base64') };
const SECRET = `whsec_${Buffer.alloc(32, 3).toString('base64')}`;
const keys = (key: typeof KEY) => `secrets: { keys: [${JSON.stringify(key)}] },`;

let cli: CommandLine;
beforeAll(async () => {
  cli = await createCommandLine();
});
afterAll(() => cli.remove());

async function doctor(args: readonly string[], env?: Record<string, string>) {
  const { code, out, err } = await cli.run(['doctor', '--json', ...args], env && { env });
  if (code === 2) throw new Error(err);
  const examined = JSON.parse(out) as Examined[];
  return {
    code,
    levels: Object.fromEntries(examined.map(({ check, level }) => [check, level])),
    finding: (name: string) => examined.find(({ check }) => check === name),
  };
}

/** A receiver that verifies its requests. @param isRaw whether it verifies the raw body, or JSON that it has parsed and written again */
async function receiver(isRaw: boolean): Promise<{ url: string; server: Server }> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const raw = Buffer.concat(chunks).toString('utf8');
      const body = isRaw ? raw : JSON.stringify(JSON.parse(raw));
      try {
        verifyIncomingWebhook({ headers: request.headers, body, secrets: SECRET });
        response.writeHead(204).end();
      } catch {
        response.writeHead(401).end();
      }
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks` };
}

describe('doctor on SQLite', () => {
  let fresh: FreshDatabase;
  const servers: Server[] = [];
  beforeAll(async () => {
    fresh = await createSqlite(cli.project.folder);
    const app = await startApp({
      database: fresh.options,
      entities: [{ entity: Parcel, owner: 'customerId' }],
      webhooks: { publishedTypes: ['invoice.overdue'], secrets: { keys: [KEY] } },
    });
    await app.listeners.create({ events: ['invoice.*'], url: app.receiver.url });
    await app.webhooks.publish('invoice.overdue', {});
    await app.webhooks.publish('invoice.overdue', {});
    await app.dispatcher.drain();
    await app.dispatcher.runChores();
    await app.close();
  });
  afterAll(() => {
    for (const server of servers) server.close();
  });
  const start = async (isRaw: boolean) => {
    const { url, server } = await receiver(isRaw);
    servers.push(server);
    return url;
  };

  it('finds nothing where nothing is wrong', async () => {
    await cli.project.write('healthy.js', dataSourceFile(fresh.options, keys(KEY)));
    const { code, levels } = await doctor(['-d', 'healthy.js', '--url', await start(true), '--secret', SECRET]);
    expect(new Set(Object.values(levels))).toEqual(new Set(['ok']));
    expect(Object.keys(levels)).toEqual(
      expect.arrayContaining([
        ...['connection', 'clock', 'tables', 'triggers', 'privileges', 'sealing keys', 'sqlite', 'raw body'],
        ...['event types', 'payload versions', 'damaged rows', 'dispatcher', 'processes', 'sending', 'egress'],
      ]),
    );
    expect(code).toBe(0);
  });

  it('finds a pinned version that is not offered', async () => {
    // The listener was created when the type had version 1.
    const type = "{ type: 'invoice.overdue', version: 2, versions: {} }";
    await cli.project.write('versions.js', dataSourceFile(fresh.options, `${keys(KEY)} publishedTypes: [${type}],`));
    const { levels, finding } = await doctor(['-d', 'versions.js']);
    expect(levels).toMatchObject({ 'payload versions': 'warn', 'event types': 'ok' });
    expect(finding('payload versions')?.text).toMatch(
      /^1 pinned version is not offered, such as version 1 of invoice\.overdue for lst_/,
    );
  });

  it('finds each of twelve faults, and says what to do', async () => {
    const database = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
    const tenMinutesAgo = Date.now() - 10 * 60 * 1_000;
    // Damaged rows; an event that no dispatcher takes; an index that an interrupted migration did not make.
    await database.query(`insert into webhook_damaged (seq, event_at, reason, created_at) values (1, 0, 'a test', 0)`);
    await database.query(`insert into webhook_outbox (seq, event_at, claims) values (2, ${tenMinutesAgo}, 0)`);
    // A process that was killed; sending that nobody has resumed.
    await database.query(
      `insert into webhook_processes (id, host, version, started_at, seen_at, sending, concurrency) values ('prc_1', 'web-1', '0.1.0', 0, ${tenMinutesAgo}, 0, 100)`,
    );
    const paused = JSON.stringify({ paused: true, reason: 'a leak', since: tenMinutesAgo, actor: 'ann', pausedMs: 0 });
    await database.query(`insert into webhook_settings (name, value, updated_at) values ('sending', '${paused}', 0)`);
    // Another key; no isolation; no published types, so that a listener has an unknown type; triggers that are not installed.
    const settings = `${keys(OTHER_KEY)} sqlite: { isolate: false }, publishedTypes: [],`;
    const feature = `{ entity: Parcel, capture: 'trigger' }`;
    await cli.project.write('sick.js', dataSourceFile(fresh.options, settings, feature));
    // A host whose clock is two minutes ahead.
    await cli.project.write('clock.mjs', 'const { now } = Date; Date.now = () => now() + 120_000;');
    const ahead = { NODE_OPTIONS: `--import=${cli.project.folder}/clock.mjs` };
    const { code, levels, finding } = await doctor(
      ['-d', 'sick.js', '--url', await start(false), '--secret', SECRET],
      ahead,
    );
    expect(code).toBe(1);
    expect(levels).toMatchObject({
      ...{ clock: 'FAIL', triggers: 'FAIL', 'sealing keys': 'FAIL', sqlite: 'FAIL', 'raw body': 'FAIL' },
      ...{ 'event types': 'warn', 'damaged rows': 'warn', dispatcher: 'FAIL' },
      ...{ processes: 'warn', sending: 'warn' },
    });
    expect(finding('clock')?.text).toMatch(/differ by 2 min$/);
    expect(finding('triggers')?.fix).toContain('triggers --install -d sick.js');
    expect(finding('sealing keys')?.text).toMatch(/^the secrets of 1 listener cannot be read, such as lst_/);
    expect(finding('raw body')?.text).toContain('answers 401 to the same JSON with spaces: it verifies parsed JSON');
    expect(finding('event types')?.text).toMatch(/such as invoice\.\* of lst_/);
    expect(finding('damaged rows')?.text).toMatch(/^1 damaged event, 0 damaged images/);
    expect(finding('dispatcher')?.text).toMatch(/^the oldest event waits 10(\.\d)? min$/);
    expect(finding('processes')?.text).toMatch(
      /^1 process stopped without a shutdown, for example on web-1, not seen for 10(\.\d)? min$/,
    );
    expect(finding('sending')?.text).toMatch(/^paused since .+ by ann: a leak$/);
    for (const [check, level] of Object.entries(levels))
      if (level !== 'ok') expect(finding(check)?.fix).toMatch(/\.$|-d sick\.js$|sending resume$/);
    await database.query(`drop index ${(await indexOf(database)).name}`);
    await database.destroy();
    const { finding: without } = await doctor(['-d', 'sick.js']);
    expect(without('tables')).toMatchObject({ level: 'FAIL', text: '1 index is missing' });
    expect(without('tables')?.fix).toMatch(/^Run: CREATE UNIQUE INDEX /);
  });

  it('finds why a URL cannot be reached', async () => {
    await cli.project.write('strict.js', dataSourceFile(fresh.options, 'security: {},'));
    const { finding: blocked } = await doctor(['-d', 'strict.js', '--url', 'https://10.0.0.1/hooks']);
    expect(blocked('egress')).toMatchObject({
      level: 'FAIL',
      text: expect.stringMatching(/^URL_ADDRESS_BLOCKED: /) as string,
    });
    const refused = `http://127.0.0.1:${await freePort()}/`;
    const { finding } = await doctor(['-d', 'healthy.js', '--url', refused]);
    expect(finding('egress')).toMatchObject({
      level: 'FAIL',
      text: expect.stringMatching(/^CONNECTION_REFUSED: /) as string,
    });
  });

  it('prints a line for each check, and the fix below it', async () => {
    const { out } = await cli.run(['doctor', '-d', 'healthy.js', '--url', 'http://127.0.0.1:9/']);
    expect(out).toMatch(/^ok {4}connection +the database answers$/m);
    expect(out).toMatch(/^FAIL {2}egress +CONNECTION_REFUSED: .*\n +fix: Open the way /m);
    expect(await cli.run(['doctor', '-d', 'healthy.js', '--secret', SECRET])).toMatchObject({ code: 2 });
  });

  async function indexOf(database: DataSource): Promise<{ name: string }> {
    const rows: unknown = await database.query(
      `select name from sqlite_master where type = 'index' and sql like '%UNIQUE%webhook_deliveries%event_seq%'`,
    );
    return (rows as { name: string }[])[0] as { name: string };
  }
});

describeServers('doctor on a server', (database) => {
  let fresh: FreshDatabase;
  beforeAll(async () => {
    fresh = await database.create();
    await cli.project.write('server.js', dataSourceFile(fresh.options));
    expect(await cli.run(['migrate', '-d', 'server.js'])).toMatchObject({ code: 0 });
  });
  afterAll(() => fresh.drop());

  it('finds a pool that is larger than the server allows', async () => {
    // The pool opens connections one by one, so that the size alone does no harm.
    await cli.project.write('large.js', dataSourceFile({ ...fresh.options, poolSize: 100_000 }));
    const { code, finding } = await doctor(['-d', 'large.js']);
    expect(finding('connections')).toMatchObject({
      level: 'FAIL',
      text: expect.stringContaining('up to 100') as string,
    });
    expect(code).toBe(1);
  });

  it('finds a database that does not answer', async () => {
    const port = await freePort();
    const { url, ...options } = fresh.options as { url?: string };
    const elsewhere =
      url === undefined ? { ...options, port } : { ...options, url: url.replace(/:\d+\//, `:${port}/`) };
    await cli.project.write('away.js', dataSourceFile(elsewhere));
    const { code, finding } = await doctor(['-d', 'away.js']);
    expect({ code, ...finding('connection') }).toMatchObject({
      code: 1,
      level: 'FAIL',
      text: expect.stringContaining('ECONNREFUSED') as string,
    });
    expect(await cli.run(['listeners', 'list', '-d', 'away.js'])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^DATABASE_UNREACHABLE: .*ECONNREFUSED/) as string,
    });
  });
});

describeOn('postgres', 'doctor', (database) => {
  let fresh: FreshDatabase;
  beforeAll(async () => {
    fresh = await database.create();
    await cli.project.write('postgres.js', dataSourceFile(fresh.options));
    expect(await cli.run(['migrate', '-d', 'postgres.js'])).toMatchObject({ code: 0 });
  });
  afterAll(() => fresh.drop());

  it('finds missing privileges of the user', async () => {
    const admin = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
    const role = `webhooks_doctor_${process.pid}`;
    await admin.query(`create role ${role} login password 'doctor'`);
    try {
      await admin.query(`grant select, insert, update on all tables in schema public to ${role}`);
      const url = new URL((fresh.options as { url: string }).url);
      url.username = role;
      url.password = 'doctor';
      await cli.project.write('role.js', dataSourceFile({ ...fresh.options, url: url.href }));
      const { finding } = await doctor(['-d', 'role.js']);
      expect(finding('privileges')).toMatchObject({
        level: 'FAIL',
        text: expect.stringMatching(
          /^the user may not DELETE on "webhook_events": permission denied.*, and \d+ more$/,
        ) as string,
      });
      await admin.query(`grant delete on all tables in schema public to ${role}`);
      expect((await doctor(['-d', 'role.js'])).finding('privileges')?.text).toMatch(
        /^the user may not use the sequence on/,
      );
    } finally {
      await admin.query(`drop owned by ${role}`);
      await admin.query(`drop role ${role}`);
      await admin.destroy();
    }
  });

  it.skipIf(!inject('servers').pgbouncer)('finds a pooler that passes no notifications on', async () => {
    const pooler = await startPgBouncer();
    const pooled = await pooler.create();
    try {
      await cli.project.write('pooled.js', dataSourceFile(pooled.options));
      expect(await cli.run(['migrate', '-d', 'pooled.js'])).toMatchObject({ code: 0 });
      const silent = await doctor(['-d', 'pooled.js']);
      expect(silent.finding('wake-ups')).toMatchObject({
        level: 'warn',
        fix: expect.stringContaining('wakeUp.url') as string,
      });
      await cli.project.write('direct.js', dataSourceFile(pooled.options, `wakeUp: { url: '${pooled.directUrl}' },`));
      expect((await doctor(['-d', 'direct.js'])).finding('wake-ups')).toMatchObject({ level: 'ok' });
    } finally {
      await pooled.drop();
      await pooler.stop();
    }
  });
});

describeOn('postgres', 'doctor with partitions by day', (database) => {
  const today = Math.floor(Date.now() / DAY);
  let fresh: FreshDatabase;
  let admin: DataSource;
  beforeAll(async () => {
    fresh = await database.create();
    admin = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
    await cli.project.write('days.js', dataSourceFile(fresh.options));
    expect(await cli.run(['migrate', '-d', 'days.js', '--partitions', 'day'])).toMatchObject({ code: 0 });
  });
  afterAll(async () => {
    await admin.destroy();
    await fresh.drop();
  });
  const tables = async (file = 'days.js') => (await doctor(['-d', file])).finding('tables');

  it('finds the first day without a partition', async () => {
    // The migration makes the partitions of three days ahead. Midnight may have passed since.
    const finding = await tables();
    expect(finding).toMatchObject({
      level: 'warn',
      text: expect.stringMatching(/^\d{4}-\d\d-\d\d has no partition: its rows go to the default partition$/) as string,
      fix: expect.stringContaining('Start a dispatcher') as string,
    });
    expect([3, 4, 5].map((days) => dayText(today + days))).toContain(finding?.text.slice(0, 10));
  });

  describe('whose next days have partitions', () => {
    beforeAll(async () => {
      for (let day = 0; day <= 9; day++) await makeDay(admin, today + day);
    });

    it('warns only if the server has too few locks', async () => {
      const [{ locks }] = await admin.query<[{ locks: string }]>(
        `select current_setting('max_locks_per_transaction') as locks`,
      );
      expect(await tables()).toMatchObject(
        Number(locks) < 256
          ? {
              level: 'warn',
              text: `max_locks_per_transaction is ${locks}, too few for partitioned tables`,
              fix: expect.stringContaining('Set it to 256 or more') as string,
            }
          : { level: 'ok', text: expect.stringContaining('partitioned by day') as string },
      );
    });

    it('finds rows of the default partitions', async () => {
      await admin.query(
        `insert into webhook_attempts (delivery_id, event_at, number, outcome, duration_ms, superseded, started_at) values ('dlv_1', 0, 1, 'accepted', 1, 0, 0)`,
      );
      expect(await tables()).toMatchObject({
        level: 'warn',
        text: 'the default partitions have rows: no dispatcher ran when their days began',
        fix: expect.stringContaining('Retention deletes them') as string,
      });
      await admin.query('delete from webhook_attempts');
      expect((await tables())?.text).not.toContain('default partitions');
    });

    it('finds a user that may not make partitions', async () => {
      const role = `webhooks_days_${process.pid}`;
      await admin.query(`create role ${role} login password 'doctor'`);
      try {
        await admin.query(`grant select, insert, update, delete on all tables in schema public to ${role}`);
        await admin.query(`grant usage on all sequences in schema public to ${role}`);
        const url = new URL((fresh.options as { url: string }).url);
        url.username = role;
        url.password = 'doctor';
        await cli.project.write('days-role.js', dataSourceFile({ ...fresh.options, url: url.href }));
        expect(await tables('days-role.js')).toMatchObject({
          level: 'warn',
          text: 'the database user does not own the webhook tables, and cannot make partitions',
        });
      } finally {
        await admin.query(`drop owned by ${role}`);
        await admin.query(`drop role ${role}`);
      }
    });
  });
});
