import { Injectable, Module, UnauthorizedException, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ConfigurationError } from 'nestjs-entity-webhooks';
import { MANAGE, OPEN_ACCESS, VIEW, WebhooksApiModule } from 'nestjs-entity-webhooks/api';
import { neededBy } from '../../libs/webhooks/src/api/route.js';
import { apiRoutes } from '../../libs/webhooks/src/api/webhooks-api.module.js';
import { accessOf, SESSION_KEY, startApiApp, type Answer, type ApiApp, type Call } from './api-app.js';

const problem = (status: number, code: string) => ({ status, body: { status, code } });
const NO_LIMITS = {
  readsPerMinute: 100_000,
  writesPerMinute: 100_000,
  previewsPerMinute: 100_000,
  urlChecksPerMinute: 100_000,
};
const pathOf = (path: string) => path.replace(/\{\w+\}/, 'x');

describe('a caller of the API', () => {
  let api: ApiApp;
  beforeAll(async () => {
    api = await startApiApp({ api: { limits: NO_LIMITS } });
  });
  afterAll(() => api.close());

  it('who is not logged in gets 401 from every route', async () => {
    for (const { method, path } of apiRoutes(true)) {
      const answer = await api.call(method, pathOf(path));
      expect([method, path, answer]).toMatchObject([method, path, problem(401, 'UNAUTHENTICATED')]);
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    }
  });

  it('gets 403 from every route whose capability is missing, and the others answer', async () => {
    for (const { method, path, capability } of apiRoutes(true)) {
      const { status, body } = await api.call(method, pathOf(path), {
        as: 'acme view',
        ...(method === 'GET' ? {} : { body: {} }),
      });
      const needed = neededBy(capability);
      const isMissing = needed.length > 0 && !needed.some((one) => VIEW.includes(one));
      expect([method, path, status === 403, body?.code === 'CAPABILITY_MISSING']).toEqual([
        method,
        path,
        isMissing,
        isMissing,
      ]);
    }
  });

  it('cannot be an owner with a capability of operators', async () => {
    const given = await startApiApp({
      api: { access: () => ({ kind: 'owner', owner: 'acme', can: ['sessions:create'] }) },
      nest: { logger: false },
    });
    expect(await given.call('GET', '/me')).toMatchObject(problem(500, 'INTERNAL_ERROR'));
    await given.close();
  });

  it.each([
    undefined,
    {},
    { kind: 'admin' },
    { kind: 'owner' },
    { kind: 'owner', owner: 7, can: [] },
    'operator',
    true,
  ])('is nobody if access() returns %j by mistake', async (value) => {
    const given = await startApiApp({ api: { access: () => value as never }, nest: { logger: false } });
    const answer = await given.call('GET', '/listeners');
    expect(answer).toMatchObject(problem(500, 'INTERNAL_ERROR'));
    expect(Object.keys(answer.body).toSorted()).toEqual(['code', 'instance', 'status', 'title', 'type']);
    await given.close();
  });
});

describe('a request with a cookie', () => {
  let api: ApiApp;
  beforeAll(async () => {
    api = await startApiApp({ api: { limits: NO_LIMITS } });
  });
  afterAll(() => api.close());

  const disable = (headers: Record<string, string>) =>
    api.call('POST', '/listeners/x/disable', { as: 'acme', headers });
  const REFUSED = problem(403, 'CROSS_SITE_REQUEST');
  const PASSED = problem(404, 'LISTENER_NOT_FOUND');

  it('changes nothing without the header x-webhooks-request', async () => {
    expect(await disable({ cookie: 'a=b' })).toMatchObject(REFUSED);
    expect(await disable({ authorization: 'Basic YTpi' })).toMatchObject(REFUSED);
    expect(await disable({ cookie: 'a=b', 'x-webhooks-request': '1' })).toMatchObject(PASSED);
  });

  it('of another site changes nothing', async () => {
    const headers = { 'x-webhooks-request': '1', 'sec-fetch-site': 'cross-site' };
    expect(await disable({ ...headers, cookie: 'a=b' })).toMatchObject(REFUSED);
    expect(await disable(headers)).toMatchObject(REFUSED);
    expect(await disable({ ...headers, authorization: 'Bearer of-the-application' })).toMatchObject(PASSED);
  });

  it('may read', async () => {
    expect(await api.call('GET', '/me', { as: 'acme', headers: { cookie: 'a=b' } })).toMatchObject({ status: 200 });
  });
});

