// Misspelt on purpose. cspell:ignore paht
import { createPublicKey, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { WebhooksKeysModule, type WebhookKeySet } from 'nestjs-entity-webhooks';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const TYPE = 'note.sent';

describe('the key set of a listener', () => {
  let app: TestApp;
  let url: string;
  const marked: unknown[] = [];

  beforeAll(async () => {
    app = await startApp({
      database: { type: 'better-sqlite3', database: ':memory:' },
      entities: [],
      webhooks: { publishedTypes: [TYPE] },
      imports: [WebhooksKeysModule.forRoot({ path: 'keys', decorators: [(target) => void marked.push(target)] })],
    });
    await app.app.listen(0, '127.0.0.1');
    url = `${await app.app.getUrl()}/keys`;
  });
  afterAll(() => app.close());

  const keysOf = async (id: string) => {
    const response = await fetch(`${url}/${id}`);
    return { response, keys: response.ok ? ((await response.json()) as WebhookKeySet).keys : [] };
  };

  it('verifies received webhooks with Node.js alone, during a rotation and after it', async () => {
    const listener = await app.listeners.create({ url: app.receiver.url, events: [TYPE], schemes: ['standard-v1a'] });
    await app.listeners.rotateSigningKey(listener.id);
    await app.webhooks.publish(TYPE, { n: 1 });
    await app.dispatcher.drain();
    const [request] = app.receiver.requests;
    const { response, keys } = await keysOf(listener.id);
    expect(response.headers.get('cache-control')).toBe('public, max-age=300');
    expect(keys).toHaveLength(2);
    const { headers, rawBody } = request as NonNullable<typeof request>;
    const signed = Buffer.from(
      `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${rawBody.toString()}`,
    );
    const signatures = String(headers['webhook-signature']).split(' ');
    for (const [index, jwk] of keys.entries()) {
      const key = createPublicKey({ key: { ...jwk }, format: 'jwk' });
      const signature = Buffer.from(String(signatures[index]).slice('v1a,'.length), 'base64');
      expect(verify(null, signed, key, signature)).toBe(true);
    }
    expect(keys.map(({ whpk }) => whpk)).toEqual((await app.listeners.get(listener.id)).publicKeys);
    expect(new Set(keys.map(({ kid }) => kid)).size).toBe(2);
    // No private key, in any form.
    expect(keys.flatMap((key) => Object.keys(key))).not.toContain('d');
  });

  it('is empty for a listener without an Ed25519 scheme, and 404 for an unknown listener', async () => {
    const { id } = await app.listeners.create({ url: app.receiver.url, events: [TYPE] });
    expect(await keysOf(id)).toMatchObject({ keys: [], response: { status: 200 } });
    await app.listeners.remove(id);
    for (const missing of [id, 'lst_none', '%00']) {
      const { response } = await keysOf(missing);
      expect([response.status, response.headers.get('cache-control')]).toEqual([404, 'no-store']);
    }
  });

  it('is not replaced by a cached error', async () => {
    const { id } = await app.listeners.create({ url: app.receiver.url, events: [TYPE] });
    listenToLog();
    await app.dataSource.query('ALTER TABLE webhook_listeners RENAME TO webhook_listeners_away');
    try {
      const { response } = await keysOf(id);
      expect([response.status, response.headers.get('cache-control')]).toEqual([500, 'no-store']);
    } finally {
      await app.dataSource.query('ALTER TABLE webhook_listeners_away RENAME TO webhook_listeners');
      vi.restoreAllMocks();
    }
    expect((await keysOf(id)).response.headers.get('cache-control')).toBe('public, max-age=300');
  });

  it('is protected by the given decorators', () => {
    expect(marked).toHaveLength(1);
  });

  it('requires a valid path, data source and decorators', () => {
    for (const options of [{ path: '' }, { dataSource: '' }, { decorators: ['x'] }]) {
      expect(() => WebhooksKeysModule.forRoot(options as never)).toThrow(
        /Invalid value .* of WebhooksKeysModule\. Allowed: /,
      );
    }
    expect(() => WebhooksKeysModule.forRoot({ paht: 'x' } as never)).toThrow(
      "Unknown option `paht` of WebhooksKeysModule. Did you mean 'path'?",
    );
  });
});
