import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { generateSecret, generateSigningKey } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { listenToLog, type Said } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const KEYS = [{ id: 'k1', key: Buffer.alloc(32, 5).toString('base64') }];

describeDatabases('an attacker who can write to the tables but has no key', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let said: Said;
  beforeEach(async () => {
    fresh = await database.reuse();
    said = listenToLog();
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  async function start(requireSealed: boolean, keys = KEYS): Promise<void> {
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: ['tried'], secrets: { keys, requireSealed } },
    });
  }
  const write = (column: string, value: string) => {
    const quoted = value.replaceAll("'", "''");
    return app.dataSource.query(`UPDATE webhook_listeners SET ${column} = '${quoted}'`);
  };
  const send = async () => {
    await app.webhooks.publish('tried', {});
    await app.dispatcher.drain();
    return app.receiver.requests;
  };

  it('cannot send credentials to another server by changing the URL of a listener', async () => {
    await start(false);
    const auth = { type: 'bearer', token: 'abc.def' } as const;
    const { url } = app.receiver;
    await app.listeners.create({ events: ['tried'], url, auth });
    // Another path on the same server is allowed.
    await write('url', `${url}/moved`);
    expect(await send()).toMatchObject([{ headers: { authorization: 'Bearer abc.def' } }]);
    app.receiver.clear();
    await write('url', url.replace('127.0.0.1', '127.0.0.2'));
    expect(await send()).toEqual([]);
    expect(said.errors).toMatchObject([expect.stringContaining('SECRET_UNREADABLE')]);
    expect(await app.deliveries.counts()).toMatchObject({ due: 1, succeeded: 1 });
  });

  it('cannot make webhooks sign with a known secret when requireSealed is on', async () => {
    await start(true);
    const { id } = await app.listeners.create({
      ...{ events: ['tried'], url: app.receiver.url, schemes: ['standard', 'standard-v1a'] },
    });
    expect(await send()).toHaveLength(1);
    const [publicKey] = (await app.listeners.get(id)).publicKeys;
    app.receiver.clear();
    const [row] = await app.dataSource.query<{ secrets: string }[]>('SELECT secrets FROM webhook_listeners');
    const document = JSON.parse(String(row?.secrets)) as { secrets: Record<string, unknown>[] };
    const forged = generateSigningKey().publicKey;
    const withForged = document.secrets.map((key) => (key['publicKey'] ? { ...key, publicKey: forged } : key));
    await write('secrets', JSON.stringify({ v: 1, secrets: withForged }));
    expect((await app.listeners.get(id)).publicKeys).toEqual([publicKey]);
    const plain = { value: generateSecret(), createdAt: 1, expiresAt: null };
    await write('secrets', JSON.stringify({ v: 1, secrets: [plain] }));
    expect(await send()).toEqual([]);
    expect(said.errors).toMatchObject([expect.stringContaining('SECRET_NOT_SEALED')]);
  });

  it('is kept out by requireSealed, and webhooks still arrive after resealSecrets()', async () => {
    await start(false, []);
    await app.listeners.create({ events: ['tried'], url: app.receiver.url });
    await app.close();
    await start(false);
    expect(await app.listeners.resealSecrets()).toEqual({ resealed: 1, unreadable: [] });
    await app.close();
    await start(true);
    // The listener has a different receiver now.
    await write('url', app.receiver.url);
    expect(await send()).toHaveLength(1);
  });
});