describe('a session', () => {
  let api: ApiApp;
  beforeAll(async () => {
    api = await startApiApp({ api: { limits: NO_LIMITS, sessions: { keys: [SESSION_KEY], maxTtlMs: 600_000 } } });
  });
  afterAll(() => api.close());

  const create = (body: object, as = 'operator') => api.call('POST', '/sessions', { as, body });
  const tokenOf = async (body: object = {}) => {
    const answer = await create({ kind: 'owner', owner: 'acme', can: VIEW, expiresInMs: 600_000, ...body });
    expect(answer).toMatchObject({ status: 201, body: { token: expect.stringMatching(/^whs_ey/) as string } });
    return answer.body as { id: string; token: string };
  };
  const me = (token: string) => api.call('GET', '/me', { headers: { authorization: `Bearer ${token}` } });

  it('is its owner, with its capabilities, until it expires', async () => {
    const { token } = await tokenOf({ actor: 'jane' });
    expect(await me(token)).toMatchObject({
      status: 200,
      body: { kind: 'owner', owner: 'acme', actor: 'jane', can: VIEW },
    });
    api.clock.advance(599_999);
    expect(await me(token)).toMatchObject({ status: 200 });
    api.clock.advance(1);
    expect(await me(token)).toMatchObject(problem(401, 'UNAUTHENTICATED'));
  });

  it('has precedence over the login of the application', async () => {
    const { token } = await tokenOf();
    const answer = await api.call('GET', '/me', { as: 'operator', headers: { authorization: `Bearer ${token}` } });
    expect(answer.body).toMatchObject({ kind: 'owner', owner: 'acme' });
  });

  it('is revoked by its id', async () => {
    const [{ id, token }, other] = [await tokenOf(), await tokenOf()];
    // By another process, whose clock is behind.
    api.clock.advance(-1_000);
    expect(await api.call('DELETE', `/sessions/${id}`, { as: 'operator' })).toMatchObject({ status: 204 });
    api.clock.advance(1_000);
    expect(await me(token)).toMatchObject(problem(401, 'UNAUTHENTICATED'));
    expect(await me(other.token)).toMatchObject({ status: 200 });
  });

  it('is revoked with the others of its owner', async () => {
    const [{ token }, other] = [await tokenOf(), await tokenOf({ owner: 'globex' })];
    expect(await api.call('DELETE', '/sessions?owner=acme', { as: 'operator' })).toMatchObject({ status: 204 });
    expect(await me(token)).toMatchObject(problem(401, 'UNAUTHENTICATED'));
    expect(await me(other.token)).toMatchObject({ status: 200 });
    api.clock.advance(1);
    expect(await me((await tokenOf()).token)).toMatchObject({ status: 200 });
    expect(await api.call('DELETE', '/sessions', { as: 'operator' })).toMatchObject(problem(400, 'INVALID_REQUEST'));
  });

  it('is refused if one character of it was changed', async () => {
    const { token } = await tokenOf();
    for (const at of [4, 20, token.indexOf('.') + 3, token.length - 3]) {
      const changed = token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1);
      expect(await me(changed)).toMatchObject(problem(401, 'UNAUTHENTICATED'));
    }
    const [, payload = ''] = token.split('.');
    const none = Buffer.from('{"alg":"none","kid":"k1","typ":"whs+jwt"}').toString('base64url');
    for (const forged of [`whs_${none}.${payload}.`, 'whs_', 'whs_a.b.c', `${token}.x`]) {
      expect(await me(forged)).toMatchObject(problem(401, 'UNAUTHENTICATED'));
    }
  });

  it('of another instance with the same key is refused', async () => {
    const { Sessions } = await import('../../libs/webhooks/src/api/sessions.js');
    const { NO_PAGE } = await import('../../libs/webhooks/src/api/session-page.js');
    const { sessions } = (await import('../../libs/webhooks/src/option-table.js')).resolveTable(
      (await import('../../libs/webhooks/src/api/api-options.js')).API_OPTIONS,
      { access: OPEN_ACCESS, sessions: { keys: [SESSION_KEY] } },
      { name: 'WebhooksApiModule' },
    );
    const parts = { clock: api.clock } as never;
    const of = async (instance: string) =>
      new Sessions(parts, sessions as never, instance).create({
        page: NO_PAGE,
        kind: 'operator',
        owner: null,
        actor: null,
        can: [],
        expiresInMs: 300_000,
      });
    expect(await me((await of('billing')).token)).toMatchObject(problem(401, 'UNAUTHENTICATED'));
    expect(await me((await of('default')).token)).toMatchObject({ status: 200 });
  });

  it('says how a page shows it, by its signature and not by the URL of the page', async () => {
    const page = {
      ...{ theme: 'dark', locale: 'pt-BR', accent: '#0a6638', logo: '/logo.svg', next: '/listeners' },
      ...{ parentOrigins: ['https://app.example.com'], returnUrl: 'https://app.example.com/settings' },
    };
    expect((await me((await tokenOf(page)).token)).body).toMatchObject(page);
    expect((await me((await tokenOf()).token)).body).toMatchObject({
      ...{ theme: null, locale: null, accent: null, logo: null, next: null, parentOrigins: null, returnUrl: null },
    });
  });

  it('of every length fits into the header that proxies accept', async () => {
    const long = (length: number, start: string) => start.padEnd(length, 'x');
    const { token } = await tokenOf({
      ...{ owner: long(255, ''), actor: long(255, ''), can: MANAGE, locale: 'de-Latn-DE-1996', accent: '#0a6638' },
      ...{ logo: long(1024, '/'), next: long(255, '/'), returnUrl: long(1024, 'https://app.example.com/') },
      parentOrigins: [...'abcde'].map((one) => `${long(240, `https://${one}`)}.example.com`.slice(0, 255)),
    });
    expect(token.length).toBeLessThan(7.5 * 1024);
    expect(await me(token)).toMatchObject({ status: 200 });
  });

  it.each([
    [{ theme: 'blue' }, '/theme'],
    [{ locale: 'de_DE' }, '/locale'],
    [{ accent: 'red;}' }, '/accent'],
    [{ logo: 'https://elsewhere.example/logo.png' }, '/logo'],
    [{ logo: '//elsewhere.example/logo.png' }, '/logo'],
    [{ parentOrigins: [] }, '/parentOrigins'],
    [{ parentOrigins: ['https://app.example.com', '*'] }, '/parentOrigins/1'],
    [{ parentOrigins: ['https://app.example.com/'] }, '/parentOrigins/0'],
    [{ returnUrl: 'javascript:alert(1)' }, '/returnUrl'],
    [{ returnUrl: '//elsewhere.example' }, '/returnUrl'],
    [{ returnUrl: 'https://' }, '/returnUrl'],
    [{ next: 'listeners' }, '/next'],
    [{ next: '//elsewhere.example' }, '/next'],
  ])('is refused with %j', async (page, pointer) => {
    expect(await create({ kind: 'owner', owner: 'acme', can: [], expiresInMs: 300_000, ...page })).toMatchObject({
      ...problem(400, 'INVALID_REQUEST'),
      body: { errors: [{ pointer }] },
    });
  });

  it('cannot have more than its creator, and owners create none', async () => {
    const refused = (body: object, pointer: string) =>
      expect(create({ kind: 'owner', owner: 'acme', can: [], ...body })).resolves.toMatchObject({
        ...problem(400, 'INVALID_REQUEST'),
        body: { errors: [{ pointer }] },
      });
    await refused({ can: ['sessions:create'] }, '/can/0');
    await refused({ owner: undefined }, '/owner');
    await refused({ kind: 'operator' }, '/owner');
    await refused({ expiresInMs: 600_001 }, '/expiresInMs');
    expect(await create({ kind: 'owner', owner: 'acme', can: [] }, 'acme')).toMatchObject(
      problem(403, 'CAPABILITY_MISSING'),
    );
    const limited = await tokenOf({ kind: 'operator', owner: undefined, can: ['listeners:read'] });
    expect((await me(limited.token)).body).toMatchObject({ kind: 'operator', owner: null, can: ['listeners:read'] });
  });

  it('has no routes without keys', async () => {
    const without = await startApiApp({ api: { sessions: undefined as never } });
    expect(await without.call('POST', '/sessions', { as: 'operator' })).toMatchObject(problem(404, 'ROUTE_NOT_FOUND'));
    await without.close();
  });
});

