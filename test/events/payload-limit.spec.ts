import { Column, Entity, PrimaryColumn } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Webhook, type JsonObject, type WebhookEvent, type Where } from 'nestjs-entity-webhooks';
import { renderPayload } from '../../libs/webhooks/src/events/payload.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: 'customerId' })
@Entity('payload_limit_document')
class Doc {
  @PrimaryColumn({ type: 'varchar', length: 36 })
  id: string;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customerId: string;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'text', nullable: true })
  small: string | null;

  @Column({ type: 'text', nullable: true })
  large: string | null;
}

describe('a payload with very many properties', () => {
  it('is made thin in time that grows linearly with their number, not quadratically', () => {
    const data = Object.fromEntries(Array.from({ length: 60_000 }, (_, n) => [`k${n}`, n]));
    const event = { id: 'evt_1', type: 'form.sent', timestamp: '', data, owner: null, context: null } as WebhookEvent;
    const limits = { maxPayloadBytes: 512 * 1_024, maxStoredBytes: 600 * 1_024 };
    const began = performance.now();
    const { text, thin, dropped } = renderPayload(event, ['id'], limits);
    // A quadratic version took more than 10 s.
    expect(performance.now() - began).toBeLessThan(4_000);
    expect(Buffer.byteLength(thin ?? '')).toBeLessThanOrEqual(limits.maxPayloadBytes);
    expect(Object.keys((JSON.parse(text) as { data: object }).data).length + (dropped?.length ?? 0)).toBe(60_000);
  });
});

describeDatabases('a payload over the limit', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Doc],
      webhooks: { publishedTypes: ['report.made'], payload: { maxPayloadBytes: 1_024, maxStoredBytes: 4_096 } },
    });
  });
  afterEach(async () => {
    const { items } = await app.listeners.list({ limit: 500 });
    for (const { id } of items) await app.listeners.remove(id);
    await app.dispatcher.drain();
    app.receiver.clear();
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (where: Where, owner: string | null = null) =>
    app.listeners.create({ entity: Doc, where, owner, url: app.receiver.url });
  let count = 0;
  const save = (doc: Partial<Doc>) => app.dataSource.manager.save(Doc, { id: `doc-${++count}`, ...doc } as Doc);
  const sent = async () => {
    await app.dispatcher.drain();
    const { requests } = app.receiver;
    const bodies = requests.map(
      ({ json }) => json as { type: string; truncated?: true; data: JsonObject; previous?: JsonObject },
    );
    for (const { rawBody } of requests) expect(rawBody.length).toBeLessThanOrEqual(1_024);
    app.receiver.clear();
    return bodies;
  };

  it('is sent thin: marked, with the id and the fields that fit, smallest first', async () => {
    await listen({});
    const { id } = await save({ small: 's'.repeat(300), large: 'l'.repeat(900) });
    const [body] = await sent();
    expect(body).toMatchObject({ type: 'doc.created', truncated: true });
    expect(body?.data).toEqual({ id, customerId: 'acme', status: 'new', small: 's'.repeat(300) });
    expect(Object.keys(body ?? {})).toEqual(['type', 'timestamp', 'truncated', 'data']);
  });

  it('counts UTF-8 bytes, not characters', async () => {
    await listen({});
    await save({ large: '😀'.repeat(300) }); // 600 units of UTF-16, 1,200 bytes
    const [body] = await sent();
    expect(body?.truncated).toBe(true);
    expect(body?.data).not.toHaveProperty('large');
  });

  it('is filtered by all its fields, even by fields that are not sent', async () => {
    const large = 'l'.repeat(2_000);
    await listen({ large, status: { changedTo: 'paid' } });
    const { id } = await save({ large });
    expect(await sent()).toEqual([]);
    await save({ id, status: 'paid' });
    expect(await sent()).toMatchObject([
      { truncated: true, data: { id, status: 'paid' }, previous: { status: 'new' } },
    ]);
    await save({ id, status: 'new', large: `${large}x` });
    await save({ id, status: 'paid' });
    expect(await sent()).toEqual([]);
  });

  it('loses its largest field above the limit for stored payloads, and a filter on this field counts as matching', async () => {
    await listen({ large: 'something else' });
    await listen({ large: { gt: 'zzz' }, status: 'paid' });
    await listen({ large: { changed: true }, status: 'other' });
    await listen({ small: 'something else' });
    const { id } = await save({ large: 'l'.repeat(5_000), small: 's', status: 'paid' });
    const bodies = await sent();
    expect(bodies).toHaveLength(2);
    for (const body of bodies) {
      expect(body).toMatchObject({ truncated: true });
      expect(body.data).toEqual({ id, customerId: 'acme', small: 's', status: 'paid' });
    }
    const [row]: { payload: string }[] = await app.dataSource.query(
      'SELECT payload FROM webhook_events ORDER BY seq DESC LIMIT 1',
    );
    expect(Buffer.byteLength(row?.payload ?? '')).toBeLessThanOrEqual(4_096);
  });

  it('reaches only its owner, even if a dropped field makes all listeners candidates', async () => {
    await listen({ large: 'x' }, 'acme');
    await listen({ large: 'x' }, 'globex');
    await save({ large: 'l'.repeat(5_000) });
    expect(await sent()).toHaveLength(1);
  });

  it('never fails the write, whatever its size', async () => {
    await listen({});
    const { id } = await save({ large: '😀'.repeat(15_000) });
    expect(await app.dataSource.manager.findOneByOrFail(Doc, { id })).toMatchObject({ large: '😀'.repeat(15_000) });
    expect(await sent()).toHaveLength(1);
  });

  it('is sent thin after publish(), too', async () => {
    await app.listeners.create({ events: ['report.made'], url: app.receiver.url });
    await app.webhooks.publish('report.made', { lines: 'l'.repeat(2_000), id: 'r1', title: 't' });
    expect(await sent()).toMatchObject([{ truncated: true, data: { id: 'r1', title: 't' } }]);
  });
});
