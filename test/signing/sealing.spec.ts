import { createSecretKey } from 'node:crypto';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { SealingKeyOptions } from 'nestjs-entity-webhooks';
import { Sealing } from '../../libs/webhooks/src/secrets/sealing.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { listenToLog, type Said } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const TYPE = 'note.sent';
const MINUTE = 60 * 1_000;
const DAY = 24 * 60 * MINUTE;
const keyOf = (id: string, fill: number) => ({ id, key: createSecretKey(Buffer.alloc(32, fill)) });
const K1: SealingKeyOptions = { id: 'k1', key: Buffer.alloc(32, 1) };
const K2: SealingKeyOptions = { id: 'k2', key: Buffer.alloc(32, 2).toString('base64') };

function codeOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

describe('a sealed secret', () => {
  const sealing = new Sealing([keyOf('k1', 1)]);
  const sealed = sealing.seal('whsec_é', 'secret', 'lst_a');

  it('opens only with its key, for its listener and its use', () => {
    expect(sealed).toMatch(/^sealed:k1:[\w-]+$/);
    expect(sealing.open(sealed, 'secret', 'lst_a')).toBe('whsec_é');
    const fresh = new Sealing([keyOf('k1', 1)]);
    expect(codeOf(() => fresh.open(sealed, 'secret', 'lst_b'))).toBe('SECRET_UNREADABLE');
    expect(codeOf(() => fresh.open(sealed, 'auth', 'lst_a'))).toBe('SECRET_UNREADABLE');
    // Also after it was opened correctly and cached.
    expect(codeOf(() => sealing.open(sealed, 'secret', 'lst_b'))).toBe('SECRET_UNREADABLE');
    expect(codeOf(() => sealing.open(sealed, 'auth', 'lst_a'))).toBe('SECRET_UNREADABLE');
  });

  it('is a different text each time', () => {
    expect(sealing.seal('whsec_é', 'secret', 'lst_a')).not.toBe(sealed);
  });

  it('does not open with a wrong key, under another key id, or with any byte changed', () => {
    expect(codeOf(() => new Sealing([keyOf('k1', 2)]).open(sealed, 'secret', 'lst_a'))).toBe('SECRET_UNREADABLE');
    const other = new Sealing([keyOf('k0', 1), keyOf('k2', 1)]);
    expect(codeOf(() => other.open(sealed, 'secret', 'lst_a'))).toBe('SECRET_KEY_MISSING');
    expect(codeOf(() => other.open(sealed.replace('k1', 'k2'), 'secret', 'lst_a'))).toBe('SECRET_UNREADABLE');
    const box = Buffer.from(sealed.slice('sealed:k1:'.length), 'base64url');
    for (let index = 0; index < box.length; index++) {
      const changed = Buffer.from(box);
      changed[index] = (changed[index] as number) ^ 1;
      const text = `sealed:k1:${changed.toString('base64url')}`;
      expect(codeOf(() => sealing.open(text, 'secret', 'lst_a'))).toBe('SECRET_UNREADABLE');
    }
    for (const cut of [box.subarray(0, -1), box.subarray(0, 29), box.subarray(0, 1), Buffer.alloc(0)]) {
      const text = `sealed:k1:${cut.toString('base64url')}`;
      expect(codeOf(() => sealing.open(text, 'secret', 'lst_a'))).toBe('SECRET_UNREADABLE');
    }
  });

  it('is sealed with the first key, and opens with every key', () => {
    const both = new Sealing([keyOf('k2', 2), keyOf('k1', 1)]);
    expect(both.open(sealed, 'secret', 'lst_a')).toBe('whsec_é');
    expect([both.isOutdated(sealed), both.isOutdated('whsec_é'), sealing.isOutdated(sealed)]).toEqual([
      true,
      true,
      false,
    ]);
    const anew = both.reseal(sealed, 'secret', 'lst_a');
    expect(anew).toMatch(/^sealed:k2:/);
    expect(both.reseal(anew, 'secret', 'lst_a')).toBe(anew);
    expect(new Sealing([keyOf('k2', 2)]).open(anew, 'secret', 'lst_a')).toBe('whsec_é');
  });

  it('shows neither itself nor the key to a debugger, nor in an error', () => {
    sealing.open(sealed, 'secret', 'lst_a');
    const shown = inspect(sealing, { depth: 10, showHidden: true }) + JSON.stringify(sealing);
    expect(shown).not.toContain('whsec_é');
    for (const form of ['hex', 'base64'] as const) expect(shown).not.toContain(Buffer.alloc(32, 1).toString(form));
    try {
      sealing.open(sealed, 'secret', 'lst_b');
    } catch (error) {
      expect(inspect(error, { depth: 10 })).not.toContain('whsec_é');
    }
  });

  it('opens only for the origin that it was sealed for', () => {
    const auth = sealing.seal('token', 'auth', 'lst_a', 'https://a.example');
    expect(sealing.open(auth, 'auth', 'lst_a', 'https://a.example')).toBe('token');
    for (const origin of ['https://b.example', 'http://a.example', '']) {
      expect(codeOf(() => sealing.open(auth, 'auth', 'lst_a', origin))).toBe('SECRET_UNREADABLE');
    }
    const both = new Sealing([keyOf('k2', 2), keyOf('k1', 1)]);
    const anew = both.reseal(auth, 'auth', 'lst_a', 'https://a.example');
    expect(both.open(anew, 'auth', 'lst_a', 'https://a.example')).toBe('token');
    expect(codeOf(() => both.reseal(auth, 'auth', 'lst_a', 'https://b.example'))).toBe('SECRET_UNREADABLE');
  });

  it('is the only text that opens with requireSealed', () => {
    const strict = new Sealing([keyOf('k1', 1)], true);
    expect(strict.open(sealed, 'secret', 'lst_a')).toBe('whsec_é');
    expect(codeOf(() => strict.open('whsec_é', 'secret', 'lst_a'))).toBe('SECRET_NOT_SEALED');
    expect(codeOf(() => strict.reseal('whsec_é', 'secret', 'lst_a'))).toBe('SECRET_NOT_SEALED');
  });

  it('is the unchanged text without keys, and that text can also be read with keys', () => {
    const none = new Sealing([]);
    expect([none.isOn, none.seal('whsec_é', 'secret', 'lst_a')]).toEqual([false, 'whsec_é']);
    expect(sealing.open('whsec_é', 'secret', 'lst_a')).toBe('whsec_é');
    expect(codeOf(() => none.open(sealed, 'secret', 'lst_a'))).toBe('SECRET_KEY_MISSING');
  });
});

