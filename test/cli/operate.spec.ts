// Misspelt on purpose. cspell:ignore parcle statusu
import { userInfo } from 'node:os';
import { EntitySchema } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  RetrySchedule,
  SystemService,
  SystemWebhookClock,
  type Delivery,
  type Listener,
  type ListenerWithSecret,
} from 'nestjs-entity-webhooks';
import { createSqlite, type FreshDatabase } from '../support/fresh-database.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { createCommandLine, dataSourceFile, PARCEL, type CommandLine, type CommandResult } from './command-line.js';

const Parcel = new EntitySchema<{ id: number; name: string; customerId: string }>(PARCEL as never);

class Once extends RetrySchedule {
  delayMs(): null {
    return null;
  }
}

/** The application runs in this process, and dispatches. The commands run beside it, on the same file. */
describe('the command line beside a running application', () => {
  let cli: CommandLine;
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    cli = await createCommandLine();
    fresh = await createSqlite(cli.project.folder);
    app = await startApp({
      database: fresh.options,
      entities: [{ entity: Parcel, owner: 'customerId' }],
      webhooks: {
        publishedTypes: ['invoice.overdue'],
        dispatcher: { autoStart: true, pollIntervalMs: 20 },
        parts: { retrySchedule: Once },
      },
      ownClock: new SystemWebhookClock(),
    });
    await cli.project.write('data-source.js', dataSourceFile(fresh.options));
  });
  afterAll(async () => {
    await app.close();
    await cli.remove();
  });
  beforeEach(async () => {
    app.receiver.clear();
    app.receiver.respond({ status: 204 });
    for (const { id } of (await app.listeners.list()).items) await app.listeners.remove(id);
  });

  const run = (...args: string[]) => cli.run([...args, '-d', 'data-source.js']);
  const json = <T>(...args: string[]) => cli.json<T>(...args, '-d', 'data-source.js');
  const listen = (input: Partial<Parameters<TestApp['listeners']['create']>[0]> = {}) =>
    app.listeners.create({ events: ['parcel.*', 'invoice.*'], url: app.receiver.url, ...input });
  const save = (name: string) => app.dataSource.getRepository(Parcel).save({ name, customerId: 'acme' });
  /** Waits until the dispatcher has nothing left to send. A request in flight would get the answer that the next test sets. */
  async function finished(state: Delivery['state'], count: number): Promise<void> {
    const counted = async () => {
      const { due, leased, ...counts } = await app.deliveries.counts();
      return { unfinished: due + leased, count: { due, leased, ...counts }[state] };
    };
    await expect.poll(counted, { timeout: 10_000, interval: 20 }).toEqual({ unfinished: 0, count });
  }
  const fine = (out: unknown): CommandResult => ({ code: 0, err: '', out: out as string });

  it('creates, lists, shows, disables, enables and rotates listeners', async () => {
    const create = ['listeners', 'create', '--url', app.receiver.url, '--events', 'parcel.created,parcel.updated'];
    const created = await json<ListenerWithSecret>(...create, '--owner', 'acme', '--where', '{"name":"a"}');
    expect(created).toMatchObject({
      events: ['parcel.created', 'parcel.updated'],
      owner: 'acme',
      where: { name: 'a' },
    });
    expect(created.secret).toMatch(/^whsec_/);
    const { id } = created;
    const listed = await run('listeners', 'list');
    expect(listed).toMatchObject(
      fine(expect.stringContaining(`${id}  active  acme   parcel.created,parcel.updated  http`)),
    );
    expect((await run('listeners', 'list', '--owner', 'other')).err).toContain('no such listeners');
    const shown = await run('listeners', 'show', id);
    expect(shown).toMatchObject(fine(expect.stringMatching(/^state +active$/m)));
    expect(shown.out).not.toContain(created.secret);
    const disabled = await json<Listener>('listeners', 'disable', id, '--reason', 'too slow');
    expect(disabled).toMatchObject({ state: 'disabled', disabledReason: 'too slow' });
    expect(await json<Listener>('listeners', 'enable', id)).toMatchObject({ state: 'active' });
    const { secret } = await json<ListenerWithSecret>('listeners', 'rotate', id, '--overlap', '0s');
    expect(secret).not.toBe(created.secret);
  });

  it('explains with a code, and without a stack, why a listener is refused', async () => {
    const { code, out, err } = await run(
      'listeners',
      'create',
      '--url',
      app.receiver.url,
      '--events',
      'parcle.created',
    );
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^UNKNOWN_EVENT_TYPE: 'parcle.created' matches no event type. Did you mean 'parcel.created'\?/);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect((await run('listeners', 'show', 'lst_none')).err).toBe(
      "LISTENER_NOT_FOUND: There is no listener 'lst_none'.\n",
    );
  });

  it('sends a test event, and waits for the answer', async () => {
    const { id } = await listen();
    expect(await run('test', id, '--wait', '20s')).toMatchObject(
      fine(expect.stringMatching(/^dlv_\S+ {2}204 in \d+ ms\n$/)),
    );
    app.receiver.respond({ status: 503 });
    const failed = await run('test', id, '--wait', '20s', '--type', 'parcel.created');
    expect(failed).toMatchObject({ code: 1, out: expect.stringMatching(/ {2}503 in /) as string });
    expect(app.receiver.requests.at(-1)?.headers['webhook-test']).toBe('true');
  });

  it('publishes an event with the data of an argument, a file or the standard input', async () => {
    const { secret } = await listen();
    await cli.project.write('invoice.json', '{"from":"file"}');
    const publish = ['publish', 'invoice.overdue', '-d', 'data-source.js', '--data'];
    for (const [data, input] of [
      ['{"from":"argument"}', ''],
      ['@invoice.json', ''],
      ['-', '{"from":"input"}'],
    ] as const) {
      const own = input === '' ? undefined : { input };
      expect(await cli.run([...publish, data], own)).toMatchObject(fine(expect.stringMatching(/^evt_\S+\n$/)));
    }
    const requests = await app.receiver.waitFor(3, { timeoutMs: 20_000 });
    const sent = requests.map((request) => app.receiver.verify<{ from: string }>(request, secret).data.from);
    expect(sent.toSorted()).toEqual(['argument', 'file', 'input']);
    expect(await run('publish', 'invoice.overdue', '--data', '[1]')).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^INVALID_ARGUMENT: Invalid value .* for `--data`\. Allowed: a JSON object/) as string,
    });
  });

  it('recovers failed deliveries after it was confirmed', async () => {
    const { id } = await listen();
    app.receiver.respond({ status: 500 });
    const before = (await app.deliveries.counts()).exhausted;
    for (const name of ['a', 'b', 'c']) await save(name);
    await finished('exhausted', before + 3);
    const recover = ['recover', '--listener', id, '--since', '1h'];
    const unasked = await run(...recover);
    expect(unasked).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^INVALID_ARGUMENT: Nobody can confirm this here/) as string,
    });
    expect(await run(...recover, '--dry-run')).toEqual(fine('3 deliveries would be sent again.\n'));
    expect((await app.deliveries.counts()).exhausted).toBe(before + 3);
    app.receiver.respond({ status: 204 });
    expect(await run(...recover, '--yes')).toEqual(fine('3 deliveries were sent again.\n'));
    await finished('exhausted', before);
    // Neither the dry run nor the run that nobody confirmed has sent anything.
    const { items } = await app.deliveries.list({ listenerId: id });
    expect(items.map(({ attemptCount }) => attemptCount)).toEqual([2, 2, 2]);
  });

  it.skipIf(process.platform !== 'linux')('asks on a terminal, and shows the progress', async () => {
    const { id } = await listen();
    app.receiver.respond({ status: 500 });
    const before = (await app.deliveries.counts()).exhausted;
    for (const name of ['m', 'n']) await save(name);
    await finished('exhausted', before + 2);
    const recover = ['recover', '--listener', id, '--since', '1h', '-d', 'data-source.js'];
    const no = await cli.onTerminal(recover, { 'Continue? [y/N]': 'n' });
    expect(no).toMatchObject({
      code: 1,
      out: expect.stringContaining('2 deliveries would be sent again. Continue?') as string,
    });
    expect((await app.deliveries.counts()).exhausted).toBe(before + 2);
    app.receiver.respond({ status: 204 });
    const yes = await cli.onTerminal(recover, { 'Continue? [y/N]': 'y' });
    expect(yes).toMatchObject({ code: 0, out: expect.stringMatching(/\[#{20}\] 2 \/ 2 {3}[\d,]+\/s/) as string });
    expect(yes.out).toContain('2 deliveries were sent again.');
    // oxlint-disable-next-line no-control-regex -- colors are control characters
    const red = /\u001b\[31mFAIL/;
    const doctor = ['doctor', '-d', 'data-source.js', '--url', 'http://127.0.0.1:9/'];
    const [colored, plain] = await Promise.all([
      cli.onTerminal(doctor, {}),
      cli.onTerminal(doctor, {}, { NO_COLOR: '1' }),
    ]);
    expect(colored.out).toMatch(red);
    expect(plain.out).toMatch(/FAIL/);
    expect(plain.out).not.toMatch(red);
  });

  it('selects by type and error, and keeps its work as a task', async () => {
    const { id } = await listen();
    app.receiver.respond({ status: 500 });
    const before = (await app.deliveries.counts()).exhausted;
    for (const name of ['p', 'q']) await save(name);
    await finished('exhausted', before + 2);
    app.receiver.respond({ status: 204 });
    const recover = ['recover', '--listener', id, '--since', '1h'];
    expect(await run(...recover, '--error', 'TIMEOUT', '--dry-run')).toEqual(
      fine('0 deliveries would be sent again.\n'),
    );
    expect(await run(...recover, '--type', 'parcel.updated', '--yes')).toEqual(fine('0 deliveries were sent again.\n'));
    const done = await json<{ count: number; task: string; state: string }>(
      ...[...recover, '--type', 'parcel.created', '--error', 'HTTP_STATUS', '--rate', '100', '--yes'],
    );
    expect(done).toMatchObject({ count: 2, state: 'done', dryRun: false });
    await finished('exhausted', before);
    const { items } = await json<{ items: object[] }>('tasks', 'list', '--kind', 'recover', '--limit', '1');
    expect(items).toMatchObject([{ id: done.task, done: 2, actor: `cli:${userInfo().username}`, ratePerSecond: 100 }]);
    expect((await run('tasks', 'show', done.task)).out).toMatch(/^state +done$/m);
    expect(await run('tasks', 'cancel', done.task)).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^TASK_ENDED: /) as string,
    });
    expect((await run('tasks', 'show', 'tsk_unknown')).err).toMatch(/^TASK_NOT_FOUND: /);
  });

  it('leaves its task to the dispatchers after Ctrl-C', async () => {
    const { id } = await listen();
    await app.listeners.disable(id);
    for (const name of ['r', 's', 't', 'u']) await save(name);
    await expect.poll(async () => (await app.deliveries.counts({ listenerId: id })).held, { timeout: 10_000 }).toBe(4);
    const args = ['discard', '--listener', id, '--rate', '1', '--yes', '-d', 'data-source.js'];
    const child = cli.start(args);
    let err = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (err += text));
    const ended = new Promise<number | null>((resolve) => void child.on('close', resolve));
    await expect
      .poll(async () => (await app.deliveries.counts({ listenerId: id })).held, { timeout: 20_000 })
      .toBeLessThan(4);
    child.kill('SIGINT');
    expect(await ended).toBe(1);
    expect(err).toMatch(/^The task tsk_\S+ is not finished\. A running dispatcher continues/m);
    await expect.poll(async () => (await app.deliveries.counts({ listenerId: id })).held, { timeout: 20_000 }).toBe(0);
    expect(await app.deliveries.counts({ listenerId: id })).toMatchObject({ discarded: 4 });
  });

  it('replays past events to a new listener', async () => {
    const since = new Date().toISOString();
    for (const name of ['d', 'e']) await save(name);
    const { id } = await listen({ events: ['parcel.created'] });
    const replay = ['replay', '--listener', id, '--since', since];
    expect(await run(...replay, '--dry-run')).toEqual(fine('2 deliveries would be made.\n'));
    expect((await app.deliveries.list({ listenerId: id })).items).toHaveLength(0);
    expect(await run(...replay, '--yes')).toEqual(fine('2 deliveries were made.\n'));
    await app.receiver.waitFor(2, { timeoutMs: 20_000 });
  });

  it('looks into the log, and sends a delivery again', async () => {
    const { id } = await listen({ owner: 'acme' });
    const before = (await app.deliveries.counts()).exhausted;
    app.receiver.respond({ status: 500, body: 'out of order\u001b[2J' });
    await save('l');
    await finished('exhausted', before + 1);
    const webhookId = String(app.receiver.requests[0]?.headers['webhook-id']);
    const { items } = await json<{ items: Delivery[] }>('deliveries', 'list', '--event', webhookId, '--owner', 'acme');
    expect(items).toMatchObject([{ listenerId: id, state: 'exhausted', lastStatus: 500 }]);
    const dlv = items[0]?.id ?? '';
    const listed = await run('deliveries', 'list', '--listener', id, '--since', '1h', '--state', 'exhausted');
    expect(listed.out).toMatch(new RegExp(`^ID .*\\n${dlv} +exhausted +parcel.created +1 +500 `));
    const shown = await run('deliveries', 'show', dlv);
    expect(shown.out).toMatch(/^attempt 1 +\S+Z rejected 500 in \d+ ms/m);
    // The answer of a receiver must not drive the terminal.
    expect(shown.out).toContain(String.raw`out of order\u001b[2J`);
    app.receiver.respond({ status: 204 });
    expect(await run('deliveries', 'resend', dlv)).toMatchObject({ code: 0 });
    await finished('exhausted', before);
  });

  it('discards held deliveries, and nothing else', async () => {
    const { id } = await listen();
    await app.listeners.disable(id);
    for (const name of ['f', 'g']) await save(name);
    await expect.poll(async () => (await app.deliveries.counts({ listenerId: id })).held, { timeout: 10_000 }).toBe(2);
    expect((await run('discard', '--yes')).err).toMatch(/^INVALID_ARGUMENT: Give --listener <id>, or --all/);
    expect(await run('discard', '--listener', id, '--dry-run')).toEqual(fine('2 deliveries would be discarded.\n'));
    expect(await run('discard', '--listener', id, '--yes')).toEqual(fine('2 deliveries were discarded.\n'));
    expect(await app.deliveries.counts({ listenerId: id })).toMatchObject({ held: 0, discarded: 2 });
  });

  it('shows what is pending and what fails', async () => {
    const { id } = await listen();
    app.receiver.respond({ status: 500 });
    const before = (await app.deliveries.counts()).exhausted;
    await save('h');
    await finished('exhausted', before + 1);
    const { code, out, err } = await run('status');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/^tables +webhook_\* {2}version 3 of 3$/m);
    expect(out).toMatch(/^outbox +0 events not routed yet, lag 0 ms$/m);
    expect(out).toMatch(/^queue +due 0; leased 0; held 0$/m);
    expect(out).toMatch(/^listeners +active 1, pending 0, disabled 0$/m);
    expect(out).toMatch(/^secrets +not sealed: 1 listener$/m);
    expect(out).toMatch(new RegExp(`^failing +${id} {2}http://127.0.0.1:\\d+/hooks {2}HTTP_STATUS for `, 'm'));
    expect(out).toMatch(/^sending +on$/m);
    // The number of requests is of the last heartbeat, up to 15 s ago.
    expect(out).toMatch(/^processes +\S+ \(\d+\.\d+\.\d+, \d+ of \d+ requests\)$/m);
    // Not a terminal, so there are neither colors nor lines that are drawn again.
    // oxlint-disable-next-line no-control-regex -- the escapes of a terminal are control characters
    expect(out).not.toMatch(/\u001b/);
  });

  it('counts attempts over time, and by listener', async () => {
    const { id } = await listen();
    const before = (await app.deliveries.counts()).succeeded;
    await save('counted');
    await finished('succeeded', before + 1);
    // Writes what the process of the application has counted. Otherwise it writes within 10 s.
    await app.app.get(SystemService).statistics();
    const shown = await run('stats', id, '--since', '1h', '--step', '1m');
    expect(shown).toMatchObject({ code: 0, err: '' });
    expect(shown.out).toMatch(
      /^TIME +ACCEPTED +REJECTED +UNREACHABLE +BLOCKED +P50 MS +P95 MS\n\S+Z +1 +0 +0 +0 +\d+ +\d+\n$/,
    );
    expect((await run('stats', '--by', 'listener')).out).toMatch(new RegExp(`^${id} +1 +0 +0 +0$`, 'm'));
    expect(await json('stats', id)).toMatchObject({ step: '5m', totals: { accepted: 1, rejected: 0 } });
    expect((await run('stats', '--step', '2m')).err).toContain('Allowed choices are 1m, 5m, 1h, 1d.');
  });

  it('pauses and resumes sending', async () => {
    await listen();
    expect(await run('sending', 'status')).toEqual(fine('on\n'));
    const paused = /^paused since \S+Z by cli:\S+: a leak$/m;
    expect(await run('sending', 'pause', '--reason', 'a leak')).toMatchObject({
      ...{ code: 0, out: expect.stringMatching(paused) as string },
    });
    expect(await run('sending', 'status')).toMatchObject({ code: 1, out: expect.stringMatching(paused) as string });
    await expect.poll(() => app.dispatcher.activity.isPaused).toBe(true);
    await save('paused');
    await expect.poll(() => app.deliveries.counts()).toMatchObject({ due: 1 });
    expect((await run('status')).out).toMatch(/^sending +paused since .+: a leak$/m);
    expect(await json('sending', 'resume')).toMatchObject({ paused: false, reason: null });
    await app.receiver.waitFor(1);
    await expect.poll(() => app.deliveries.counts()).toMatchObject({ due: 0, leased: 0 });
  });

  it('seals secrets with a new key, and finds what it cannot read', async () => {
    const { id } = await listen();
    const key = await cli.json<{ id: string; key: string }>('keys', 'generate');
    expect(Buffer.from(key.key, 'base64')).toHaveLength(32);
    const withKey = (one: { id: string; key: string }) =>
      dataSourceFile(fresh.options, `secrets: { keys: [${JSON.stringify(one)}] },`);
    await cli.project.write('sealed.js', withKey(key));
    const keys = (action: string, file = 'sealed.js') => cli.run(['keys', action, '-d', file]);
    const listeners = await app.dataSource.query('select count(*) as count from webhook_listeners');
    const count = (listeners as { count: number }[])[0]?.count;
    expect(await keys('check')).toMatchObject({
      code: 1,
      out: expect.stringMatching(`^to reseal +${count} listeners`) as string,
    });
    expect(await keys('reseal')).toMatchObject({
      code: 0,
      out: expect.stringMatching(`^resealed +${count} listeners`) as string,
    });
    expect(await keys('check')).toMatchObject(fine(expect.stringMatching(/^to reseal +0 listeners/)));
    // The application and these commands have no key.
    const create = await run('listeners', 'create', '--url', app.receiver.url, '--events', 'parcel.*');
    expect(create).toMatchObject({ code: 2, err: expect.stringMatching(/^SEALING_KEYS_MISSING: /) as string });
    const other = { id: 'other', key: Buffer.alloc(32, 7).toString('base64') };
    await cli.project.write('other.js', withKey(other));
    const unreadable = await keys('check', 'other.js');
    expect(unreadable).toMatchObject({ code: 1, out: expect.stringContaining(id) as string });
    await app.dataSource.query('delete from webhook_listeners');
  });

  it('needs a data source, and says so', async () => {
    expect(await cli.run(['status'])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^DATA_SOURCE_MISSING: /) as string,
    });
    expect((await cli.run(['status', '-d', 'none.js'])).err).toMatch(/^DATA_SOURCE_MISSING: There is no file /);
    const byEnvironment = await cli.run(['status'], { env: { WEBHOOKS_DATA_SOURCE: 'data-source.js' } });
    expect(byEnvironment.code).toBe(0);
  });

  it('explains wrong commands and options, and lists what there is', async () => {
    expect(await cli.run([])).toMatchObject({
      code: 2,
      out: '',
      err: expect.stringMatching(/^Usage: nestjs-entity-webhooks/) as string,
    });
    const help = await cli.run(['--help']);
    expect(help).toMatchObject(fine(expect.stringContaining('Exit codes: 0 fine; 1 found something')));
    expect((await cli.run(['statusu'])).err).toMatch(/unknown command 'statusu'\n\(Did you mean status\?\)/);
    expect((await cli.run(['status', '--jsn'])).err).toMatch(/unknown option '--jsn'\n\(Did you mean --json\?\)/);
    expect(await cli.run(['recover', '--since', 'yesterday'])).toMatchObject({
      code: 2,
      err: expect.stringContaining("argument 'yesterday' is invalid. Allowed: how long ago, such as 90s") as string,
    });
    const { version } = JSON.parse((await cli.run(['--version'])).out.replace(/^(.*)\n$/, '{"version":"$1"}')) as {
      version: string;
    };
    expect(version).toMatch(/^\d+\.\d+\.\d+/);
  });
});
