import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { EntitySchema } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RetrySchedule, SystemWebhookClock, type Listener } from 'nestjs-entity-webhooks';
import { StandardScheme } from 'nestjs-entity-webhooks/receiver';
import { codeBlock, createScratchProject, NPX, type ScratchProject } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const ORDER = `
  import { Webhook } from 'nestjs-entity-webhooks';
  import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
  @Webhook({ owner: 'customerId' })
  @Entity()
  export class Order {
    @PrimaryGeneratedColumn({ type: 'integer' }) id: number;
    @Column({ type: 'varchar' }) customerId: string;
  }`;
const columns = { id: { type: 'integer', primary: true, generated: 'increment' }, customerId: { type: 'varchar' } };
const Order = new EntitySchema({ name: 'Order', columns } as never);
/** Each line of a block starts Node.js, which compiles the data source. */
const COMMANDS = { timeout: 120_000 };
const SECRET = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;

class Once extends RetrySchedule {
  delayMs(): null {
    return null;
  }
}

describe('the blocks of docs/cli.md, and the walk of docs/operations.md', () => {
  let project: ScratchProject;
  beforeAll(async () => {
    project = await createScratchProject();
    await project.write('src/order.entity.ts', ORDER);
    await project.write('src/data-source.ts', await codeBlock('docs/cli.md', 'src/data-source.ts'));
  });
  afterAll(() => project.remove());

  /** Runs the lines of a block, and stops at the first that fails. */
  async function shell(script: string, env: Record<string, string> = {}): Promise<{ code: number; said: string }> {
    const options = { cwd: project.folder, env: { ...process.env, NODE_OPTIONS: '', ...env } };
    return new Promise((resolve) => {
      execFile('sh', ['-ec', `${NPX}\n${script}`], options, (error, out, err) =>
        resolve({ code: Number(error?.code ?? 0), said: out + err }),
      );
    });
  }

  it('create the tables, a listener and an event', COMMANDS, async () => {
    const { code, said } = await shell(await codeBlock('docs/cli.md', 'cli-steps'));
    expect(said).toMatch(/^ran CreateWebhooks_/);
    expect(said).toMatch(/^secret +whsec_/m);
    expect(said).toMatch(/^evt_/m);
    expect(said).toMatch(/^lst_\S+ {2}active {2}acme {3}order\.\*,invoice\.\* {2}http:\/\/127\.0\.0\.1:4000\/$/m);
    expect(said).toMatch(/^outbox +1 event not routed yet, lag /m);
    expect(code).toBe(0);
  });

  it('and its table of commands has each command once', async () => {
    const { said } = await shell('npx nestjs-entity-webhooks --help');
    const [, list = ''] = /^Commands:\n((?: {2}.*\n)+)/m.exec(said) ?? [];
    const commands = [...list.matchAll(/^ {2}([a-z]+)/gm)].map(([, name]) => name).filter((name) => name !== 'help');
    const page = await readFile('docs/cli.md', 'utf8');
    const [table = ''] = /^\| command [^]*?\n\n/m.exec(page) ?? [];
    const rows = table.split('\n').flatMap((row) => [...(row.split(' | ')[0] ?? '').matchAll(/`([a-z]+)/g)]);
    expect(rows.map(([, name]) => name).toSorted()).toEqual(commands.toSorted());
  });

  it('explain a request that does not verify, in the words of the page', async () => {
    const timestamp = Math.floor(Date.now() / 1_000);
    const body = '{"type":"order.created"}';
    const signature = new StandardScheme().sign({
      id: 'evt_1',
      timestamp,
      body: Buffer.from(`${body}\n`),
      secrets: [SECRET],
    });
    const headers = { 'webhook-id': 'evt_1', 'webhook-timestamp': timestamp, ...signature };
    await project.write(
      'headers.txt',
      Object.entries(headers)
        .map(([name, value]) => `${name}: ${value}\n`)
        .join(''),
    );
    await project.write('body.json', body);
    const [command = '', comment = ''] = (await codeBlock('docs/cli.md', 'verify-steps')).trim().split('\n');
    expect(await shell(command, { SECRET })).toEqual({ code: 1, said: `${comment.slice(2)}\n` });
  });

  it('find a delivery that failed, and send it again', COMMANDS, async () => {
    const app: TestApp = await startApp({
      database: { type: 'better-sqlite3', database: `${project.folder}/shop.sqlite` },
      entities: [{ entity: Order, owner: 'customerId' }],
      webhooks: { publishedTypes: ['invoice.overdue'], parts: { retrySchedule: Once } },
      ownClock: new SystemWebhookClock(),
    });
    try {
      const listener: Listener = await app.listeners
        .forOwner('acme')
        .create({ events: ['order.created'], url: app.receiver.url });
      app.receiver.respond({ status: 500 });
      await app.dataSource.getRepository(Order).save({ customerId: 'acme' });
      await app.dispatcher.drain();
      app.receiver.respond({ status: 204 });
      const { items } = await app.deliveries.list({ listenerId: listener.id });
      const env = { WEBHOOKS_DATA_SOURCE: 'src/data-source.ts', LISTENER: listener.id, DELIVERY: items[0]?.id ?? '' };
      const { code, said } = await shell(await codeBlock('docs/operations.md', 'customer-steps'), env);
      expect(said).toMatch(/^attempt 1 +\S+ rejected 500 in /m);
      expect(code).toBe(0);
      await app.dispatcher.drain();
      expect(app.receiver.requests.map(({ headers }) => headers['webhook-test'] ?? 'real').toSorted()).toEqual([
        'real',
        'real',
        'true',
      ]);
      expect(await app.deliveries.counts({ listenerId: listener.id })).toMatchObject({ succeeded: 2, exhausted: 0 });
    } finally {
      await app.close();
    }
  });
});
