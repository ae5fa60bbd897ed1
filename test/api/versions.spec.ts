import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApiApp, type Answer, type ApiApp } from './api-app.js';

type Data = Record<string, unknown>;

const SCHEMA_1 = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] };

/** Version 3 says `title`, version 2 also had its length, and version 1 said `name`. */
const BOOK = {
  type: 'book.sold',
  examples: [{ title: 'Emma' }],
  version: 3,
  versions: {
    2: (data: Data) => ({ ...data, length: String(data['title']).length }),
    1: {
      render: ({ title, length: _, ...data }: Data) => ({ ...data, name: title }),
      schema: SCHEMA_1,
      deprecated: { since: '2026-01-01', sunset: '2026-06-30' },
    },
  },
};
const SECRET_BOOK = { ...BOOK, type: 'book.hidden', visibility: 'internal' as const };
/** Has one version, so that its whole type is deprecated. */
const OLD = { type: 'old.type', deprecated: { since: '2026-10-01' } };

describeDatabases('the API of types with several versions', (database) => {
  let fresh: FreshDatabase;
  let api: ApiApp;
  beforeAll(async () => {
    fresh = await database.create();
    api = await startApiApp({
      database: fresh.options,
      webhooks: { publishedTypes: ['note.sent', BOOK, SECRET_BOOK, OLD] as never },
      api: { limits: { writesPerMinute: 100_000, readsPerMinute: 100_000, previewsPerMinute: 100_000 } },
    });
  });
  afterAll(async () => {
    await api.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    api.receiver.clear();
    for (const { id } of (await api.listeners.list()).items) await api.listeners.remove(id);
  });

  const call = (method: string, path: string, body?: unknown, as = 'operator'): Promise<Answer> =>
    api.call(method, path, { as, ...(body === undefined ? {} : { body }) });
  const create = (input: object, as?: string) =>
    call('POST', '/listeners', { url: api.receiver.url, events: ['book.sold'], ...input }, as);
  /** Sends one event. @returns its request */
  async function sell(title: string, type = 'book.sold') {
    await api.webhooks.publish(type, { title });
    await api.dispatcher.drain();
    const request = api.receiver.requests.at(-1);
    if (!request) throw new Error('no request');
    return request;
  }
  async function lastDelivery(listenerId: string): Promise<string> {
    const { body } = await call('GET', `/deliveries?listenerId=${listenerId}`);
    return (body.items as { id: string }[])[0]?.id ?? '';
  }

  it('lists the versions of a type, and shows the newest unless `version` names another', async () => {
    const listed = (await call('GET', '/event-types')).body.items as { type: string }[];
    expect(listed.find(({ type }) => type === 'book.sold')).toMatchObject({ version: 3, versions: [3, 2, 1] });
    const newest = (await call('GET', '/event-types/book.sold')).body;
    expect(newest).toMatchObject({ version: 3, versions: [3, 2, 1], deprecated: null });
    expect(newest.examples).toMatchObject([{ version: 3, data: { title: 'Emma' } }]);
    expect((await call('GET', '/event-types/book.sold?version=3')).body).toEqual(newest);
    const second = (await call('GET', '/event-types/book.sold?version=2')).body;
    expect(second).toMatchObject({ version: 2, examples: [{ version: 2, data: { title: 'Emma', length: 4 } }] });
    const first = (await call('GET', '/event-types/book.sold?version=1')).body;
    expect(first).toMatchObject({
      version: 1,
      versions: [3, 2, 1],
      deprecated: { since: '2026-01-01', sunset: '2026-06-30' },
      examples: [{ data: { name: 'Emma' } }],
    });
    expect(JSON.stringify(first.schema)).toContain('"name"');
    expect(first.examples[0]).not.toHaveProperty('version');
    expect((await call('GET', '/event-types/schemas/book.sold.1.json')).body).toEqual(first.schema);
    expect((await call('GET', '/event-types/schemas/book.sold.3.json')).body).toEqual(newest.schema);
    expect((await call('GET', '/event-types/schemas/note.sent.1.json')).status).toBe(200);
    expect((await call('GET', '/event-types/schemas/book.sold.4.json')).status).toBe(404);
  });

  it.each([
    ['?version=4', 404, 'UNKNOWN_VERSION', undefined],
    ['?version=0', 400, 'INVALID_REQUEST', 'version'],
    ['?version=1.5', 400, 'INVALID_REQUEST', 'version'],
    ['?version=one', 400, 'INVALID_REQUEST', 'version'],
  ])('answers %s with a problem document: %i, %s', async (query, status, code, parameter) => {
    const { headers, body, ...answer } = await call('GET', `/event-types/book.sold${query}`);
    expect(answer.status).toBe(status);
    expect(headers.get('content-type')).toContain('application/problem+json');
    expect(body).toMatchObject({ type: 'about:blank', status, code, detail: expect.stringContaining('version') });
    if (parameter !== undefined) expect(body.errors).toMatchObject([{ parameter }]);
  });

  it('says the same of a version of a hidden type and of an unknown one', async () => {
    const hidden = await call('GET', '/event-types/book.hidden?version=1', undefined, 'acme');
    expect(hidden).toMatchObject({ status: 404, body: { code: 'UNKNOWN_EVENT_TYPE' } });
    expect((await call('GET', '/event-types/book.hidden?version=1')).body).toMatchObject({ version: 1 });
  });

  it.each([
    [undefined, { 'book.sold': 3 }],
    [null, { 'book.sold': 3 }],
    [{ 'book.sold': 1 }, { 'book.sold': 1 }],
    ['latest', 'latest'],
  ])('creates a listener with `versions` %j, and shows %j', async (versions, shown) => {
    const { status, body } = await create({ versions });
    expect([status, body.versions]).toEqual([201, shown]);
    expect((await call('GET', `/listeners/${body.id}`)).body.versions).toEqual(shown);
  });

  it('changes the versions of a listener with PATCH', async () => {
    const { id } = (await create({ events: ['book.sold', 'note.sent'] })).body;
    const patched = async (patch: object) => {
      const { status, body } = await call('PATCH', `/listeners/${id}`, patch);
      return [status, body.versions];
    };
    expect(await patched({ versions: { 'book.sold': 1 } })).toEqual([200, { 'book.sold': 1 }]);
    expect(await patched({ name: 'other' })).toEqual([200, { 'book.sold': 1 }]);
    expect(await patched({ versions: {} })).toEqual([200, { 'book.sold': 1 }]);
    expect(await patched({ versions: 'latest' })).toEqual([200, 'latest']);
    expect(await patched({ versions: { 'book.sold': 2 } })).toEqual([200, { 'book.sold': 2 }]);
    expect(await patched({ versions: null })).toEqual([200, { 'book.sold': 3 }]);
  });

  it.each([
    [{ 'book.sold': 4 }, 'UNKNOWN_VERSION', '3, 2, 1'],
    [{ 'book.sol': 1 }, 'UNKNOWN_EVENT_TYPE', 'book.sold'],
    [{ 'note.sent': 1 }, 'UNKNOWN_EVENT_TYPE', 'book.sold'],
    [{ 'book.sold': '1' }, 'INVALID_LISTENER', 'latest'],
    ['newest', 'INVALID_LISTENER', 'latest'],
  ])('refuses `versions` %j with %s, and points at them', async (versions, code, allowed) => {
    const { id, versions: before } = (await create({})).body;
    for (const answer of [await create({ versions }), await call('PATCH', `/listeners/${id}`, { versions })]) {
      expect(answer).toMatchObject({ status: 400, body: { code, errors: [{ pointer: '/versions', code }] } });
      expect(answer.body.detail).toContain(allowed);
    }
    expect((await call('GET', `/listeners/${id}`)).body.versions).toEqual(before);
  });

  it('does not tell an owner that an internal type has versions', async () => {
    const { id, versions } = (await create({ events: ['*'] }, 'acme')).body;
    expect(versions).toEqual({ 'book.sold': 3 });
    const answer = await call('PATCH', `/listeners/${id}`, { versions: { 'book.hidden': 1 } }, 'acme');
    expect(answer).toMatchObject({ status: 400, body: { code: 'UNKNOWN_EVENT_TYPE' } });
  });

  it('sends a test event in the version of the listener, or in that of the request', async () => {
    const { id } = (await create({ versions: { 'book.sold': 2 } })).body;
    const test = (body: object) => call('POST', `/listeners/${id}/test`, body);
    expect(await test({ type: 'book.sold' })).toMatchObject({ status: 202 });
    expect(await test({ type: 'book.sold', version: 1 })).toMatchObject({ status: 202 });
    expect(await test({ type: 'book.sold', version: 3 })).toMatchObject({ status: 202 });
    await api.dispatcher.drain();
    const sent = api.receiver.requests.map(({ headers, json }) => [headers['webhook-version'], (json as Data)['data']]);
    expect(sent).toEqual([
      ['2', { title: 'Emma', length: 4 }],
      ['1', { name: 'Emma' }],
      ['3', { title: 'Emma' }],
    ]);
    expect(await test({ type: 'book.sold', version: 4 })).toMatchObject({
      status: 400,
      body: { code: 'UNKNOWN_VERSION', errors: [{ pointer: '/version', code: 'UNKNOWN_VERSION' }] },
    });
    expect(await test({ type: 'book.sold', version: 0 })).toMatchObject({
      status: 400,
      body: { code: 'INVALID_REQUEST', errors: [{ pointer: '/version' }] },
    });
  });

  it('shows exactly the bytes that were sent in an older version, also in a script for curl', async () => {
    const { id, secret } = (await create({ versions: { 'book.sold': 1 }, headers: { 'x-shop': "Emma's" } })).body;
    const title = "Emma's — “é” \u{1F4D6} $HOME `x` \\n";
    const request = await sell(title);
    const sent = String(request.rawBody);
    expect(JSON.parse(sent)).toMatchObject({ data: { name: title } });
    const deliveryId = await lastDelivery(id as string);
    const shown = await call('GET', `/deliveries/${deliveryId}/body`);
    expect(shown.text).toBe(sent);
    expect(shown.headers.get('x-webhooks-content-type')).toBe('application/json');

    const { text: script, headers } = await call('GET', `/deliveries/${deliveryId}/body?as=curl`);
    expect(headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(script).not.toContain(secret);
    await promisify(execFile)('bash', ['-c', script], { env: { ...process.env, WEBHOOK_SECRET: secret as string } });
    const again = api.receiver.requests.at(-1);
    expect(api.receiver.requests).toHaveLength(2);
    expect(again && api.receiver.verify(again, secret as string)).toMatchObject({ data: { name: title } });
    expect(again?.rawBody.equals(request.rawBody)).toBe(true);
    for (const name of ['content-type', 'webhook-id', 'webhook-version', 'deprecation', 'sunset', 'x-shop']) {
      expect([name, again?.headers[name]]).toEqual([name, request.headers[name]]);
    }
    expect(again?.headers['webhook-version']).toBe('1');
    expect(again?.headers['x-shop']).toBe("Emma's");
  });

  it('makes a script without a signature for a listener that is signed in another way', async () => {
    const { id } = (await create({ format: 'cloudevents', schemes: ['github'] })).body;
    const request = await sell('Emma');
    const { text: script } = await call('GET', `/deliveries/${await lastDelivery(id as string)}/body?as=curl`);
    expect(script).toContain('# The request has no signature, because the listener is signed with: github');
    await promisify(execFile)('bash', ['-c', script]);
    const again = api.receiver.requests.at(-1);
    expect(again?.rawBody.equals(request.rawBody)).toBe(true);
    expect(again?.headers['content-type']).toBe('application/cloudevents+json; charset=utf-8');
    expect(again?.headers).not.toHaveProperty('webhook-signature');
  });

  it.each([
    [1, { deprecation: '@1767225600', sunset: 'Tue, 30 Jun 2026 00:00:00 GMT', version: '1' }],
    [2, { deprecation: undefined, sunset: undefined, version: '2' }],
    [3, { deprecation: undefined, sunset: undefined, version: '3' }],
  ])('sends version %i with the headers of its deprecation: %j', async (version, expected) => {
    await create({ versions: { 'book.sold': version } });
    const { deprecation, sunset, 'webhook-version': header } = (await sell('Emma')).headers;
    expect({ deprecation, sunset, version: header }).toEqual(expected);
  });

  it('sends a deprecated type with `deprecation`, and without `sunset` if it has no last day', async () => {
    await create({ events: ['old.type'] });
    const { headers } = await sell('Emma', 'old.type');
    expect(headers['deprecation']).toBe('@1790812800');
    for (const name of ['sunset', 'webhook-version']) expect(headers).not.toHaveProperty(name);
  });

  it('previews a listener with versions as one without, because filters read the newest version', async () => {
    const { id } = (
      await create({ events: ['book.sold'], where: { title: 'Persuasion' }, versions: { 'book.sold': 1 } })
    ).body;
    await sell('Persuasion');
    const { events, where } = (await call('GET', `/listeners/${id}`)).body;
    const { body } = await call('POST', '/listeners/preview', { events, where, limit: 1 });
    expect(body).toMatchObject({ examined: 1, matched: 1, samples: [{ type: 'book.sold', matched: true }] });
    expect(api.receiver.requests.at(-1)?.json).toMatchObject({ data: { name: 'Persuasion' } });
    const other = { events, where: { title: 'Emma' }, limit: 1 };
    expect((await call('POST', '/listeners/preview', other)).body).toMatchObject({ matched: 0 });
  });
});
