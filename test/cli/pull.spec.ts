import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { MANAGE, VIEW } from 'nestjs-entity-webhooks/api';
import { createWebhooksClient } from 'nestjs-entity-webhooks/client';
import { verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import { Order, startApiApp, type ApiApp } from '../api/api-app.js';
import { createCommandLine, type CommandLine } from './command-line.js';

const SECRET = `whsec_${Buffer.alloc(32, 5).toString('base64')}`;

/** A server on this machine, as the developer of a receiver has one. */
class LocalServer {
  readonly webhooks: { url: string; type: string; id: string }[] = [];
  secret = SECRET;
  private readonly server: Server = createServer((request, response) => {
    this.read(request).then(
      () => response.writeHead(204).end(),
      () => response.writeHead(400).end(),
    );
  });

  async start(): Promise<void> {
    await once(this.server.listen(0, '127.0.0.1'), 'listening');
  }

  get url(): string {
    return `http://localhost:${(this.server.address() as AddressInfo).port}/hooks?tenant=1`;
  }

  stop(): void {
    this.server.close();
  }

  private async read(request: IncomingMessage): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const { headers, url = '' } = request;
    const { id, type } = verifyIncomingWebhook({ headers, body: Buffer.concat(chunks), secrets: this.secret });
    this.webhooks.push({ url, type, id });
  }
}

