import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EntitySchema } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  SystemWebhookClock,
  type DeliveryDetails,
  type ListenerWithSecret,
  type PayloadVersions,
} from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { createCommandLine, dataSourceFile, PARCEL, type CommandLine } from './command-line.js';

const Parcel = new EntitySchema<{ id: number; name: string; customerId: string }>(PARCEL as never);
/** Version 1 said `label`. The commands load the same text. */
const TO_1: PayloadVersions[number] = ({ name, ...data }) => ({ ...data, label: name });
const VERSIONS = `version: 2, versions: { 1: { render: ${TO_1.toString()}, deprecated: { since: '2026-01-01' } } }`;
const FEATURE = `{ entity: Parcel, owner: 'customerId', ${VERSIONS} }`;
/** No server listens here: a command that connects fails. */
const CLOSED = { type: 'postgres', url: 'postgres://nobody@127.0.0.1:1/none' };
const UPDATED = 'parcel.updated';

let cli: CommandLine;
beforeAll(async () => {
  cli = await createCommandLine();
});
afterAll(() => cli.remove());

describeDatabases('commands about versions', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeAll(async () => {
    fresh = await database.create();
    const entity = { entity: Parcel, owner: 'customerId' as const, version: 2, versions: { 1: TO_1 } };
    app = await startApp({ database: fresh.options, entities: [entity], ownClock: new SystemWebhookClock() });
    await cli.project.write('data-source.js', dataSourceFile(fresh.options, '', FEATURE));
  });
  afterAll(async () => {
    // First, because `drop()` would close the connections that a command left open.
    await cli.end();
    await app.close();
    await fresh.drop();
  });

  const create = (...args: string[]) => [
    ...['listeners', 'create', '--url', app.receiver.url, '--events', 'parcel.created,parcel.updated', ...args],
    ...['-d', 'data-source.js'],
  ];
  const versionsOf = async (...args: string[]) => {
    const { id, versions } = await cli.json<ListenerWithSecret>(...create(...args));
    expect((await app.listeners.get(id)).versions).toEqual(versions);
    return versions;
  };

  it('`listeners create` pins the versions that --pin names, and the newest of the others', async () => {
    const newest = { 'parcel.created': 2, [UPDATED]: 2 };
    expect(await versionsOf()).toEqual(newest);
    expect(await versionsOf('--pin', 'parcel.updated=1')).toEqual({ ...newest, [UPDATED]: 1 });
    const both = ['--pin', 'parcel.updated=1', '--pin', 'parcel.created=1'];
    expect(await versionsOf(...both)).toEqual({ 'parcel.created': 1, [UPDATED]: 1 });
    expect(await versionsOf('--latest')).toBe('latest');
    const { out } = await cli.run(create('--pin', 'parcel.updated=1'));
    expect(out).toMatch(/^versions +\{"parcel\.created":2,"parcel\.updated":1\}$/m);
  });

  it.each([
    [['--pin', 'parcel.updated'], /--pin .*Allowed: an event type and a version, such as 'order\.updated=1'/],
    [['--pin', 'parcel.updated=one'], /--pin .*Allowed: an event type and a version/],
    [['--pin', 'parcel.updated=3'], /^UNKNOWN_VERSION: 'parcel\.updated' has no version 3\. Allowed: 2, 1\.$/m],
    [['--pin', 'parcel.update=1'], /^UNKNOWN_EVENT_TYPE: .*'parcel\.update'.*Did you mean 'parcel\.updated'\?/m],
    [['--pin', 'parcel.updated=1', '--latest'], /--latest.* cannot be used with .*--pin/],
  ])('`listeners create` refuses %j, and creates nothing', async (args, message) => {
    const before = (await app.listeners.list()).items.length;
    expect(await cli.run(create(...args))).toEqual({ code: 2, out: '', err: expect.stringMatching(message) });
    expect((await app.listeners.list()).items).toHaveLength(before);
  });

  it('`test` sends the version of the listener, or that of --payload-version', async () => {
    const { id } = await app.listeners.create({ events: ['parcel.*'], url: app.receiver.url });
    const args = ['test', id, '-d', 'data-source.js', '--type', UPDATED];
    const own = await cli.json<DeliveryDetails>(...args);
    const older = await cli.json<DeliveryDetails>(...args, '--payload-version', '1');
    await app.dispatcher.drain();
    const bodyOf = async (delivery: DeliveryDetails) =>
      JSON.parse((await app.deliveries.body(delivery.id)).body) as { version?: number; data: object };
    expect(await bodyOf(own)).toMatchObject({ version: 2, data: { name: expect.any(String) as string } });
    expect((await bodyOf(older)).data).toHaveProperty('label');
    expect(app.receiver.requests.map(({ headers }) => headers['webhook-version'])).toEqual(['2', '1']);
    for (const [version, message] of [
      ['3', /^UNKNOWN_VERSION: 'parcel\.updated' has no version 3\. Allowed: 2, 1\.\n$/],
      ['0', /--payload-version/],
      ['1.5', /--payload-version/],
    ] as const) {
      const refused = await cli.run([...args, '--payload-version', version]);
      expect(refused).toEqual({ code: 2, out: '', err: expect.stringMatching(message) });
    }
  });
});

