import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApiApp, type Answer, type ApiApp } from './api-app.js';

type Data = Record<string, unknown>;
const TO_1 = (data: Data) => data;
const BOOK = { type: 'book.sold', version: 3, versions: { 2: TO_1, 1: TO_1 } };
const PEN = { ...BOOK, type: 'pen.sold' };
const OAUTH2 = { type: 'oauth2', clientId: 'shop', clientSecret: 'a secret of the shop' };

/** RFC 7396: a key with `null` is removed, other keys are set, and keys that the patch does not name stay. */
describeDatabases('PATCH of a listener is a merge patch at every depth', (database) => {
  let fresh: FreshDatabase;
  let api: ApiApp;
  beforeAll(async () => {
    fresh = await database.create();
    api = await startApiApp({
      database: fresh.options,
      webhooks: { publishedTypes: ['note.sent', BOOK, PEN] as never },
      api: { limits: { writesPerMinute: 100_000 } },
    });
  });
  afterAll(async () => {
    await api.close();
    await fresh.drop();
  });

  const send = (method: string, path: string, body: unknown): Promise<Answer> =>
    api.call(method, path, { as: 'operator', body });
  async function listenerWith(input: object): Promise<string> {
    const body = { url: api.receiver.url, events: ['*'], ...input };
    const answer = await send('POST', '/listeners', body);
    expect([answer.status, answer.body]).toEqual([201, expect.anything()]);
    return answer.body.id as string;
  }
  /** @returns what the listener has afterwards */
  async function patched(id: string, patch: object): Promise<Answer['body']> {
    const { status, body } = await send('PATCH', `/listeners/${id}`, patch);
    expect([status, body]).toEqual([200, expect.anything()]);
    const { health: _, ...read } = (await api.call('GET', `/listeners/${id}`, { as: 'operator' })).body;
    expect(read).toEqual(body);
    return body;
  }

  it.each([
    ['headers', { 'x-a': '1', 'x-b': '2' }, { 'x-a': null, 'x-c': '3' }, { 'x-b': '2', 'x-c': '3' }],
    ['headers', { 'x-a': '1', 'x-b': '2' }, { 'X-A': null, 'X-B': '4' }, { 'x-b': '4' }],
    ['headers', { 'x-a': '1' }, { 'x-b': null }, { 'x-a': '1' }],
    ['headers', { 'x-a': '1' }, null, {}],
    ['metadata', { a: { b: 1, c: 2 }, d: 3 }, { a: { b: null, e: [null] }, d: null }, { a: { c: 2, e: [null] } }],
    ['metadata', { a: 1 }, { b: { c: null } }, { a: 1, b: {} }],
    ['metadata', { a: 1 }, null, null],
    ['rateLimit', { limit: 5, perSeconds: 60 }, { limit: 7 }, { limit: 7, perSeconds: 60 }],
    ['rateLimit', { limit: 5, perSeconds: 60 }, null, null],
    ['versions', { 'book.sold': 1, 'pen.sold': 2 }, { 'book.sold': null }, { 'book.sold': 3, 'pen.sold': 2 }],
    ['versions', { 'book.sold': 1, 'pen.sold': 2 }, { 'gone.type': null }, { 'book.sold': 1, 'pen.sold': 2 }],
    ['versions', { 'pen.sold': 2 }, { 'book.sold': 2, 'pen.sold': null }, { 'book.sold': 2, 'pen.sold': 3 }],
    ['versions', 'latest', { 'pen.sold': null }, { 'book.sold': 3, 'pen.sold': 3 }],
    ['versions', { 'book.sold': 1 }, null, { 'book.sold': 3, 'pen.sold': 3 }],
    // `where` is the exception: `null` is a value to compare with.
    ['where', { a: 1, b: 2 }, { a: null }, { a: null }],
    ['where', { a: 1 }, null, {}],
    ['name', 'Billing', null, null],
    ['description', 'Books orders', null, null],
    ['schemes', ['github'], null, ['standard']],
    ['format', 'cloudevents', null, 'standard'],
    ['ordering', 'entity', null, 'none'],
    ['sequence', true, null, false],
    ['externalId', '7', null, null],
  ])('changes `%s` from %j with %j to %j', async (property, before, patch, after) => {
    const id = await listenerWith({ [property]: before, secret: 'whsec_' + Buffer.alloc(32, 7).toString('base64') });
    expect(await patched(id, { [property]: patch })).toMatchObject({ [property]: after });
  });

  it('replaces `auth` as a whole, and leaves out its keys with null', async () => {
    const tokenUrl = `${api.receiver.url}token`;
    const id = await listenerWith({ auth: { ...OAUTH2, tokenUrl, scope: 'orders' } });
    const { auth } = await patched(id, { auth: { ...OAUTH2, tokenUrl, scope: null, audience: 'shop' } });
    expect(auth).toEqual({ ...OAUTH2, tokenUrl, audience: 'shop', clientSecret: '***', clientAuth: 'basic' });
    const { auth: other } = await patched(id, { auth: { type: 'headers', headers: { 'x-key': 'k', 'x-old': null } } });
    expect(other).toEqual({ type: 'headers', headers: { 'x-key': '***' } });
    expect((await patched(id, { auth: null })).auth).toBeNull();
  });

  it.each([
    ['rateLimit', { limit: null }, '/rateLimit'],
    ['auth', { type: 'bearer', token: null }, '/auth'],
    ['url', null, '/url'],
    ['events', null, '/events'],
    ['headers', { 'X-B': '1', 'x-b': '2' }, '/headers'],
    ['versions', { 'book.sold': false }, '/versions'],
  ])('refuses a patch that leaves `%s` without a value that it needs: %j', async (property, patch, pointer) => {
    const id = await listenerWith({ rateLimit: { limit: 5, perSeconds: 60 }, headers: { 'x-b': '0' } });
    const answer = await send('PATCH', `/listeners/${id}`, { [property]: patch });
    expect(answer).toMatchObject({ status: 400, body: { errors: [{ pointer }] } });
    expect((await api.listeners.get(id)).revision).toBe(1);
  });
});
