import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { webhookCatalog, type WebhookCatalog } from 'nestjs-entity-webhooks/catalog';
import { createWebhooksClient } from 'nestjs-entity-webhooks/client';
import { EventTypes } from '../../libs/webhooks/src/api/event-types.js';
import { accessOf, startApiApp, type Answer, type ApiApp, type Call, type Platform } from './api-app.js';

const PUBLISHED_TYPES = [
  'note.sent',
  { type: 'stock.low', visibility: 'internal' as const, fields: ['article'] },
  {
    type: 'invoice.due',
    title: 'Invoice due',
    group: 'Billing',
    description: 'An invoice is due.',
    deprecated: { since: '2026-10-01', use: 'note.sent' },
    schema: { type: 'object', properties: { id: { type: 'integer' } }, required: ['id'] },
  },
];
const OF_OWNERS = [
  'invoice.due',
  'note.sent',
  ...['created', 'deleted', 'restored', 'updated'].map((action) => `order.${action}`),
  ...[
    'delivery.exhausted',
    'listener.disabled',
    'listener.disabling_soon',
    'listener.failing',
    'listener.recovered',
  ].map((name) => `webhooks.${name}`),
];
/** No owner may know of these: internal, without an owner, or about the application. */
const HIDDEN = ['stock.low', 'rate.', 'webhooks.lag', 'webhooks.outbox'];
const DOCUMENTS = [
  '/event-types',
  '/event-types/openapi.json',
  '/event-types/asyncapi.json',
  '/event-types/types.d.ts',
];