describe('the command line over the API', () => {
  let api: ApiApp;
  let cli: CommandLine;
  let token: string;
  let listenerId: string;
  let local: LocalServer;
  let orders = 0;
  const running = new Set<ChildProcess>();

  beforeAll(async () => {
    api = await startApiApp();
    cli = await createCommandLine();
    local = new LocalServer();
    await local.start();
    token = await tokenWith(MANAGE);
    // The sender cannot reach the machine of the developer, and need not.
    const { id } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    await api.listeners.disable(id);
    listenerId = id;
  });
  afterAll(async () => {
    local.stop();
    await api.close();
    await cli.remove();
  });
  afterEach(() => {
    for (const child of running) child.kill('SIGKILL');
    running.clear();
  });

  async function tokenWith(can: typeof MANAGE): Promise<string> {
    const operator = createWebhooksClient({ url: `${api.origin}/webhooks/v1`, headers: { 'x-user': 'operator' } });
    return (await operator.createSession({ body: { kind: 'owner', owner: 'acme', can } })).token;
  }

  async function change(): Promise<void> {
    const [order] = await api.dataSource.getRepository(Order).find({ order: { id: 'DESC' }, take: 1 });
    await api.dataSource
      .getRepository(Order)
      .save(order ? { ...order, status: `status ${++orders}` } : { id: 1, customer: 'acme', status: 'new' });
    await api.dispatcher.drain();
  }

  const argumentsOf = (...more: string[]) => [
    ...['listen', '--from', `${api.origin}/webhooks`, '--listener', listenerId],
    ...['--forward-to', local.url, '--state', 'state.json', ...more],
  ];

  function listen(...more: string[]): { child: ChildProcess; said: { out: string; err: string } } {
    const child = cli.start(argumentsOf(...more), { WEBHOOKS_TOKEN: token });
    running.add(child);
    const said = { out: '', err: '' };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (said.out += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (said.err += text));
    return { child, said };
  }

  it('listens: signs, prints and forwards each delivery, and goes on where it stopped', async () => {
    const first = listen('--secret', SECRET);
    await expect.poll(() => first.said.err).toContain('Reading the deliveries to ');
    await change();
    await expect
      .poll(() => first.said.out)
      .toMatch(
        /^\d\d:\d\d:\d\d order\.created evt_[\w-]+ verified v1 -> POST localhost:\d+\/hooks\?tenant=1 204 \(\d+ ms\)\n$/,
      );
    expect(first.said.err).not.toContain('resumed');
    first.child.kill('SIGINT');
    expect(await once(first.child, 'close')).toEqual([0, null]);

    for (let n = 0; n < 3; n++) await change();
    const second = listen('--secret', SECRET);
    await expect.poll(() => second.said.err).toMatch(/^resumed after evt_[\w-]+, 3 caught up$/m);
    await change();
    await expect.poll(() => local.webhooks.length).toBe(5);
    expect(local.webhooks.map(({ type }) => type)).toEqual(['order.created', ...Array(4).fill('order.updated')]);
    expect(new Set(local.webhooks.map(({ id }) => id)).size).toBe(5);
    expect(local.webhooks[0]?.url).toBe('/hooks?tenant=1');
    second.child.kill('SIGTERM');
    expect(await once(second.child, 'close')).toEqual([0, null]);
  });

  it('listens with a secret that it keeps, prints in full or as JSON, and only one type', async () => {
    const full = listen('--state', 'other.json', '--type', 'order.updated', '--print', 'full');
    await expect.poll(() => full.said.err).toMatch(/^Signing with whsec_\S+:/m);
    const [, secret = ''] = /Signing with (\S+):/.exec(full.said.err) ?? [];
    local.secret = secret;
    await expect.poll(() => full.said.err).toContain('Reading');
    await change();
    await expect
      .poll(() => full.said.out)
      .toMatch(
        /verified v1 -> POST \S+ 204 .*\n {2}content-type: application\/json\n[^]*^ {2}\{"type":"order\.updated"/m,
      );
    full.child.kill('SIGINT');
    await once(full.child, 'close');
    const path = join(cli.project.folder, 'other.json');
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ secret });

    const lines = listen('--state', 'other.json', '--json');
    await expect.poll(() => lines.said.err).toContain(', 0 caught up');
    expect(lines.said.err).toContain(secret);
    await change();
    await expect.poll(() => lines.said.out).toContain('\n');
    expect(JSON.parse(lines.said.out)).toMatchObject({ type: 'order.updated', forwarded: { status: 204 } });
  });

  it('looks, changes and sends as over a data source', { timeout: 120_000 }, async () => {
    const can = [...MANAGE, 'system:read', 'system:write'] as const;
    const operator = createWebhooksClient({ url: `${api.origin}/webhooks/v1`, headers: { 'x-user': 'operator' } });
    const session = await operator.createSession({ body: { kind: 'operator', can } });
    const env = { WEBHOOKS_API: `${api.origin}/webhooks/`, WEBHOOKS_TOKEN: session.token };
    const said = async (...args: string[]) => {
      const { code, out, err } = await cli.run(args, { env });
      return `${code} ${out}${err}`;
    };
    const json = async <T>(...args: string[]) =>
      JSON.parse((await cli.run([...args, '--json'], { env })).out) as T & { id: string };
    const created = await json<{ secret: string }>(
      ...['listeners', 'create', '--url', api.receiver.url, '--events', 'order.*', '--owner', 'globex'],
    );
    expect(created.secret).toMatch(/^whsec_/);
    expect(await said('listeners', 'list', '--owner', 'globex')).toContain(`${created.id}  active  globex  order.*`);
    expect(await said('listeners', 'disable', created.id, '--reason', 'a test')).toMatch(
      /^0 .*disabledReason +a test$/ms,
    );
    expect(await said('listeners', 'enable', created.id)).toMatch(/^0 .*^state +active$/ms);
    expect((await json<{ secret: string }>('listeners', 'rotate', created.id)).secret).not.toBe(created.secret);
    expect(await said('listeners', 'show', created.id)).toMatch(/^createdAt +\d{4}-\d\d-\d\dT/m);

    const tested = cli.run(['test', created.id, '--wait', '20s'], { env });
    await expect.poll(async () => (await api.deliveries.list({ listenerId: created.id })).items.length).toBe(1);
    await api.dispatcher.drain();
    expect(await tested).toMatchObject({ code: 0, out: expect.stringMatching(/^dlv_\S+ +204 in /) as string });
    const { items } = await json<{ items: { id: string; eventId: string }[] }>(
      ...['deliveries', 'list', '--listener', created.id, '--since', '1h'],
    );
    expect(items).toHaveLength(1);
    const [{ id, eventId } = { id: '', eventId: '' }] = items;
    expect(await said('deliveries', 'show', id)).toMatch(/^attempt 1 +\S+ accepted 204 in /m);
    expect(await said('deliveries', 'resend', id)).toContain(': a dispatcher sends it now');
    expect(await said('events', 'show', eventId)).toMatch(/^type +webhook\.test$/m);
    expect(await said('events', 'list', '--limit', '500')).toContain(eventId);

    expect(await said('stats', '--step', '1m')).toMatch(/^0 .*^\S+Z +[12] +0 +0 +0 +\d+ +\d+$/ms);
    expect(await said('stats', created.id, '--by', 'listener')).toMatch(
      new RegExp(`^0 .*^${created.id} +\\d+ +0 +0 +0$`, 'ms'),
    );
    expect(await said('sending', 'pause', '--reason', 'a test')).toMatch(/^0 /);
    expect(await said('sending', 'status')).toMatch(/^1 /);
    expect(await said('status')).toMatch(/^0 sending +paused since \S+Z by .+: a test$/m);
    expect(await said('sending', 'resume')).toMatch(/^0 /);
    expect(await said('listeners', 'show', 'lst_0')).toMatch(/^2 LISTENER_NOT_FOUND: /);
    env.WEBHOOKS_API = 'http://127.0.0.1:1/';
    expect(await said('listeners', 'list')).toMatch(
      /^2 API_UNREACHABLE: The API at http:\/\/127\.0\.0\.1:1\/v1 cannot/,
    );
  });

  it('does bulk work, and shows the pending work and the types', { timeout: 120_000 }, async () => {
    const can = [...MANAGE, 'system:read'] as const;
    const operator = createWebhooksClient({ url: `${api.origin}/webhooks/v1`, headers: { 'x-user': 'operator' } });
    const { token: ofOperator } = await operator.createSession({ body: { kind: 'operator', actor: 'ann', can } });
    const env = { WEBHOOKS_API: `${api.origin}/webhooks`, WEBHOOKS_TOKEN: ofOperator, NO_COLOR: '1' };
    const run = (...args: string[]) => cli.run(args, { env });
    // The first change makes the row.
    await change();
    const { id } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    await api.listeners.disable(id);
    for (let n = 0; n < 2; n++) await change();
    const discard = ['discard', '--listener', id];
    expect(await run(...discard, '--dry-run')).toEqual({ code: 0, out: '2 deliveries would be discarded.\n', err: '' });
    expect(await run(...discard)).toMatchObject({ code: 2, err: expect.stringContaining('Give --yes') as string });

    // It waits for the task, while the next commands look at the task.
    const discarded = cli.run([...discard, '--yes', '--json'], { env, alone: true });
    const taskOf = async (kind: 'discard' | 'recover' | 'replay') => {
      const newest = async () => (await api.tasks.list({ kind, state: 'queued' })).items[0]?.id;
      await expect.poll(newest).toBeDefined();
      return (await newest()) ?? '';
    };
    const task = await taskOf('discard');
    expect((await run('tasks', 'list', '--state', 'queued')).out).toMatch(
      new RegExp(`^${task} +discard +queued +0 of 2 .* ann$`, 'm'),
    );
    await api.tasks.run(task);
    expect(JSON.parse((await discarded).out)).toEqual({ count: 2, dryRun: false, task, state: 'done' });
    expect(await discarded).toMatchObject({ code: 0, err: '' });
    expect((await run('tasks', 'show', task)).out).toMatch(/^state +done$/m);
    expect(await run('tasks', 'cancel', task)).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^TASK_ENDED: /) as string,
    });

    const recover = ['recover', '--listener', id, '--since', '1h', '--state', 'discarded', '--type', 'order.updated'];
    const onTerminal = cli.onTerminal(recover, { '[y/N]': 'y' }, env);
    const recovering = await taskOf('recover');
    expect(await run('tasks', 'cancel', recovering)).toMatchObject({ code: 0 });
    const shown = await onTerminal;
    expect(shown.code).toBe(1);
    expect(shown.out).toMatch(/\[-{20}\] 0 \/ 2 .*\^C leaves the task running/);
    expect(shown.out).toContain(`The task ${recovering} was cancelled.`);

    const since = new Date(0).toJSON();
    const replayed = run('replay', '--listener', id, '--since', since, '--error', 'TIMEOUT');
    expect(await replayed).toMatchObject({
      code: 2,
      err: expect.stringContaining("unknown option '--error'") as string,
    });
    expect((await run('replay', '--listener', id, '--since', since, '--dry-run')).code).toBe(0);

    const status = await run('status');
    expect(status).toMatchObject({ code: 0, err: '' });
    expect(status.out).toMatch(/^sending +on$/m);
    expect(status.out).toMatch(/^queue +due 0; retrying 0; held \d+$/m);
    expect(JSON.parse((await run('status', '--json')).out)).toMatchObject({ paused: false, pending: 0 });
    expect((await run('types')).out).toContain("'order.updated'");
    expect(JSON.parse((await run('types', '--openapi')).out)).toMatchObject({ openapi: '3.1.0' });
    expect((await run('types', '--schemas', 'schemas')).out).toContain('wrote schemas/order.updated.json\n');
    expect(JSON.parse(await readFile(join(cli.project.folder, 'schemas/order.updated.json'), 'utf8'))).toMatchObject({
      title: 'Order updated',
    });
    expect((await run('types', '--json')).out).toContain('"rate.created"');
    env.WEBHOOKS_TOKEN = token;
    expect((await run('types', '--json')).out).not.toContain('rate.created');
    await api.listeners.remove(id);
  });

  it('refuses what it cannot do, with the exit code 2', async () => {
    const refused = async (env: Record<string, string>, ...more: string[]) => {
      const { code, err } = await cli.run(argumentsOf(...more), { env });
      return `${code} ${err.trim()}`;
    };
    expect(await refused({ WEBHOOKS_TOKEN: 'whs_x' })).toMatch(/^2 UNAUTHENTICATED: /);
    expect(await refused({ WEBHOOKS_TOKEN: token }, '--listener', 'lst_0')).toMatch(/^2 LISTENER_NOT_FOUND: /);
    expect(await refused({ WEBHOOKS_TOKEN: token }, '--from', 'ftp://a')).toMatch(/^2 INVALID_ARGUMENT: /);
    expect(await refused({ WEBHOOKS_TOKEN: token }, '--forward-to', 'http://example.com/')).toContain(
      'another machine',
    );
    const { code, err } = await cli.run(['listen', '--from', api.origin]);
    expect(`${code} ${err}`).toContain('2 INVALID_ARGUMENT: Give both --from and --listener.');
    await change();
    // It may not read bodies.
    expect(await refused({ WEBHOOKS_TOKEN: await tokenWith(VIEW) })).toMatch(/CAPABILITY_MISSING: /);
  });
});