describe('`types` of a type with several versions', () => {
  beforeAll(() => cli.project.write('closed.js', dataSourceFile(CLOSED, '', FEATURE)));

  const types = (...args: string[]) => cli.run(['types', '-d', 'closed.js', ...args]);
  const PIN = ['--pin', 'parcel.updated=1'];

  it('shows with --pin the older version of this type, and the newest of the others', async () => {
    const newest = await types();
    expect(newest).toMatchObject({ code: 0, err: '' });
    expect(newest.out).toContain("'parcel.updated': WebhookBody<'parcel.updated', ParcelWebhookData,");
    const { code, out } = await types(...PIN);
    expect(code).toBe(0);
    expect(out).toContain("'parcel.updated': WebhookBody<'parcel.updated', ParcelV1WebhookData,");
    expect(out).toContain("'parcel.created': WebhookBody<'parcel.created', ParcelWebhookData> & { version: 2 };");
    expect((await types('--openapi', ...PIN)).out).toContain('ParcelV1WebhookData');
    expect((await types('--openapi')).out).not.toContain('ParcelV1WebhookData');
  });

  it('writes the schemas of all versions with --schemas', async () => {
    expect(await types('--schemas', 'schemas')).toMatchObject({ code: 0 });
    const folder = join(cli.project.folder, 'schemas');
    expect(await readdir(folder)).toEqual(expect.arrayContaining(['parcel.updated.json', 'parcel.updated.1.json']));
    expect(JSON.parse(await readFile(join(folder, 'parcel.updated.1.json'), 'utf8'))).not.toEqual(
      JSON.parse(await readFile(join(folder, 'parcel.updated.json'), 'utf8')),
    );
  });

  it.each([
    ['parcel.updated=3', /^INVALID_ARGUMENT: --pin: 'parcel\.updated' has no version 3\. Allowed: 2, 1\.\n$/],
    ['parcel.update=1', /^INVALID_ARGUMENT: --pin names 'parcel\.update', which is no event type\.\n$/],
    ['parcel.updated', /--pin .*Allowed: an event type and a version/],
  ])('refuses --pin %s', async (pin, message) => {
    expect(await types('--pin', pin)).toEqual({ code: 2, out: '', err: expect.stringMatching(message) });
  });

  it('refuses --pin over the API, which has the newest versions', async () => {
    const { code, err } = await cli.run(['types', '--api', 'http://127.0.0.1:1/webhooks', ...PIN]);
    expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining('Leave out --pin, or use --data-source.') });
  });
});