@Injectable()
class Users {
  readonly names = new Set(['acme']);
}
@Module({ providers: [Users], exports: [Users] })
class UsersModule {}
@Injectable()
class LoginGuard implements CanActivate {
  constructor(private readonly users: Users) {}

  canActivate(context: ExecutionContext): boolean {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>();
    const [name = ''] = headers['x-user']?.split(' ') ?? [];
    if (name === 'operator') return true;
    if (!this.users.names.has(name)) throw new UnauthorizedException('Who are you?');
    return headers['x-blocked'] === undefined;
  }
}

describe('guards of the application', () => {
  it('run before access(), and not for sessions; their errors are problem documents', async () => {
    const access = vi.fn(accessOf);
    const api = await startApiApp({ api: { guards: [LoginGuard], imports: [UsersModule], access } });
    const me = (call: Call) => api.call('GET', '/me', call);
    expect(await me({ as: 'acme' })).toMatchObject({ status: 200 });
    expect(access).toHaveBeenCalledTimes(1);
    expect(await me({ as: 'globex' })).toMatchObject({
      ...problem(401, 'UNAUTHENTICATED'),
      body: { detail: 'Who are you?' },
    });
    expect(await me({ as: 'acme', headers: { 'x-blocked': '1' } })).toMatchObject(problem(403, 'FORBIDDEN'));
    expect(access).toHaveBeenCalledTimes(1);
    const { body } = await api.call('POST', '/sessions', {
      as: 'operator',
      body: { kind: 'owner', owner: 'x', can: MANAGE },
    });
    expect(await me({ headers: { authorization: `Bearer ${body.token}` } })).toMatchObject({
      status: 200,
      body: { owner: 'x' },
    });
    expect(await me({ headers: { authorization: 'Bearer whs_x' } })).toMatchObject(problem(401, 'UNAUTHENTICATED'));
    await api.close();
  });

  it('run for everything that looks like a session if there are none', async () => {
    const guard = { canActivate: vi.fn(() => true) };
    const api = await startApiApp({ api: { guards: [guard], sessions: undefined as never } });
    await api.call('GET', '/me', { as: 'acme', headers: { authorization: 'Bearer whs_x' } });
    expect(guard.canActivate).toHaveBeenCalledTimes(1);
    await api.close();
  });
});

