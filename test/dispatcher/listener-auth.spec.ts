// Form-encoded. cspell:ignore Bword
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { inspect } from 'node:util';
import type { HttpService } from '@nestjs/axios';
import { getWebhooksHttpToken, type ListenerAuth } from 'nestjs-entity-webhooks';
import { FakeDns, TestReceiver } from 'nestjs-entity-webhooks/testing';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { LOOPBACK, startApp, type TestApp } from '../support/webhooks-app.js';

const TYPE = 'note.sent';
const MINUTE = 60 * 1_000;
const HOUR = 60 * MINUTE;

describeDatabases('auth of a listener', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const tokens = new TestReceiver();
  const dns = new FakeDns({ 'inner.example': ['93.184.215.14', '10.0.0.1'], 'outer.example': '93.184.215.14' });

  beforeAll(async () => {
    fresh = await database.create();
    await tokens.start();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: [TYPE],
        secrets: { keys: [{ id: 'k1', key: Buffer.alloc(32, 1) }] },
        dispatcher: { timeoutMs: 2_000 },
        security: { ...LOOPBACK, lookup: dns.lookup },
      },
    });
  });
  afterEach(async () => {
    const { items } = await app.listeners.list();
    for (const { id } of items) await app.listeners.remove(id);
    for (const receiver of [app.receiver, tokens]) {
      receiver.clear();
      receiver.respond({ status: 204 });
    }
  });
  afterAll(async () => {
    await app.close();
    await tokens.stop();
    await fresh.drop();
  });

  const listen = (auth: ListenerAuth) => app.listeners.create({ url: app.receiver.url, events: [TYPE], auth });
  const publish = async (count = 1) => {
    for (let n = 0; n < count; n++) await app.webhooks.publish(TYPE, { n });
    await app.dispatcher.drain();
  };
  const authorizations = () => app.receiver.requests.map(({ headers }) => headers.authorization);
  const attemptOf = async (listenerId: string) => {
    const { items } = await app.deliveries.list({ listenerId });
    const { attempts } = await app.deliveries.get(items[0]?.id ?? '');
    return attempts.at(-1);
  };

  it.each<[ListenerAuth, Record<string, string>, ListenerAuth]>([
    [
      // The example of RFC 7617, section 2.1: a password that is not ASCII.
      { type: 'basic', username: 'test', password: '123£' },
      { authorization: 'Basic dGVzdDoxMjPCow==' },
      { type: 'basic', username: 'test', password: '***' },
    ],
    [
      { type: 'bearer', token: 'mF_9.B5f-4.1JqM' },
      { authorization: 'Bearer mF_9.B5f-4.1JqM' },
      { type: 'bearer', token: '***' },
    ],
    [
      { type: 'headers', headers: { 'X-Api-Key': 'k-123', authorization: 'Key 42' } },
      { 'x-api-key': 'k-123', authorization: 'Key 42' },
      { type: 'headers', headers: { 'x-api-key': '***', authorization: '***' } },
    ],
  ])('is sent, shown without what is secret, and stored sealed: %j', async (auth, headers, shown) => {
    const { id, secret, ...listener } = await listen(auth);
    expect(listener.auth).toEqual(shown);
    expect((await app.listeners.get(id)).auth).toEqual(shown);
    await publish();
    const [request] = app.receiver.requests;
    expect(request?.headers).toMatchObject(headers);
    app.receiver.verify(request as never, secret);
    const [row] = await app.dataSource.query<{ auth: string }[]>(
      `SELECT auth FROM webhook_listeners WHERE id = '${id}'`,
    );
    expect(row?.auth).toContain('sealed:k1:');
    for (const hidden of ['123£', 'mF_9.B5f-4.1JqM', 'k-123', 'Key 42']) expect(row?.auth).not.toContain(hidden);
  });

  it('is kept when other values change, is removed by null, and is not sent to another server', async () => {
    const { id } = await listen({ type: 'bearer', token: 'abc' });
    await app.listeners.update(id, { description: 'x', url: `${app.receiver.url}/other` });
    await publish();
    expect(authorizations()).toEqual(['Bearer abc']);
    await expect(app.listeners.update(id, { url: tokens.url })).rejects.toMatchObject({ code: 'INVALID_AUTH' });
    await expect(app.listeners.update(id, { auth: { type: 'bearer', token: '***' } })).rejects.toMatchObject({
      code: 'INVALID_AUTH',
    });
    await app.listeners.update(id, { url: tokens.url, auth: { type: 'bearer', token: 'def' } });
    await app.listeners.update(id, { url: app.receiver.url, auth: null });
    await publish();
    expect(authorizations()).toEqual(['Bearer abc', undefined]);
    expect(tokens.requests).toEqual([]);
  });

  it('is not logged when the receiver answers with it', async () => {
    const { id } = await listen({ type: 'bearer', token: 'abc.def' });
    app.receiver.respond(({ headers }) => ({ status: 403, body: `You sent ${headers.authorization}` }));
    await publish();
    expect((await attemptOf(id))?.response).toBe('You sent ***');
  });

  const PASSWORD = `p"a<s>s&w of the ${'shop '.repeat(5)}`;
  const SHOP: ListenerAuth = { type: 'basic', username: 'shop', password: PASSWORD };
  const TWO: ListenerAuth = { type: 'headers', headers: { 'x-key': 'secret', 'x-other': 'secret-two' } };
  it.each<[string, ListenerAuth, string, string]>([
    ['a token without its scheme', { type: 'bearer', token: 'abc.def' }, 'no token abc.def', 'no token ***'],
    ['what stands in the header', SHOP, Buffer.from(`shop:${PASSWORD}`).toString('base64'), '***'],
    ['the password by itself', SHOP, `shop, ${PASSWORD}?`, 'shop, ***?'],
    ['a password in JSON', SHOP, JSON.stringify({ PASSWORD }), '{"PASSWORD":"***"}'],
    [
      'a password in HTML',
      SHOP,
      `<b>${PASSWORD.replace('&', '&amp;').replace('"', '&quot;').replace('<', '&lt;').replace('>', '&gt;')}</b>`,
      '<b>***</b>',
    ],
    ['one that begins like another', TWO, 'secret-two, secret', '***, ***'],
    [
      'one twice, of which the second is cut',
      { type: 'bearer', token: 'y'.repeat(3_000) },
      `${'y'.repeat(3_000)} ${'y'.repeat(3_000)}`,
      '*** ***',
    ],
    ['a password in a URL', SHOP, `?p=${encodeURIComponent(PASSWORD)}&q`, '?p=***&q'],
    ['the beginning of one, where the response is cut', SHOP, 'x'.repeat(4_086) + PASSWORD, `${'x'.repeat(4_086)}***`],
  ])('is not logged when the receiver answers with %s', async (_what, auth, body, logged) => {
    const { id } = await listen(auth);
    app.receiver.respond({ status: 403, body });
    await publish();
    expect((await attemptOf(id))?.response).toBe(logged);
  });

  it('is not logged when an interceptor throws it', async () => {
    const { id } = await listen(SHOP);
    const { interceptors } = app.app.get<HttpService>(getWebhooksHttpToken()).axiosRef;
    const thrower = interceptors.request.use(({ headers }) => {
      throw new Error(`I saw ${String(headers.get('authorization'))}`);
    });
    await publish();
    interceptors.request.eject(thrower);
    expect((await attemptOf(id))?.errorDetail).toBe('an interceptor threw: I saw ***');
  });

  it.each([
    [{ type: 'digest' }],
    [{ type: 'basic', username: 'a:b', password: 'x' }],
    [{ type: 'basic', username: 'a' }],
    [{ type: 'basic', username: 'a', password: 'x\ny' }],
    [{ type: 'basic', username: 'a', password: 'x', realm: 'y' }],
    [{ type: 'bearer', token: 'a b' }],
    [{ type: 'bearer', token: '***' }],
    [{ type: 'headers', headers: {} }],
    [{ type: 'headers', headers: { 'x-key': '***' } }],
    [{ type: 'oauth2', tokenUrl: 'https://id.example/', clientId: 'a', clientSecret: 'b', clientAuth: 'jwt' }],
    [{ type: 'oauth2', tokenUrl: 'https://id.example/', clientId: 'a' }],
    ['basic'],
    [[]],
  ])('is refused as %j', async (auth) => {
    const expected = typeof auth === 'object' && !Array.isArray(auth) ? 'INVALID_AUTH' : 'INVALID_LISTENER';
    await expect(listen(auth as never)).rejects.toMatchObject({ code: expected });
  });

  it('is no header that HTTP or the sender sets, and no token endpoint that is not public', async () => {
    await expect(listen({ type: 'headers', headers: { 'webhook-id': 'x' } })).rejects.toMatchObject({
      code: 'INVALID_HEADER',
    });
    const oauth2 = { type: 'oauth2', clientId: 'a', clientSecret: 'b' } as const;
    await expect(listen({ ...oauth2, tokenUrl: 'http://169.254.169.254/' })).rejects.toMatchObject({
      code: 'URL_ADDRESS_BLOCKED',
    });
    await expect(listen({ ...oauth2, tokenUrl: 'ftp://id.example/' })).rejects.toMatchObject({ code: 'URL_SCHEME' });
  });

  it('is no token endpoint whose name has an address that is not public, neither at first nor later', async () => {
    const oauth2 = { type: 'oauth2', clientId: 'a', clientSecret: 'b' } as const;
    const refused = { code: 'URL_ADDRESS_BLOCKED' };
    await expect(listen({ ...oauth2, tokenUrl: 'https://inner.example/token' })).rejects.toMatchObject(refused);
    expect(dns.queries).toEqual(['inner.example']);
    const { id } = await listen({ ...oauth2, tokenUrl: 'https://outer.example/token' });
    const auth = { ...oauth2, tokenUrl: 'https://inner.example/token' };
    await expect(app.listeners.update(id, { auth })).rejects.toMatchObject(refused);
    expect((await app.listeners.get(id)).auth).toMatchObject({ tokenUrl: 'https://outer.example/token' });
  });

  describe('as OAuth2 client credentials', () => {
    const oauth2 = () =>
      ({ type: 'oauth2', tokenUrl: `${tokens.url}/token`, clientId: 'the shop', clientSecret: 'p:ss+word' }) as const;
    const give = (lifetime: number | null = 3600) =>
      tokens.respond((_request, index) => ({
        status: 200,
        body: JSON.stringify({
          access_token: `t${index}`,
          token_type: 'Bearer',
          ...(lifetime === null ? {} : { expires_in: lifetime }),
        }),
      }));

    it('shows neither the secret nor the token in the objects that hold them, and is masked in the listener', async () => {
      tokens.respond({ status: 200, body: JSON.stringify({ access_token: 'a.token.to-keep', token_type: 'Bearer' }) });
      const { id } = await listen(oauth2());
      await publish();
      expect(authorizations()).toEqual(['Bearer a.token.to-keep']);
      const shown = (await app.listeners.get(id)).auth;
      expect(shown).toEqual({ ...oauth2(), clientSecret: '***', clientAuth: 'basic' });
      const { authorized } = (app.dispatcher as unknown as { working: { authorized: object } }).working;
      const keeper = inspect(authorized, { depth: 4, showHidden: true });
      expect(keeper).toMatch(/^AuthorizedTransport /);
      for (const secret of ['a.token.to-keep', 'p:ss+word']) expect(keeper).not.toContain(secret);
    });

    it('requests a token once for many deliveries, and again half a minute before it expires', async () => {
      give();
      await listen({ ...oauth2(), scope: 'hooks:write', audience: 'https://api.example/' });
      await publish(20);
      expect(new Set(authorizations())).toEqual(new Set(['Bearer t0']));
      expect(app.receiver.requests).toHaveLength(20);
      const [asked, ...more] = tokens.requests;
      expect(more).toEqual([]);
      expect(asked?.method).toBe('POST');
      expect(asked?.headers['content-type']).toBe('application/x-www-form-urlencoded');
      // RFC 6749, section 2.3.1: both parts are form-encoded first.
      expect(asked?.headers.authorization).toBe(`Basic ${Buffer.from('the+shop:p%3Ass%2Bword').toString('base64')}`);
      expect(Object.fromEntries(new URLSearchParams(String(asked?.rawBody)))).toEqual({
        ...{ grant_type: 'client_credentials', scope: 'hooks:write', audience: 'https://api.example/' },
      });
      app.clock.advance(HOUR - MINUTE / 2);
      await publish();
      expect(authorizations().at(-1)).toBe('Bearer t1');
    });

    it('names the client in the form if the server wants that', async () => {
      give();
      await listen({ ...oauth2(), clientAuth: 'body' });
      await publish();
      const [asked] = tokens.requests;
      expect(asked?.headers.authorization).toBeUndefined();
      expect(Object.fromEntries(new URLSearchParams(String(asked?.rawBody)))).toEqual({
        ...{ grant_type: 'client_credentials', client_id: 'the shop', client_secret: 'p:ss+word' },
      });
    });

    it('requests a new token once after a 401, within the same attempt', async () => {
      give();
      const { id } = await listen(oauth2());
      await publish();
      app.receiver.respond(({ headers }) => ({ status: headers.authorization === 'Bearer t0' ? 401 : 204 }));
      await publish();
      expect(authorizations()).toEqual(['Bearer t0', 'Bearer t0', 'Bearer t1']);
      expect(await app.deliveries.counts({ listenerId: id })).toMatchObject({ succeeded: 2 });
      // The attempt fails when the new token is refused, too.
      app.receiver.respond({ status: 401 });
      await publish();
      expect(authorizations().slice(3)).toEqual(['Bearer t1', 'Bearer t2']);
      expect(await attemptOf(id)).toMatchObject({ outcome: 'rejected', status: 401 });
      expect(tokens.requests).toHaveLength(3);
    });

    it('requests one new token for all attempts that are refused together', async () => {
      give();
      await listen(oauth2());
      await publish();
      app.receiver.respond(({ headers }) => ({ status: headers.authorization === 'Bearer t0' ? 401 : 204 }));
      await publish(16);
      expect(tokens.requests).toHaveLength(2);
      expect(authorizations().filter((header) => header === 'Bearer t1')).toHaveLength(16);
    });

    it.each([
      ['an error', { status: 400, body: '{"error":"invalid_client"}' }, 'the token endpoint: status 400'],
      ['a redirect', { status: 302, headers: { location: '/x' } }, 'the token endpoint: status 302'],
      ['no JSON', { status: 200, body: '<html>' }, 'the token endpoint returned no bearer token'],
      ['null', { status: 200, body: 'null' }, 'the token endpoint returned no bearer token'],
      [
        'a token of another type',
        { status: 200, body: '{"access_token":"t","token_type":"mac"}' },
        'the token endpoint returned no bearer token',
      ],
      [
        'a token that would be two headers',
        { status: 200, body: JSON.stringify({ access_token: 't\r\nx: y', token_type: 'bearer' }) },
        'the token endpoint returned no bearer token',
      ],
    ])('fails the attempt when the endpoint answers with %s, and is retried', async (_what, answer, detail) => {
      tokens.respond(answer);
      const { id } = await listen(oauth2());
      await publish();
      expect(app.receiver.requests).toEqual([]);
      expect(await attemptOf(id)).toMatchObject({
        outcome: 'unreachable',
        status: null,
        errorCode: 'AUTH_FAILED',
        errorDetail: detail,
      });
      give(null);
      app.clock.advance(MINUTE);
      await app.dispatcher.drain();
      expect(authorizations()).toEqual(['Bearer t0']);
    });

    it('keeps the one time limit of the attempt, whichever server is slow', async () => {
      let release = () => undefined as void;
      const slow = new Promise<void>((resolve) => (release = resolve));
      tokens.respond({ status: 200, delayUntil: slow });
      const { id } = await listen(oauth2());
      const startedAt = performance.now();
      await publish();
      expect(performance.now() - startedAt).toBeLessThan(4_000);
      release();
      expect(await attemptOf(id)).toMatchObject({
        errorCode: 'AUTH_FAILED',
        errorDetail: expect.stringMatching(/^the token (?:endpoint: TIMEOUT|request took the whole time limit)$/),
      });
    });
  });
});
