import { DataSource, type DataSourceOptions } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { createCommandLine, dataSourceFile, type CommandLine } from './command-line.js';

let cli: CommandLine;
beforeAll(async () => {
  cli = await createCommandLine();
});
afterAll(() => cli.remove());

describeDatabases('the command line on an empty database', (database) => {
  let fresh: FreshDatabase;
  beforeAll(async () => {
    fresh = await database.create();
    await cli.project.write('data-source.js', dataSourceFile(fresh.options));
  });
  afterAll(async () => {
    // First, because `drop()` would close the connections that a command left open.
    await cli.end();
    await fresh.drop();
  });

  const run = (...args: string[]) => cli.run([...args, '-d', 'data-source.js']);
  const json = <T>(...args: string[]) => cli.json<T>(...args, '-d', 'data-source.js');
  const onDatabase = async <T>(
    { options }: FreshDatabase,
    work: (dataSource: DataSource) => Promise<T>,
  ): Promise<T> => {
    const dataSource = await new DataSource({ ...options, entities: [] } as DataSourceOptions).initialize();
    try {
      return await work(dataSource);
    } finally {
      await dataSource.destroy();
    }
  };

  it('says that the tables are missing', async () => {
    const { code, out } = await run('status');
    expect(code).toBe(1);
    expect(out).toMatch(/^tables +webhook_\* {2}.*webhook_events.* missing: run migrate$/m);
    const examined = await json<{ check: string; level: string; fix?: string }[]>('doctor');
    const tables = examined.find(({ check }) => check === 'tables');
    expect(tables).toMatchObject({ level: 'FAIL', fix: 'Run: npx nestjs-entity-webhooks migrate -d data-source.js' });
    expect(await run('listeners', 'list')).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^TABLES_MISSING: /) as string,
    });
  });

  it('prints the SQL of the tables, which makes them on another database', async () => {
    const statements = await json<string[]>('sql');
    expect(await json('migrate', '--dry-run')).toEqual(statements);
    expect((await run('status')).code).toBe(1);
    const other = await database.create();
    try {
      await onDatabase(other, async (dataSource) => {
        for (const statement of statements) await dataSource.query(statement);
      });
      await cli.project.write('other.js', dataSourceFile(other.options));
      expect(await cli.run(['status', '-d', 'other.js'])).toMatchObject({ code: 0, err: '' });
    } finally {
      await other.drop();
    }
  });

  it('runs the migrations of this library once, and records them for TypeORM', async () => {
    expect((await run('migrate', '--to', '4')).err).toMatch(/^INVALID_ARGUMENT: Invalid value 4 for --to/);
    expect(await json('migrate', '--to', '3')).toEqual({ ran: ['CreateWebhooks_webhook_1795996800000'] });
    expect(await run('migrate')).toEqual({ code: 0, out: 'The webhook tables are up to date.\n', err: '' });
    expect(await run('migrate', '--dry-run')).toMatchObject({ out: '-- The webhook tables are up to date.\n' });
    const [recorded, parcels] = await onDatabase(fresh, async (dataSource) => [
      (await dataSource.query('select name from migrations')) as unknown,
      await dataSource.createQueryRunner().hasTable('cli_parcel'),
    ]);
    expect(recorded).toEqual([{ name: 'CreateWebhooks_webhook_1795996800000' }]);
    // `synchronize: true` of the data source changes nothing here.
    expect(parcels).toBe(false);
    const status = await json<{ isReady: boolean; tables: object }>('status');
    expect(status).toMatchObject({ isReady: true, tables: { missing: [], version: 3, known: 3 }, waiting: { due: 0 } });
  });

  it('finds nothing to repair in new tables', async () => {
    const examined = await json<{ check: string; level: string }[]>('doctor');
    const levels = Object.fromEntries(examined.map(({ check, level }) => [check, level]));
    expect(levels).toEqual({
      ...{ connection: 'ok', clock: 'ok', tables: 'ok', triggers: 'ok', privileges: 'ok' },
      // No key is set, and no application has run yet.
      ...{ 'sealing keys': 'warn', dispatcher: 'warn', 'event types': 'ok', 'damaged rows': 'ok' },
      'payload versions': 'ok',
      ...{ processes: 'ok', sending: 'ok' },
      ...(database.name === 'sqlite' ? { sqlite: 'ok' } : { connections: 'ok' }),
      ...(database.name === 'postgres' ? { 'wake-ups': 'ok' } : {}),
    });
  });

  it('creates a listener, and counts what it could get', async () => {
    const create = ['listeners', 'create', '--url', 'http://127.0.0.1:9/', '--events', 'parcel.*', '--owner', 'acme'];
    const { id } = await json<{ id: string }>(...create);
    const counted = await json<object>('replay', '--listener', id, '--since', '1d', '--dry-run');
    expect(counted).toEqual({ count: 0, capped: false, oldest: null, newest: null, dryRun: true });
  });
});

describe('sql without a data source', () => {
  it.each([
    ['postgres', '"webhook_events"'],
    ['mysql', '`webhook_events`'],
    ['mariadb', '`webhook_events`'],
    ['sqlite', '"webhook_events"'],
  ])('prints the tables for %s', async (dialect, table) => {
    const { code, out } = await cli.run(['sql', '--dialect', dialect]);
    expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining(`CREATE TABLE ${table}`) as string });
  });

  it('needs one of both, and takes a prefix', async () => {
    expect((await cli.run(['sql'])).err).toMatch(/^INVALID_ARGUMENT: Give -d <data-source file> or --dialect/);
    expect((await cli.run(['sql', '--dialect', 'postgres', '--prefix', 'hook_'])).out).toContain('"hook_events"');
  });
});