describe('the limits', () => {
  it('count reads and changes of each principal by themselves', async () => {
    const api = await startApiApp({ api: { limits: { readsPerMinute: 3, writesPerMinute: 1 } } });
    const statusOf = async (method: string, as: string) =>
      (await api.call(method, method === 'GET' ? '/me' : '/listeners/x/disable', { as })).status;
    expect([await statusOf('GET', 'acme'), await statusOf('GET', 'acme'), await statusOf('GET', 'acme')]).toEqual([
      200, 200, 200,
    ]);
    const refused = await api.call('GET', '/me', { as: 'acme' });
    expect(refused).toMatchObject(problem(429, 'TOO_MANY_REQUESTS'));
    expect(Number(refused.headers.get('retry-after'))).toBe(60);
    expect([await statusOf('POST', 'acme'), await statusOf('POST', 'acme'), await statusOf('GET', 'globex')]).toEqual([
      404, 429, 200,
    ]);
    api.clock.advance(60_000);
    expect(await statusOf('GET', 'acme')).toBe(200);
    await api.close();
  });

  it('count previews and checks of URLs apart from each other, and from reads and changes', async () => {
    const limits = { readsPerMinute: 1, writesPerMinute: 1, previewsPerMinute: 2, urlChecksPerMinute: 1 };
    const api = await startApiApp({ api: { limits } });
    const preview = (as: string) => api.call('POST', '/listeners/preview', { as, body: { events: ['order.*'] } });
    const check = (as: string) => api.call('POST', '/listeners/check-url', { as, body: { url: api.receiver.url } });
    const statuses = async (calls: readonly (() => Promise<Answer>)[]) => {
      const answers: number[] = [];
      for (const one of calls) answers.push((await one()).status);
      return answers;
    };
    const change = () => api.call('POST', '/listeners/x/disable', { as: 'acme' });
    const read = () => api.call('GET', '/me', { as: 'acme' });
    expect(await statuses([() => preview('acme'), () => preview('acme'), () => check('acme'), change, read])).toEqual([
      ...[200, 200, 200, 404, 200],
    ]);
    for (const refused of [await preview('acme'), await check('acme')]) {
      expect(refused).toMatchObject(problem(429, 'TOO_MANY_REQUESTS'));
      expect(Number(refused.headers.get('retry-after'))).toBe(60);
    }
    expect((await preview('acme')).body.detail).toContain('The limit of 2 previews a minute is reached.');
    // Each principal has its own limits.
    expect(await statuses([() => preview('globex'), () => check('operator')])).toEqual([200, 200]);
    api.clock.advance(60_000);
    expect(await statuses([() => preview('acme'), () => check('acme')])).toEqual([200, 200]);
    await api.close();
  });
});

describe('WebhooksApiModule.forRoot()', () => {
  it('needs access', () => {
    expect(() => WebhooksApiModule.forRoot({} as never)).toThrow(
      expect.objectContaining({ code: 'ACCESS_MISSING' }) as Error,
    );
    expect(() => WebhooksApiModule.forRoot(undefined as never)).toThrow(ConfigurationError);
  });

  it('with OPEN_ACCESS makes everybody an operator, and warns', async () => {
    const warnings: string[] = [];
    const logger = { log() {}, error() {}, warn: (text: string) => warnings.push(text) };
    const api = await startApiApp({ api: { access: OPEN_ACCESS }, nest: { logger } });
    expect((await api.call('GET', '/me')).body).toMatchObject({ kind: 'operator', owner: null });
    expect(warnings.filter((text) => text.includes('OPEN_ACCESS'))).toHaveLength(1);
    await api.close();
  });

  it('needs a WebhooksModule of its data source', async () => {
    await expect(startApiApp({ api: { dataSource: 'billing' } })).rejects.toMatchObject({
      code: 'WEBHOOKS_MODULE_MISSING',
    });
  });
});