describeDatabases('secrets at rest', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let said: Said;
  let warned: string[];

  const start = async (keys?: SealingKeyOptions[]) => {
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: [TYPE], ...(keys ? { secrets: { keys } } : {}) },
    });
  };
  const restart = async (keys?: SealingKeyOptions[]) => {
    await app.close();
    await start(keys);
  };
  const rows = () =>
    app.dataSource.query<{ id: string; secrets: string }[]>('SELECT id, secrets FROM webhook_listeners');
  const keysInUse = async () =>
    (await rows()).flatMap(({ secrets }) =>
      [...secrets.matchAll(/"value":"(sealed:\w+|whsec|whsk)/g)].map(([, key]) => key),
    );
  const listen = () =>
    app.listeners.create({ url: app.receiver.url, events: [TYPE], schemes: ['standard', 'standard-v1a'] });
  const send = async () => {
    await app.webhooks.publish(TYPE, { n: 1 });
    await app.dispatcher.drain();
  };

  beforeEach(async () => {
    fresh = await database.reuse();
    said = listenToLog();
    const { Logger } = await import('@nestjs/common');
    warned = [];
    vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warned.push(String(text)));
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  it('move from no key to a first key, to a second key, and off the first, while every delivery is sent', async () => {
    await start();
    expect(warned).toEqual([expect.stringMatching(/^secrets\.keys is not set/)]);
    const { id, secret } = await listen();
    const { id: gone } = await listen();
    await app.listeners.remove(gone);
    expect(await keysInUse()).toEqual(['whsec', 'whsk', 'whsec', 'whsk']);
    const receives = async () => {
      await app.listeners.update(id, { url: app.receiver.url });
      await send();
      const [request] = await app.receiver.waitFor(1);
      app.receiver.verify(request as never, secret);
    };

    warned.length = 0;
    await restart([K1]);
    expect(warned).toEqual([]);
    await receives();
    expect(await app.listeners.resealSecrets()).toEqual({ resealed: 2, unreadable: [] });
    expect(new Set(await keysInUse())).toEqual(new Set(['sealed:k1']));
    expect(await app.listeners.resealSecrets()).toEqual({ resealed: 0, unreadable: [] });
    await receives();

    await restart([K2, K1]);
    await receives();
    // A rotation also seals the old secret again.
    const { secret: next } = await app.listeners.rotateSecret(id);
    expect(await keysInUse()).toEqual(expect.arrayContaining(['sealed:k2', 'sealed:k1']));
    const [row] = (await rows()).filter((one) => one.id === id);
    expect(row?.secrets).not.toContain('sealed:k1');
    expect(await app.listeners.resealSecrets()).toEqual({ resealed: 1, unreadable: [] });

    await restart([K2]);
    await receives();
    app.clock.advance(8 * DAY);
    // Secrets that no longer verify are removed at the same time.
    expect(await app.listeners.resealSecrets()).toEqual({ resealed: 1, unreadable: [] });
    await app.listeners.update(id, { url: app.receiver.url });
    app.receiver.clear();
    await send();
    app.receiver.verify(app.receiver.requests[0] as never, next);
    expect(said.errors).toEqual([]);
  });

  it.each([
    ['is not there', [K2], 'SECRET_KEY_MISSING'],
    ['is another one of the same id', [{ ...K2, id: 'k1' }], 'SECRET_UNREADABLE'],
    ['is gone, as all are', undefined, 'SECRET_KEY_MISSING'],
  ])(
    'wait without an attempt and with one log line when their key %s, and are used when it is back',
    async (_what, keys, code) => {
      await start([K1]);
      const { id, secret } = await listen();
      await restart(keys);
      await app.listeners.update(id, { url: app.receiver.url });
      const other = await app.listeners.create({ url: app.receiver.url, events: [TYPE] });
      await send();
      app.clock.advance(MINUTE);
      await send();
      // The other listeners receive their webhooks.
      expect(app.receiver.requests).toHaveLength(2);
      for (const request of app.receiver.requests) app.receiver.verify(request, other.secret);
      expect(said.errors).toEqual([expect.stringMatching(`^${code}: A secret of listener ${id} `)]);
      expect(said.errors[0]).toMatch(
        /[.] Deliveries to this listener, .* Give every process the same secrets\.keys\.$/,
      );
      const { items } = await app.deliveries.list({ listenerId: id });
      expect(items).toHaveLength(2);
      for (const { state, attemptCount } of items) expect([state, attemptCount]).toEqual(['due', 0]);
      expect(await app.listeners.get(id)).toMatchObject({ state: 'active' });
      expect((await app.listeners.resealSecrets()).unreadable).toEqual([id]);

      await restart([K1, ...(keys?.[0]?.id === 'k2' ? [K2] : [])]);
      await app.listeners.update(id, { url: app.receiver.url });
      if (keys?.[0]?.id === 'k1') await app.listeners.remove(other.id); // it is sealed with the wrong key now
      app.clock.advance(2 * MINUTE);
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(2);
      for (const request of app.receiver.requests) app.receiver.verify(request, secret);
    },
  );

  it('are erased by the daily chore when they neither sign nor verify any more', async () => {
    await start([K1]);
    const count = 120; // more than one batch
    const ids: string[] = [];
    for (let n = 0; n < count; n++) ids.push((await listen()).id);
    await app.listeners.rotateSecret(ids[0] as string);
    await app.listeners.rotateSecret(ids[count - 1] as string);
    await app.listeners.rotateSigningKey(ids[count - 1] as string);
    const { id: gone } = await listen();
    await app.listeners.rotateSecret(gone);
    await app.listeners.remove(gone);
    const kept = async () => {
      const secrets = new Map((await rows()).map((row) => [row.id, row.secrets.split('"value"').length - 1]));
      return [ids[0], ids[1], ids[count - 1], gone].map((id) => secrets.get(id as string));
    };
    expect(await kept()).toEqual([3, 2, 4, 3]);
    await app.dispatcher.runChores();
    // A day of overlap, and seven days in which the verify view still accepts them.
    app.clock.advance(8 * DAY - MINUTE);
    await app.dispatcher.runChores();
    expect(await kept()).toEqual([3, 2, 4, 3]);
    app.clock.advance(MINUTE);
    await app.dispatcher.runChores(); // does nothing: it runs once a day, and ran a minute ago
    expect(await kept()).toEqual([3, 2, 4, 3]);
    app.clock.advance(DAY);
    const other = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: [TYPE], secrets: { keys: [K2] } }, // erasing needs no key
    });
    try {
      other.clock.advance(app.clock.now() - other.clock.now());
      await Promise.all([app.dispatcher.runChores(), other.dispatcher.runChores()]);
    } finally {
      await other.close();
    }
    expect(await kept()).toEqual([2, 2, 2, 2]);
    await send();
    expect(app.receiver.requests).toHaveLength(count);
  });

  it('can be replaced without their key only by a rotation without overlap', async () => {
    await start([K1]);
    const { id } = await listen();
    await restart([K2]);
    await app.listeners.update(id, { url: app.receiver.url });
    await expect(app.listeners.rotateSecret(id)).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
    await expect(app.listeners.rotateSigningKey(id)).rejects.toMatchObject({ code: 'SECRET_KEY_MISSING' });
    const { secret } = await app.listeners.rotateSecret(id, { overlapMs: 0 });
    const { publicKeys } = await app.listeners.rotateSigningKey(id, { overlapMs: 0 });
    await send();
    for (const key of [secret, ...publicKeys]) app.receiver.verify(app.receiver.requests[0] as never, key);
    expect(await keysInUse()).toEqual(['sealed:k2', 'sealed:k2']);
  });

  it('do not open in the row of another listener', async () => {
    await start([K1]);
    const mine = await listen();
    const theirs = await listen();
    const [row] = (await rows()).filter(({ id }) => id === theirs.id);
    const sql = `UPDATE webhook_listeners SET secrets = '${row?.secrets}' WHERE id = '${mine.id}'`;
    await app.dataSource.query(sql);
    await app.listeners.remove(theirs.id);
    await send();
    expect(app.receiver.requests).toEqual([]);
    expect(said.errors).toEqual([expect.stringMatching(`^SECRET_UNREADABLE: A secret of listener ${mine.id} `)]);
  });
});
