import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Order, Rate, startApiApp, type Answer, type ApiApp, type Call } from './api-app.js';

const HEALTHY = {
  circuit: 'closed',
  failuresInARow: 0,
  failingSince: null,
  pausedUntil: null,
  lastErrorCode: null,
  lastAcceptedAt: null,
  waiting: 0,
};

describeDatabases('the routes of the API', (database) => {
  let fresh: FreshDatabase;
  let api: ApiApp;
  let orderId = 0;

  beforeAll(async () => {
    fresh = await database.create();
    api = await startApiApp({
      database: fresh.options,
      api: { limits: { writesPerMinute: 100_000, readsPerMinute: 100_000, previewsPerMinute: 100_000 } },
    });
  });
  afterAll(async () => {
    await api.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    for (const { id } of (await api.listeners.list({ limit: 500 })).items) await api.listeners.remove(id);
    api.clock.advance(61_000); // the quotas of a minute
  });

  const call = (method: string, path: string, options?: Call): Promise<Answer> => api.call(method, path, options);
  const listenerOf = async (as: string, more: object = {}): Promise<Answer['body']> => {
    const { status, body } = await call('POST', '/listeners', {
      as,
      body: { events: ['order.*'], url: api.receiver.url, ...more },
    });
    expect([status, body]).toEqual([201, expect.anything()]);
    return body;
  };
  const order = async (customer: string, status = 'new'): Promise<number> => {
    const id = (orderId += 1);
    await api.dataSource.getRepository(Order).save({ id, customer, status });
    await api.dispatcher.drain();
    return id;
  };
  const problem = (status: number, code: string) => ({
    status,
    body: {
      type: 'about:blank',
      title: expect.any(String) as string,
      status,
      code,
      instance: expect.stringMatching(/^urn:uuid:/) as string,
    },
  });

  it('create, read, list, change and delete a listener', async () => {
    const created = await call('POST', '/listeners', {
      as: 'acme',
      body: { events: ['order.*'], url: api.receiver.url, name: 'Billing', headers: { 'x-a': '1', 'x-b': '2' } },
    });
    expect(created).toMatchObject({
      status: 201,
      body: { owner: 'acme', name: 'Billing', revision: 1, secret: expect.stringMatching(/^whsec_/) as string },
    });
    const { id } = created.body;
    expect(created.headers.get('location')).toBe(`listeners/${id}`);
    expect(created.headers.get('etag')).toBe('"1"');
    expect(created.headers.get('cache-control')).toBe('no-store');
    expect(created.headers.get('x-content-type-options')).toBe('nosniff');

    const read = await call('GET', `/listeners/${id}`, { as: 'acme' });
    expect(read.body).toEqual({ ...created.body, secret: undefined, health: HEALTHY });

    const changed = await call('PATCH', `/listeners/${id}`, {
      as: 'acme',
      body: { name: null, headers: { 'x-a': null, 'x-c': '3' } },
      headers: { 'if-match': '"1"' },
    });
    expect(changed).toMatchObject({
      status: 200,
      body: { name: null, headers: { 'x-b': '2', 'x-c': '3' }, revision: 2 },
    });
    expect(changed.headers.get('etag')).toBe('"2"');

    const late = await call('PATCH', `/listeners/${id}`, {
      as: 'acme',
      body: { name: 'x' },
      headers: { 'if-match': '"1"' },
    });
    expect(late).toMatchObject(problem(412, 'LISTENER_CHANGED'));
    const lateDelete = await call('DELETE', `/listeners/${id}`, { as: 'acme', headers: { 'if-match': '"1"' } });
    expect(lateDelete).toMatchObject(problem(412, 'LISTENER_CHANGED'));
    expect((await call('GET', `/listeners/${id}`, { as: 'acme' })).body).toEqual({ ...changed.body, health: HEALTHY });

    expect(await call('DELETE', `/listeners/${id}`, { as: 'acme', headers: { 'if-match': '"2"' } })).toMatchObject({
      status: 204,
      text: '',
    });
    expect(await call('GET', `/listeners/${id}`, { as: 'acme' })).toMatchObject(problem(404, 'LISTENER_NOT_FOUND'));
  });

  it('raise the revision of a listener with each change', async () => {
    const { id } = await listenerOf('acme');
    const revisions: number[] = [];
    for (const [method, path, body] of [
      ['PATCH', '', { name: 'x' }],
      ['POST', '/disable', { reason: 'holiday' }],
      ['POST', '/enable', {}],
      ['POST', '/secret/rotate', {}],
      ['POST', '/signing-key/rotate', {}],
    ] as const) {
      const { status, body: answer } = await call(method, `/listeners/${id}${path}`, { as: 'acme', body });
      expect([path, status]).toEqual([path, 200]);
      revisions.push(answer.revision);
    }
    expect(revisions).toEqual([2, 3, 4, 5, 6]);
  });

  it('change different properties of one listener at once, and lose neither', { repeats: 19 }, async () => {
    const { id } = await listenerOf('acme', { headers: { 'x-0': '0' } });
    const answers = await Promise.all(
      ['x-1', 'x-2'].map((name) =>
        call('PATCH', `/listeners/${id}`, { as: 'acme', body: { headers: { [name]: '1' } } }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect(Object.keys((await api.listeners.get(id)).headers).toSorted()).toEqual(['x-0', 'x-1', 'x-2']);
  });

  it('filter listeners by state, type, text, health and owner', async () => {
    const first = await listenerOf('acme', { events: ['order.updated'], name: 'The Billing' });
    const second = await listenerOf('acme', { events: ['order.*'], enabled: false });
    const third = await listenerOf('globex', { events: ['*'], description: '100% _done_' });
    const idsOf = async (query: string, as = 'operator') => {
      const { status, body } = await call('GET', `/listeners${query}`, { as });
      expect(status).toBe(200);
      return (body.items as { id: string }[]).map(({ id }) => id);
    };
    expect(await idsOf('')).toEqual([third.id, second.id, first.id]);
    expect(await idsOf('?state=disabled')).toEqual([second.id]);
    expect(await idsOf('?type=order.updated')).toEqual([third.id, second.id, first.id]);
    expect(await idsOf('?type=order.created')).toEqual([third.id, second.id]);
    expect(await idsOf('?q=BILLING')).toEqual([first.id]);
    expect(await idsOf(`?q=${encodeURIComponent('% _d')}`)).toEqual([third.id]);
    expect(await idsOf('?q=%25b')).toEqual([]);
    expect(await idsOf('?owner=globex')).toEqual([third.id]);
    expect(await idsOf('?q=127.0.0.1&state=active&owner=acme')).toEqual([first.id]);
    expect(await idsOf('?health=failing')).toEqual([]);
    api.receiver.respond({ status: 500 });
    await order('acme', 'paid');
    await api.listeners.sendTest(first.id);
    await api.dispatcher.drain();
    api.receiver.respond({ status: 204 });
    expect(await idsOf('?health=failing', 'acme')).toEqual([first.id]);
    expect(await idsOf('', 'acme')).toEqual([second.id, first.id]);
    expect(second).toMatchObject({ state: 'disabled', disabledReason: 'created as disabled' });
  });

  it('page by a cursor', async () => {
    const ids: string[] = [];
    for (let n = 0; n < 5; n++) ids.unshift((await listenerOf('acme')).id);
    const seen: string[] = [];
    let cursor = '';
    do {
      const { body } = await call('GET', `/listeners?limit=2&q=127${cursor && `&cursor=${cursor}`}`, { as: 'acme' });
      seen.push(...(body.items as { id: string }[]).map(({ id }) => id));
      cursor = body.next;
    } while (cursor);
    expect(seen).toEqual(ids);
  });

  it('show deliveries with their attempts and their bodies, and send them again', async () => {
    const { id: listenerId } = await listenerOf('acme');
    api.receiver.respond({ status: 503, body: 'busy' });
    await order('acme');
    api.receiver.respond({ status: 204 });
    const [delivery] = (await call('GET', `/deliveries?listenerId=${listenerId}&status=5xx`, { as: 'acme' })).body
      .items;
    expect(delivery).toMatchObject({
      listenerId,
      type: 'order.created',
      state: 'due',
      lastStatus: 503,
      attemptCount: 1,
    });
    const idsOf = async (query: string) =>
      (await call('GET', `/deliveries?listenerId=${listenerId}${query}`, { as: 'acme' })).body.items.length as number;
    expect(await idsOf('&status=503&type=order.created&state=due')).toBe(1);
    expect(await idsOf('&status=4xx')).toBe(0);
    expect(await idsOf('&error=TIMEOUT')).toBe(0);
    expect(await idsOf(`&error=${delivery.lastErrorCode}`)).toBe(1);
    expect(await idsOf('&since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00%2B01:00')).toBe(0);

    const details = await call('GET', `/deliveries/${delivery.id}`, { as: 'acme' });
    expect(details.body).toMatchObject({
      attempts: [{ number: 1, outcome: 'rejected', status: 503, response: 'busy' }],
    });
    const body = await call('GET', `/deliveries/${delivery.id}/body`, { as: 'acme' });
    expect(body.text).toBe(api.receiver.requests.at(-1)?.rawBody.toString());
    expect(body.headers.get('content-type')).toMatch(/^text\/plain/);
    expect(body.headers.get('x-webhooks-content-type')).toBe('application/json');

    const again = await call('POST', `/deliveries/${delivery.id}/resend`, { as: 'acme' });
    expect(again).toMatchObject({ status: 202, body: { id: delivery.id, state: 'due' } });
    await api.dispatcher.drain();
    expect((await call('GET', `/deliveries/${delivery.id}`, { as: 'acme' })).body).toMatchObject({
      state: 'succeeded',
    });
  });

  it('show the events of an owner and no others', async () => {
    const { id: listenerId } = await listenerOf('acme');
    const id = await order('acme', 'paid');
    await order('globex', 'secret of globex');
    await api.dataSource.getRepository(Rate).save({ id });
    await api.dispatcher.drain();
    const { body } = await call('GET', '/events?limit=1', { as: 'acme' });
    expect(body.items).toMatchObject([{ type: 'order.created', owner: 'acme', state: 'delivered', test: false }]);
    const [{ id: eventId }] = body.items;
    expect((await call('GET', `/events/${eventId}`, { as: 'acme' })).body).toMatchObject({
      data: { id, customer: 'acme', status: 'paid' },
      previous: null,
      deliveries: { succeeded: 1, due: 0 },
      context: null,
    });
    expect((await call('GET', `/events/${eventId}/deliveries`, { as: 'acme' })).body.items).toMatchObject([
      { listenerId },
    ]);
    const all = await call('GET', '/events?limit=3', { as: 'operator' });
    expect(all.body.items).toMatchObject([{ type: 'rate.created' }, { owner: 'globex' }, { owner: 'acme' }]);
    for (const { id: other } of all.body.items.slice(0, 2)) {
      for (const path of ['', '/deliveries']) {
        const answer = await call('GET', `/events/${other}${path}`, { as: 'acme' });
        expect(answer).toMatchObject(problem(404, 'EVENT_NOT_FOUND'));
      }
    }
    const types = async (as: string) => (await call('GET', '/events?type=rate.created', { as })).body.items.length > 0;
    expect([await types('operator'), await types('acme')]).toEqual([true, false]);
  });

  it('send a test event', async () => {
    const { id } = await listenerOf('acme');
    const sent = await call('POST', `/listeners/${id}/test`, { as: 'acme', body: { type: 'order.updated' } });
    expect(sent).toMatchObject({ status: 202, body: { deliveryId: expect.stringMatching(/^dlv_/) as string } });
    await call('POST', `/listeners/${id}/disable`, { as: 'acme' });
    expect(await call('POST', `/listeners/${id}/test`, { as: 'acme' })).toMatchObject(
      problem(409, 'LISTENER_DISABLED'),
    );
  });

  it('try a handshake again, only while it is pending', async () => {
    const { id } = await listenerOf('acme', { handshake: 'challenge' });
    expect(await call('POST', `/listeners/${id}/handshake`, { as: 'acme' })).toMatchObject({
      status: 202,
      body: { state: 'pending' },
    });
    const { id: other } = await listenerOf('acme');
    expect(await call('POST', `/listeners/${other}/handshake`, { as: 'acme' })).toMatchObject(
      problem(409, 'HANDSHAKE_NOT_PENDING'),
    );
  });

  it('say who calls, how webhooks are sent, and which types there are', async () => {
    expect((await call('GET', '/me', { as: 'acme view' })).body).toEqual({
      ...{ kind: 'owner', owner: 'acme', actor: 'user of acme', expiresAt: null, instance: 'default' },
      can: ['listeners:read', 'deliveries:read', 'stats:read', 'catalog:read'],
      formats: ['standard', 'cloudevents', 'cloudevents-binary'],
      schemes: ['standard', 'standard-v1a', 'github', 'stripe', 'google-code'],
      ...{ theme: null, locale: null, accent: null, logo: null, next: null, parentOrigins: null, returnUrl: null },
    });
    expect((await call('GET', '/sender', { as: 'acme' })).body).toMatchObject({
      addresses: [],
      headers: expect.arrayContaining(['webhook-id', 'webhook-signature']) as string[],
      schedule: [5_000, 300_000, 1_800_000, ...[2, 5, 10, 14, 20, 24].map((hours) => hours * 3_600_000)],
      success: '2xx',
      gone: 410,
    });
    const typesOf = async (as: string) =>
      (await call('GET', '/event-types', { as })).body.items.map(({ type }: { type: string }) => type) as string[];
    expect(await typesOf('operator')).toContain('rate.created');
    const orders = ['created', 'deleted', 'restored', 'updated'].map((action) => `order.${action}`);
    expect(await typesOf('acme')).toEqual(['note.sent', ...orders]);
    expect((await call('GET', '/event-types/order.updated', { as: 'acme' })).body).toMatchObject({
      properties: ['customer', 'id', 'status'],
      examples: [{ type: 'order.updated', data: { id: expect.any(Number) as number } }],
    });
    expect(await call('GET', '/event-types/rate.created', { as: 'acme' })).toMatchObject(
      problem(404, 'UNKNOWN_EVENT_TYPE'),
    );
  });

  it('say whether a listener may have a URL, as its creation would', async () => {
    const verdict = async (url: string) =>
      (await call('POST', '/listeners/check-url', { as: 'acme', body: { url } })).body;
    expect(await verdict('https://127.0.0.1:9/#x')).toEqual({
      ...{ url: 'https://127.0.0.1:9/', allowed: true, code: null, detail: null },
    });
    for (const [url, code] of [
      ['https://10.0.0.1/', 'URL_ADDRESS_BLOCKED'],
      ['https://user:word@hooks.example.com/', 'URL_CREDENTIALS'],
      ['ftp://hooks.example.com/', 'URL_SCHEME'],
      ['hooks.example.com', 'INVALID_URL'],
    ] as const) {
      expect(await verdict(url)).toMatchObject({ url: null, allowed: false, code });
      expect(await call('POST', '/listeners', { as: 'acme', body: { url, events: ['order.*'] } })).toMatchObject(
        problem(400, code),
      );
    }
    expect(
      await call('POST', '/listeners/check-url', { as: 'acme view', body: { url: 'https://a.test/' } }),
    ).toMatchObject(problem(403, 'CAPABILITY_MISSING'));
  });

  it('name what is wrong with a request', async () => {
    const { id } = await listenerOf('acme');
    const { id: own } = await listenerOf('acme');
    const wrong: [string, string, Call, number, string, object?][] = [
      [
        'POST',
        '/listeners',
        { body: { url: 'nonsense', events: ['order.*'] } },
        400,
        'INVALID_URL',
        { pointer: '/url' },
      ],
      [
        'POST',
        '/listeners',
        { body: { url: api.receiver.url, event: [] } },
        400,
        'INVALID_LISTENER',
        { pointer: '/event' },
      ],
      ['POST', '/listeners', { body: [] }, 400, 'INVALID_REQUEST', { pointer: '' }],
      ['POST', '/listeners', {}, 400, 'INVALID_REQUEST', { pointer: '' }],
      ['POST', '/listeners', { body: '{"url":' }, 400, 'INVALID_JSON'],
      [
        'POST',
        '/listeners',
        { body: 'a=b', headers: { 'content-type': 'text/plain' } },
        415,
        'UNSUPPORTED_CONTENT_TYPE',
      ],
      ['POST', '/listeners', { body: JSON.stringify({ name: 'x'.repeat(2_000_000) }) }, 413, 'BODY_TOO_LARGE'],
      [
        'POST',
        '/listeners',
        { body: { url: api.receiver.url, events: ['rate.*'] } },
        400,
        'OWNER_NOT_DECLARED',
        { pointer: '/events' },
      ],
      [
        'POST',
        '/listeners',
        { body: { url: api.receiver.url, events: ['*'], owner: 'globex' } },
        400,
        'INVALID_OWNER',
        { pointer: '/owner' },
      ],
      [
        'POST',
        `/listeners/${own}/test`,
        { body: { type: 'no.such' } },
        400,
        'UNKNOWN_EVENT_TYPE',
        { pointer: '/type' },
      ],
      [
        'POST',
        `/listeners/${own}/test`,
        { body: { type: 'order.*' } },
        400,
        'UNKNOWN_EVENT_TYPE',
        { pointer: '/type' },
      ],
      ['POST', `/listeners/${own}/test`, { body: { type: 'No' } }, 400, 'INVALID_EVENT_TYPE', { pointer: '/type' }],
      [
        'POST',
        `/listeners/${own}/test`,
        { body: { type: 'rate.created' } },
        400,
        'OWNER_NOT_DECLARED',
        { pointer: '/type' },
      ],
      [
        'POST',
        '/listeners/preview',
        { body: { events: ['no.such'] } },
        400,
        'UNKNOWN_EVENT_TYPE',
        { pointer: '/events' },
      ],
      ['GET', '/listeners?type=No', {}, 400, 'INVALID_EVENT_TYPE', { parameter: 'type' }],
      ['POST', `/listeners/${id}/enable`, { body: { held: 'x' } }, 400, 'INVALID_REQUEST', { pointer: '/held' }],
      ['POST', `/listeners/${id}/handshake`, { body: { a: 1 } }, 400, 'INVALID_REQUEST', { pointer: '/a' }],
      [
        'PATCH',
        `/listeners/${own}`,
        { body: {}, headers: { 'if-match': 'x' } },
        400,
        'INVALID_REQUEST',
        { parameter: 'If-Match' },
      ],
      ['GET', '/listeners?limit=0', {}, 400, 'INVALID_REQUEST', { parameter: 'limit' }],
      ['GET', '/listeners?limit=1&limit=2', {}, 400, 'INVALID_REQUEST', { parameter: 'limit' }],
      ['GET', '/listeners?other=1', {}, 400, 'INVALID_REQUEST', { parameter: 'other' }],
      ['GET', '/listeners?cursor=abc', {}, 400, 'INVALID_CURSOR'],
      ['GET', '/deliveries?since=yesterday', {}, 400, 'INVALID_REQUEST', { parameter: 'since' }],
      ['GET', '/deliveries?status=600', {}, 400, 'INVALID_REQUEST', { parameter: 'status' }],
      ['GET', '/nowhere', {}, 404, 'ROUTE_NOT_FOUND'],
      ['PUT', `/listeners/${id}`, { body: {} }, 405, 'METHOD_NOT_ALLOWED'],
    ];
    for (const [method, path, options, status, code, fault] of wrong) {
      const answer = await call(method, path, { as: 'acme', ...options });
      expect([method, path, answer]).toMatchObject([method, path, problem(status, code)]);
      expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
      if (fault) expect(answer.body.errors).toMatchObject([fault]);
    }
    expect((await call('PUT', `/listeners/${id}`, { as: 'acme' })).headers.get('allow')).toBe('GET, PATCH, DELETE');
  });

  describe('with an Idempotency-Key', () => {
    const create = (key: string, more: object = {}, as = 'acme') =>
      call('POST', '/listeners', {
        as,
        body: { events: ['order.*'], url: api.receiver.url, ...more },
        headers: { 'idempotency-key': key },
      });
    const countOf = async () => (await api.listeners.list()).items.length;

    it('do a repeated request once, and answer the same, with the secret', async () => {
      const first = await create('same');
      const second = await create('same');
      expect(second).toMatchObject({ status: 201, text: first.text });
      expect(second.headers.get('idempotency-replayed')).toBe('true');
      expect(second.headers.get('etag')).toBe('"1"');
      expect(await countOf()).toBe(1);
      const stored = await api.dataSource.query('select answer from webhook_idempotency');
      expect(JSON.stringify(stored)).not.toContain('whsec_');
    });

    it('do not show a secret that was replaced since', async () => {
      const { body } = await create('rotated');
      await api.listeners.rotateSecret(body.id, { overlapMs: 0 });
      const again = await create('rotated');
      expect(again.body).toMatchObject({ id: body.id, secret: null });
    });

    it('refuse another body with the same key', async () => {
      await create('body');
      expect(await create('body', { name: 'other' })).toMatchObject(problem(422, 'IDEMPOTENCY_KEY_REUSED'));
      expect(await countOf()).toBe(1);
    });

    it('keep the keys of callers apart', async () => {
      const { body: first } = await create('shared');
      const { status, body: second } = await create('shared', {}, 'globex');
      expect([status, second.owner, second.id === first.id]).toEqual([201, 'globex', false]);
    });

    it('let a refused request try again', async () => {
      expect(await create('retry', { url: 'nonsense' })).toMatchObject(problem(400, 'INVALID_URL'));
      expect(await create('retry')).toMatchObject({ status: 201 });
    });

    it('forget the key after a day', async () => {
      await create('day');
      api.clock.advance(86_400_001);
      expect((await create('day')).headers.get('idempotency-replayed')).toBeNull();
      expect(await countOf()).toBe(2);
    });

    const countKept = async (): Promise<number> =>
      (await api.dataSource.query<unknown[]>('select seq from webhook_idempotency')).length;

    it('keep nothing of an owner who is erased', async () => {
      const before = await countKept();
      await create('erased', {}, 'initech');
      expect(await countKept()).toBe(before + 1);
      await api.listeners.eraseOwner('initech');
      expect(await countKept()).toBe(before);
    });

    it('keep nothing for longer than a day, also if no request comes', async () => {
      await create('left');
      await api.dispatcher.runChores();
      expect(await countKept()).toBeGreaterThan(0);
      api.clock.advance(2 * 86_400_000);
      await api.dispatcher.runChores();
      expect(await countKept()).toBe(0);
    });

    it('do one of several requests at the same time', { repeats: database === databases[0] ? 19 : 4 }, async () => {
      const key = `race-${Math.random()}`;
      const before = await countOf();
      const answers = await Promise.all([1, 2, 3, 4].map(() => create(key)));
      const statuses = answers.map(({ status }) => status);
      expect(statuses.filter((status) => status === 201).length).toBeGreaterThan(0);
      expect(statuses.filter((status) => ![201, 409].includes(status))).toEqual([]);
      expect(await countOf()).toBe(before + 1);
    });
  });
});
