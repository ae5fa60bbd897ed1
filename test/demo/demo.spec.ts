// Misspelt on purpose. cspell:ignore ordre onec
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { DataSourceOptions } from 'typeorm';
import { createWebhooksClient } from 'nestjs-entity-webhooks/client';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { describeDatabases } from '../support/databases.js';
import { buildPages } from '../dashboard/built-pages.js';
import { compiler, createScratchProject, WORKSPACE, type ScratchProject } from '../support/scratch-project.js';

const SECOND = 1_000;
const run = promisify(execFile);
let project: ScratchProject;
let main: string;

// The demo runs compiled, against the package's compiled entry point. `npm run typecheck` checks its types.
beforeAll(async () => {
  project = await createScratchProject();
  main = join(project.folder, 'dist/main.js');
  const quick = ['--noCheck', '--noResolve', '--types', '', '--sourceMap', 'false'];
  const compiled = compiler(
    ...['-p', join(WORKSPACE, 'apps/demo/tsconfig.app.json'), '--outDir', join(project.folder, 'dist'), ...quick],
  );
  await Promise.all([compiled, buildPages()]);
  const installed = join(project.folder, 'node_modules/nestjs-entity-webhooks');
  await cp(join(WORKSPACE, 'libs/webhooks/dist/ui'), join(installed, 'dist/ui'), { recursive: true });
}, 120 * SECOND);
afterAll(() => project.remove());

describeDatabases('npm run demo -- --once', (db) => {
  it(
    'delivers exactly the webhooks that the tour expects, even if an earlier tour left tables',
    { timeout: 60 * SECOND },
    async () => {
      const database = await db.create();
      onTestFinished(() => database.drop());
      const env = { ...process.env, DATABASE_URL: urlOf(database.options) };

      await run(process.execPath, [main, '--once'], { env });
      const { stdout, stderr } = await run(process.execPath, [main, '--once'], { env });

      expect(stderr).toBe('');
      expect(stdout.split('\n').filter((line) => /^ {2}|^All/.test(line))).toEqual([
        '  ✔ user.updated    -> johns-crm  verified    attempt 1  {"email":"john@work.example"}',
        '  ✔ order.updated   -> johns-shop verified    attempt 1  {"status":"paid"}',
        '  ✖ order.created   -> marys-erp  down, 500   attempt 1  {"id":3,"customerId":2,"status":"new","totalCents":750}',
        '  ✖ order.created   -> marys-erp  down, 500   attempt 2  {"id":3,"customerId":2,"status":"new","totalCents":750}',
        '  ✔ order.created   -> marys-erp  verified    attempt 3  {"id":3,"customerId":2,"status":"new","totalCents":750}',
        '  ✔ invoice.overdue -> johns-bank verified    attempt 1  {"orderId":5,"totalCents":4500}',
        'All 4 webhooks arrived, verified with the standardwebhooks package, and nothing else did.',
      ]);
    },
  );
});

describe('npm run demo', () => {
  it('stays open, and the commands that it prints work', { timeout: 60 * SECOND }, async () => {
    const demo = spawn(process.execPath, [main], { env: { ...process.env, DATABASE_URL: '', PORT: '0' } });
    onTestFinished(() => void demo.kill('SIGKILL'));
    const closed = once(demo, 'close');
    const lines = createInterface({ input: demo.stdout })[Symbol.asyncIterator]();
    const printed = async (pattern: RegExp): Promise<string[]> => {
      const before: string[] = [];
      for (let { value } = await lines.next(); value !== undefined; { value } = await lines.next()) {
        before.push(value);
        if (pattern.test(value)) return before;
      }
      throw new Error(`the demo ended without ${String(pattern)}:\n${before.join('\n')}`);
    };

    // The last command contains the mistake `ordre`.
    const curls = (await printed(/ordre/)).filter((line) => line.startsWith('  curl '));
    const pages = await printed(/^ {2}Portal /);
    const [dashboard, portal] = pages.slice(-2).map((line) => line.slice(line.indexOf('http')));
    for (const [url = '', kind] of [
      [dashboard, 'operator'],
      [portal, 'owner'],
    ] as const) {
      expect(await (await fetch(url)).text()).toContain('<div id="root">');
      const client = createWebhooksClient({ url: new URL('v1', url).href, token: url.split('#t=')[1] ?? '' });
      expect(await client.getMe()).toMatchObject({ kind });
      const states = async () => {
        const { items: listeners } = await client.listListeners();
        const { items: deliveries } = await client.listDeliveries({ query: { limit: 200 } });
        return {
          disabled: listeners.some(({ state }) => state === 'disabled'),
          failing: listeners.some(({ failuresInARow }) => failuresInARow > 0),
          healthy: listeners.some(({ state, failuresInARow }) => state === 'active' && failuresInARow === 0),
          held: deliveries.some(({ state }) => state === 'held'),
          retried: deliveries.some(({ state, attemptCount }) => state === 'succeeded' && attemptCount > 1),
          delivered: deliveries.some(({ state, attemptCount }) => state === 'succeeded' && attemptCount === 1),
        };
      };
      await expect
        .poll(states)
        .toEqual({ disabled: true, failing: true, healthy: true, held: true, retried: true, delivered: true });
    }
    const statuses: number[] = [];
    for (const curl of curls) statuses.push(await play(curl));
    // Listener, order, payment, declined card, log, delivery, resend, metrics, health, mistake.
    expect(statuses).toEqual([201, 201, 200, 402, 200, 200, 202, 200, 200, 400]);
    const after = await printed(/✔ invoice\.overdue -> johns-bank verified +attempt 2/);
    // Meanwhile a listener of the pages has failed: its warnings would scroll the URLs away.
    expect(after.filter((line) => line.includes('WARN'))).toEqual([]);

    demo.kill('SIGINT');
    expect(await closed).toEqual([0, null]);
  });
});

describe('a demo that cannot run', () => {
  it.each([
    [
      { DATABASE_URL: 'postgres://postgres@127.0.0.1:1/shop' },
      /ECONNREFUSED.*Start the server and create the database/,
    ],
    [{ DATABASE_URL: 'redis://127.0.0.1' }, /DATABASE_URL must begin with postgres:\/\/, mysql:\/\/ or mariadb:\/\//],
    [{ PORT: 'http' }, /Invalid value 'http' for PORT\. Allowed: a whole number/],
  ])('prints the reason and the remedy in one line, and exits with 1: %o', async (env, reason) => {
    const failed = run(process.execPath, [main, '--once'], { env: { ...process.env, DATABASE_URL: '', ...env } });
    await expect(failed).rejects.toMatchObject({ code: 1, stdout: expect.stringMatching(reason) as string });
  });

  it('exits with an error for a misspelt option', async () => {
    const failed = run(process.execPath, [main, '--onec'], { timeout: 20 * SECOND });
    await expect(failed).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringContaining("Unknown option '--onec'") as string,
    });
  });
});

function urlOf(options: DataSourceOptions): string {
  if (options.type === 'better-sqlite3') return '';
  const { url, host, port, username, password, database } = options as unknown as Partial<Record<string, string>>;
  return url ?? `${options.type}://${username}:${encodeURIComponent(password ?? '')}@${host}:${port}/${database}`;
}

/** Sends the request of a printed `curl` line. */
async function play(curl: string): Promise<number> {
  const {
    method = 'GET',
    url = '',
    body,
  } = /curl (?:-X (?<method>\w+) )?(?<url>\S+)(?:.* -d '(?<body>.*)')?$/.exec(curl)?.groups ?? {};
  const response = await fetch(url, {
    method,
    ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
  });
  await response.arrayBuffer();
  return response.status;
}