describe.each(['express', 'fastify'] satisfies Platform[])('the event types of the API (%s)', (platform) => {
  let api: ApiApp;
  let catalog: WebhookCatalog;
  beforeAll(async () => {
    api = await startApiApp({ platform, webhooks: { publishedTypes: PUBLISHED_TYPES, operationalEvents: true } });
    catalog = await webhookCatalog(api.app);
  });
  afterAll(() => api.close());

  const read = (path: string, as: string, headers: Call['headers'] = {}): Promise<Answer> =>
    api.call('GET', path, { as, headers });
  const typesOf = (answer: Answer) => (answer.body.items as { type: string }[]).map(({ type }) => type);

  it('are those of the catalogue for operators, and those that they may subscribe to for owners', async () => {
    const all = await read('/event-types', 'operator');
    expect(typesOf(all)).toEqual(catalog.types.map(({ type }) => type));
    expect(typesOf(all)).toEqual(expect.arrayContaining(['stock.low', 'rate.created', 'webhooks.lag.high']));
    const own = await read('/event-types', 'acme view');
    expect(typesOf(own)).toEqual(OF_OWNERS);
    expect(own.body.items[0]).toEqual({
      type: 'invoice.due',
      title: 'Invoice due',
      group: 'Billing',
      description: 'An invoice is due.',
      deprecated: { since: '2026-10-01', use: 'note.sent' },
      visibility: 'public',
      version: 1,
      versions: [1],
      properties: ['id'],
    });
  });

  it.each(DOCUMENTS)('%s names to an owner nothing that an owner may not subscribe to', async (path) => {
    const [own, all] = [await read(path, 'acme view'), await read(path, 'operator')];
    expect([own.status, all.status]).toEqual([200, 200]);
    for (const hidden of HIDDEN) {
      expect([hidden, own.text.includes(hidden), all.text.includes(hidden)]).toEqual([hidden, false, true]);
    }
    expect(own.text).toContain('order.updated');
  });

  it('have a schema and examples', async () => {
    const type = catalog.types.find((one) => one.type === 'order.updated');
    const { body } = await read('/event-types/order.updated', 'acme view');
    expect(body).toMatchObject({
      schema: type?.schema,
      examples: type?.examples,
      properties: ['customer', 'id', 'status'],
    });
    expect((await read('/event-types/schemas/order.updated.json', 'acme view')).body).toEqual(type?.schema);
  });

  it.each(['/event-types/TYPE', '/event-types/schemas/TYPE.json'])(
    '%s says the same of a hidden type and of an unknown one',
    async (path) => {
      const shown = async (type: string) => {
        const { status, text } = await read(path.replace('TYPE', type), 'acme view');
        return [status, text.replaceAll(type, 'TYPE').replace(/urn:uuid:[\w-]+/, 'URN')];
      };
      const unknown = await shown('nothing.here');
      expect(unknown).toEqual([404, expect.stringContaining('"code":"UNKNOWN_EVENT_TYPE"')]);
      for (const hidden of ['stock.low', 'rate.created', 'webhooks.lag.high'])
        expect(await shown(hidden)).toEqual(unknown);
      expect((await read(path.replace('TYPE', 'stock.low'), 'operator')).status).toBe(200);
    },
  );

  it('are documents that tools read', async () => {
    const openApi = (await read('/event-types/openapi.json', 'acme')).body;
    expect([openApi.openapi, Object.keys(openApi.webhooks as object)]).toEqual(['3.1.0', OF_OWNERS]);
    expect((await read('/event-types/asyncapi.json', 'acme')).body).toMatchObject({ asyncapi: '3.1.0' });
    const types = await read('/event-types/types.d.ts', 'acme');
    expect(types.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    const { diagnostics } = ts.transpileModule(types.text, { reportDiagnostics: true });
    expect(diagnostics).toEqual([]);
  });

  it.each([...DOCUMENTS, '/event-types/order.updated', '/event-types/schemas/order.updated.json', '/openapi.json'])(
    '%s is not sent again to a caller that has it',
    async (path) => {
      const first = await read(path, 'acme');
      const etag = first.headers.get('etag') ?? '';
      expect(etag).toMatch(/^"[\w-]{27}"$/);
      expect(first.headers.get('cache-control')).toBe('private, no-cache');
      for (const known of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
        const again = await read(path, 'acme', { 'if-none-match': known });
        expect([known, again.status, again.text, again.headers.get('etag')]).toEqual([known, 304, '', etag]);
      }
      const changed = await read(path, 'acme', { 'if-none-match': '"other"' });
      expect([changed.status, changed.text, changed.headers.get('etag')]).toEqual([200, first.text, etag]);
    },
  );

  it('have other tags for operators, so that a browser never shows them to the next user', async () => {
    const { headers } = await read('/event-types', 'operator');
    const own = await read('/event-types', 'acme', { 'if-none-match': headers.get('etag') ?? '' });
    expect([own.status, typesOf(own)]).toEqual([200, OF_OWNERS]);
  });

  it('need catalog:read', async () => {
    const { body } = await api.call('POST', '/sessions', {
      as: 'operator',
      body: { kind: 'owner', owner: 'a', can: [] },
    });
    for (const path of [...DOCUMENTS, '/event-types/order.updated']) {
      const headers = { authorization: `Bearer ${body.token}`, 'if-none-match': '*' };
      expect(await api.call('GET', path, { headers })).toMatchObject({
        status: 403,
        body: { code: 'CAPABILITY_MISSING' },
      });
      expect(await api.call('GET', path)).toMatchObject({ status: 401 });
    }
  });

  it('are what the client says', async () => {
    const client = createWebhooksClient({ url: `${api.origin}/webhooks/v1`, headers: { 'x-user': 'acme' } });
    expect((await client.listEventTypes()).items.map(({ type }) => type)).toEqual(OF_OWNERS);
    const { examples, schema } = await client.getEventType({ type: 'note.sent' });
    expect(examples).toHaveLength(1);
    expect(await client.getEventSchema({ type: 'note.sent' })).toEqual(schema);
    expect(await client.getEventsTypeScript()).toContain("'order.updated': WebhookBody<");
    expect(await client.getEventsOpenApi()).toHaveProperty('webhooks');
    expect(await client.getEventsAsyncApi()).toHaveProperty('operations');
  });
});

describe.each(['express', 'fastify'] satisfies Platform[])('with `catalog: { public: true }` (%s)', (platform) => {
  const guard = { canActivate: vi.fn(() => true) };
  const access = vi.fn(accessOf);
  let api: ApiApp;
  beforeAll(async () => {
    api = await startApiApp({
      platform,
      webhooks: { publishedTypes: PUBLISHED_TYPES, operationalEvents: true },
      api: { catalog: { public: true }, guards: [guard], access, limits: { readsPerMinute: 1 } },
    });
  });
  afterAll(() => api.close());

  it('everybody reads what owners may subscribe to, and neither guards nor access() run', async () => {
    for (const path of [...DOCUMENTS, '/event-types/order.updated', '/openapi.json']) {
      for (const as of [undefined, 'operator']) {
        const answer = await api.call('GET', path, as === undefined ? {} : { as });
        expect([path, answer.status]).toEqual([path, 200]);
        for (const hidden of HIDDEN) expect([hidden, answer.text.includes(hidden)]).toEqual([hidden, false]);
      }
    }
    expect(await api.call('GET', '/event-types/stock.low')).toMatchObject({ status: 404 });
    expect([guard.canActivate.mock.calls.length, access.mock.calls.length]).toEqual([0, 0]);
  });

  it('every other route needs a login', async () => {
    for (const path of ['/me', '/sender', '/listeners', '/deliveries', '/events'])
      expect([path, (await api.call('GET', path)).status]).toEqual([path, 401]);
    expect([guard.canActivate.mock.calls.length, access.mock.calls.length]).toEqual([5, 5]);
  });

  it('a token of a session shows what its caller may see', async () => {
    const can = ['catalog:read'];
    const { body } = await api.call('POST', '/sessions', { as: 'operator', body: { kind: 'operator', can } });
    const headers = { authorization: `Bearer ${body.token}` };
    expect((await api.call('GET', '/event-types/stock.low', { headers })).status).toBe(200);
    const wrong = { authorization: 'Bearer whs_x' };
    expect((await api.call('GET', '/event-types', { headers: wrong })).status).toBe(401);
  });
});

describe('the catalogue of an instance', () => {
  it('is made once for owners and once for operators, and only when it is asked for', async () => {
    const all = vi.fn(() => []);
    const known = { registry: { all }, publishedTypes: new Map(), hasOperationalEvents: false, typesFor: () => [] };
    const types = new EventTypes(known as never);
    expect(all).not.toHaveBeenCalled();
    const views = await Promise.all([types.viewFor(true), types.viewFor(true), types.viewFor(false)]);
    expect(views[0]).toBe(views[1]);
    expect(all).toHaveBeenCalledTimes(2);
    const make = vi.fn(() => 'text');
    expect([views[0].document('a', make), views[0].document('a', make)]).toEqual(['text', 'text']);
    expect(make).toHaveBeenCalledTimes(1);
  });
});
