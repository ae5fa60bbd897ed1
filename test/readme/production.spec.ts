import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort, startProgram } from '../support/child-process.js';
import { databases, type FreshDatabase } from '../support/databases.js';
import { codeBlock, createScratchProject, type ScratchProject } from '../support/scratch-project.js';

const TOUR = ['src/order.entity.ts', 'src/app.module.ts', 'src/hooks.controller.ts', 'src/main.ts'];

/** Each test runs one step of the page, in the order of the page. */
describe('the steps of docs/production.md, on an empty PostgreSQL', () => {
  let project: ScratchProject;
  let fresh: FreshDatabase;
  let steps: string[];
  const env: Record<string, string> = { NO_COLOR: '1', WEBHOOK_SECRET: `whsec_${randomBytes(32).toString('base64')}` };

  beforeAll(async () => {
    project = await createScratchProject();
    fresh = await (databases.find(({ name }) => name === 'postgres') as (typeof databases)[0]).create();
    env.DATABASE_URL = (fresh.options as { url: string }).url;
    steps = (await codeBlock('docs/production.md', 'production-steps')).trim().split('\n');
    for (const file of TOUR) await project.write(file, await codeBlock('docs/tour.md', file));
    await project.write('src/data-source.ts', await codeBlock('docs/production.md', 'src/data-source.ts'));
    await project.write('src/app.module.ts', await productionModule());
  }, 120_000);
  afterAll(async () => {
    await project.remove();
    await fresh.drop();
  });

  /** The module of the tour, with the lines of the page for production. */
  async function productionModule(): Promise<string> {
    const tour = await codeBlock('docs/tour.md', 'src/app.module.ts');
    const module = (await codeBlock('docs/production.md', 'production-module')).trimEnd();
    const changed = tour.replace(/^ *TypeOrmModule\.forRoot\(.*\),$/m, module);
    expect(changed).toContain(module);
    expect(changed).not.toContain('better-sqlite3');
    return (await codeBlock('docs/production.md', 'production-import')) + changed;
  }

  const shell = (command: string) => project.shell(command, env);
  const start = async () => {
    const [program = '', ...args] = (steps.at(-1) ?? '').split(' ');
    return startProgram(program, args, { cwd: project.folder, env: { ...env, PORT: String(await freePort()) } });
  };
  async function onDatabase<T>(work: (dataSource: DataSource) => Promise<T>): Promise<T> {
    const dataSource = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
    try {
      return await work(dataSource);
    } finally {
      await dataSource.destroy();
    }
  }
  const generated = async () => {
    const folder = join(project.folder, 'src/migrations');
    const files = await readdir(folder);
    return Promise.all(files.toSorted().map((file) => readFile(join(folder, file), 'utf8')));
  };
  const step = async (pattern: RegExp) => {
    const found = steps.filter((one) => pattern.test(one));
    expect(found).not.toHaveLength(0);
    await shell(found[0] as string);
  };

  it('are: build, generate, build, run, start', () => {
    expect(steps).toEqual([
      'npm run build',
      expect.stringMatching(/^npx typeorm migration:generate -d dist\/data-source\.js src\/migrations\/\w+$/),
      'npm run build',
      expect.stringMatching(/^npx typeorm migration:run -d dist\/data-source\.js$/),
      'node dist/main.js',
    ]);
  });

  it('generate a migration of the tables of the application, without the webhook tables', async () => {
    await step(/^npm run build$/);
    await step(/migration:generate/);
    const [migration = '', ...others] = await generated();
    expect(others).toEqual([]);
    expect(migration).toContain('CREATE TABLE "order"');
    expect(migration).not.toContain('webhook_');
  }, 120_000);

  it('do not start the application before the migrations have run, and the error says why', async () => {
    const program = await start();
    try {
      await program.printed('The webhook tables are missing or out of date: webhook_events');
      expect(program.output()).toContain("...webhookMigrations() from 'nestjs-entity-webhooks/migrations'");
    } finally {
      await program.stop();
    }
  }, 60_000);

  it('run the migration of the application and the webhook migrations, once', async () => {
    await step(/^npm run build$/);
    await step(/migration:run/);
    const names = await onDatabase((db) => db.query<{ name: string }[]>('SELECT name FROM migrations ORDER BY id'));
    expect(names.map(({ name }) => name.replace(/\d+$/, ''))).toEqual(
      expect.arrayContaining(['Init', expect.stringMatching(/webhook/i)]),
    );
    await step(/migration:run/);
    expect(await onDatabase((db) => db.query('SELECT name FROM migrations'))).toHaveLength(names.length);
  }, 120_000);

  it('start an application that captures, sends and receives', async () => {
    const program = await start();
    try {
      await program.printed(`received order.updated { id: 1, status: 'paid', total: '42.00' } { status: 'new' }`);
      expect(program.output()).not.toMatch(/ERROR|is missing|out of date/);
    } finally {
      await program.stop();
    }
  }, 60_000);

  it('send from a worker process, beside a web process that sends nothing', async () => {
    const module = await readFile(join(project.folder, 'src/app.module.ts'), 'utf8');
    const application = await codeBlock('docs/production.md', 'worker-application');
    const changed = module.replace(/^ *WebhooksModule\.forRoot\(\{.*?^ *\}\),\n/ms, () => application);
    expect(changed).toContain(application);
    await project.write('src/app.module.ts', `import { webhooks } from './webhooks-options.js';\n${changed}`);
    const options = await codeBlock('docs/production.md', 'src/webhooks-options.ts');
    const security = `security: { allowedAddresses: ['127.0.0.0/8'], allowHttp: true },`;
    await project.write('src/webhooks-options.ts', options.replace(/^\};$/m, `  ${security}\n};`));
    await project.write('src/worker.ts', await codeBlock('docs/production.md', 'src/worker.ts'));
    await shell('npm run build');
    const web = await start();
    const worker = startProgram('node', ['dist/worker.js'], { cwd: project.folder, env });
    try {
      await web.printed(`received order.updated { id: 3, status: 'paid', total: '42.00' } { status: 'new' }`);
      const sending = () => onDatabase((db) => db.query('SELECT concurrency FROM webhook_processes'));
      await expect.poll(sending, { timeout: 20_000 }).toEqual([{ concurrency: 128 }]);
      expect(worker.output()).not.toContain('ERROR');
    } finally {
      await worker.stop();
      await web.stop();
    }
  }, 120_000);

  it('find no change afterwards, and with a new column generate that column alone', async () => {
    await expect(shell('npx typeorm migration:generate -d dist/data-source.js src/migrations/Nothing')).rejects.toThrow(
      /No changes in database schema were found/,
    );
    const entity = await codeBlock('docs/tour.md', 'src/order.entity.ts');
    const column = `@Column({ type: 'varchar', nullable: true })\n  note: string | null;\n}`;
    await project.write('src/order.entity.ts', entity.replace(/}\s*$/, `  ${column}\n`));
    await step(/^npm run build$/);
    await shell('npx typeorm migration:generate -d dist/data-source.js src/migrations/Note');
    const [, second = ''] = await generated();
    expect(second).toContain('ALTER TABLE "order" ADD "note"');
    expect(second).not.toMatch(/webhook_|DROP TABLE/);
  }, 180_000);
});
