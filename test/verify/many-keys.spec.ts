import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DataSource } from 'typeorm';
import { generateSecret, SignatureScheme } from 'nestjs-entity-webhooks';
import { listenToLog } from '../support/said.js';
import { returned, startVerifyApp, TYPE, type VerifyApp } from './verify-app.js';

/** Takes longer for each key than one turn of the event loop may take, and records the iteration of the event loop. */
class SlowScheme extends SignatureScheme {
  readonly name = 'slow';
  static readonly asked: { keys: number; round: number }[] = [];
  static round = 0;

  sign(): Record<string, string> {
    return { 'x-slow': '1' };
  }

  verify({ secrets }: { secrets: readonly string[] }): boolean {
    SlowScheme.asked.push({ keys: secrets.length, round: SlowScheme.round });
    const until = performance.now() + 6;
    while (performance.now() < until);
    return false;
  }
}

describe('a listener whose keys were rotated again and again', () => {
  let app: VerifyApp;
  beforeEach(async () => {
    app = await startVerifyApp({
      webhooks: {
        parts: { signatureSchemes: [SlowScheme] },
        secrets: { keys: [{ id: 'a', key: Buffer.alloc(32, 7) }] },
      },
    });
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
  });

  const listen = (schemes: string[]) =>
    app.listeners.create({ events: [TYPE], url: app.receiver.url, schemes, secret: generateSecret() });
  const keysOf = async (id: string) => {
    const rows = await app.app
      .get(DataSource)
      .query<{ secrets: string }[]>('select secrets from webhook_listeners where id = ?', [id]);
    const kept = (JSON.parse(String(rows[0]?.secrets)) as { secrets: { publicKey?: string }[] }).secrets;
    return { secrets: kept.filter((key) => !key.publicKey).length, pairs: kept.filter((key) => key.publicKey).length };
  };

  it('is named in the log once a minute when its scheme fails, however often its webhooks come back', async () => {
    await listen(['slow']);
    const back = returned(await app.deliver());
    const said = listenToLog();
    const verify = vi.spyOn(SlowScheme.prototype, 'verify').mockImplementation(() => {
      throw new Error('no idea');
    });
    for (let n = 0; n < 3; n++) expect(await app.verdict(back)).toBe('INVALID');
    expect(verify).toHaveBeenCalledTimes(3);
    expect(said.errors).toEqual([expect.stringMatching(/^The signature scheme 'slow' threw .*: no idea$/)]);
    const minute = performance.now() + 60_001;
    vi.spyOn(performance, 'now').mockReturnValue(minute);
    expect(await app.verdict(back)).toBe('INVALID');
    expect(said.errors).toHaveLength(2);
  });

  it('keeps the newest 21 keys of each type, and exactly these verify', async () => {
    const { id } = await listen(['standard', 'standard-v1a']);
    const first = returned(await app.deliver());
    for (let n = 0; n < 20; n++) {
      await app.listeners.rotateSecret(id, { overlapMs: 0 });
      await app.listeners.rotateSigningKey(id, { overlapMs: 0 });
    }
    expect(await keysOf(id)).toEqual({ secrets: 21, pairs: 21 });
    expect(await app.verdict(first)).toBe('VERIFIED');
    await app.listeners.rotateSecret(id, { overlapMs: 0 });
    await app.listeners.rotateSigningKey(id, { overlapMs: 0 });
    expect(await keysOf(id)).toEqual({ secrets: 21, pairs: 21 });
    expect(await app.verdict(first)).toBe('INVALID');
    expect(await app.verdict(returned(await app.deliver()))).toBe('VERIFIED');
  });

  it('gives other requests a turn after each key', async () => {
    const { id } = await listen(['slow']);
    const arrived = returned(await app.deliver());
    for (let n = 0; n < 10; n++) await app.listeners.rotateSecret(id, { overlapMs: 0 });
    SlowScheme.asked.length = 0;
    let isOver = false;
    const count = () => {
      SlowScheme.round++;
      if (!isOver) setImmediate(count);
    };
    count();
    await Promise.all([app.verdict(arrived), app.verdict(arrived)]);
    isOver = true;
    expect(SlowScheme.asked).toHaveLength(2 * 11);
    expect(SlowScheme.asked.every(({ keys }) => keys === 1)).toBe(true);
    // No iteration has two checks, whether of one request or of both.
    expect(new Set(SlowScheme.asked.map(({ round }) => round)).size).toBe(2 * 11);
  });

  it('finds a genuine Ed25519 signature in the last position that is checked, after invented ones', async () => {
    await listen(['standard-v1a']);
    const text = 'x'.repeat(200_000);
    const arrived = returned(await app.deliver({ text }));
    const invented = Array.from({ length: 31 }, () => `v1a,${Buffer.alloc(64, 1).toString('base64')}`);
    const signature = String(arrived.headers['webhook-signature']);
    const behind = (count: number) => [...invented.slice(0, count), signature].join(' ');
    const ask = (value: string) =>
      app.verdict({ ...arrived, headers: { ...arrived.headers, 'webhook-signature': value } });
    expect(await ask(behind(31))).toBe('VERIFIED');
    expect(await ask(`${invented[0]} ${behind(31)}`)).toBe('INVALID');
  });
});
