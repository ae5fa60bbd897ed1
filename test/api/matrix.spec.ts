import {
  Injectable,
  SetMetadata,
  UnauthorizedException,
  ValidationPipe,
  VersioningType,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
} from '@nestjs/common';
import { APP_GUARD, Reflector } from '@nestjs/core';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { getDataSourceToken, TypeOrmModule } from '@nestjs/typeorm';
import fastifyHelmet from '@fastify/helmet';
import helmet from 'helmet';
import { map, type Observable } from 'rxjs';
import { Column, Entity, PrimaryColumn, type DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Webhook, WebhooksModule } from 'nestjs-entity-webhooks';
import { WebhooksApiModule } from 'nestjs-entity-webhooks/api';
import { LOOPBACK } from '../support/webhooks-app.js';
import { accessOf, MEMORY, SESSION_KEY, startApiApp, type Answer, type ApiApp, type Platform } from './api-app.js';

const VALUES = {
  platform: ['express', 'fastify'],
  prefix: ['none', 'api', '/api/', 'excluded'],
  versioning: ['none', 'uri', 'header'],
  pipe: ['none', 'whitelist'],
  interceptor: ['none', 'envelope', 'broken'],
  guard: ['none', 'app guard'],
  helmet: ['no', 'yes'],
} as const;
type Dimension = keyof typeof VALUES;
type Combination = { readonly [D in Dimension]: (typeof VALUES)[D][number] };

const DIMENSIONS = Object.keys(VALUES) as Dimension[];

/** Combinations in which each pair of values of two dimensions occurs. */
function pairwise(): Combination[] {
  const all = DIMENSIONS.reduce<Record<string, string>[]>(
    (made, dimension) => made.flatMap((one) => VALUES[dimension].map((value) => ({ ...one, [dimension]: value }))),
    [{}],
  );
  const pairsOf = (one: Record<string, string>) =>
    DIMENSIONS.flatMap((a, n) => DIMENSIONS.slice(n + 1).map((b) => `${a}=${one[a]} ${b}=${one[b]}`));
  const missing = new Set(all.flatMap(pairsOf));
  const chosen: Record<string, string>[] = [];
  const newPairs = (one: Record<string, string>) => pairsOf(one).filter((pair) => missing.has(pair)).length;
  while (missing.size) {
    const best = all.reduce((a, b) => (newPairs(b) > newPairs(a) ? b : a));
    for (const pair of pairsOf(best)) missing.delete(pair);
    chosen.push(best);
  }
  return chosen as Combination[];
}

@Injectable()
class EnvelopeInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: unknown) => ({ data })));
  }
}
@Injectable()
class BrokenInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: { property: string }) => data.property));
  }
}
const Public = () => SetMetadata('public', true);
@Injectable()
class AppGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    if (this.reflector.getAllAndOverride<boolean>('public', [context.getHandler(), context.getClass()])) return true;
    throw new UnauthorizedException();
  }
}

async function prepare(app: INestApplication, one: Combination): Promise<void> {
  if (one.prefix === 'excluded') app.setGlobalPrefix('api', { exclude: ['webhooks/*path'] });
  else if (one.prefix !== 'none') app.setGlobalPrefix(one.prefix);
  if (one.versioning === 'uri') app.enableVersioning({ type: VersioningType.URI, defaultVersion: '3' });
  if (one.versioning === 'header') app.enableVersioning({ type: VersioningType.HEADER, header: 'x-version' });
  if (one.pipe === 'whitelist')
    app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }));
  if (one.interceptor === 'envelope') app.useGlobalInterceptors(new EnvelopeInterceptor());
  if (one.interceptor === 'broken') app.useGlobalInterceptors(new BrokenInterceptor());
  if (one.helmet === 'no') return;
  if (one.platform === 'express') app.use(helmet());
  else await (app as unknown as { register: (plugin: unknown) => Promise<void> }).register(fastifyHelmet);
}

function start(one: Combination): Promise<ApiApp> {
  const isGuarded = one.guard === 'app guard';
  return startApiApp({
    platform: one.platform as Platform,
    api: { decorators: isGuarded ? [Public()] : [] },
    providers: isGuarded ? [{ provide: APP_GUARD, useClass: AppGuard }] : [],
    // The application's log of the interceptor that fails on purpose.
    nest: { logger: false },
    prepare: (app) => prepare(app, one),
  });
}

describe('the API in an application with', () => {
  it.each(
    pairwise().map(
      (one) =>
        [
          Object.entries(one)
            .map(([key, value]) => `${key} ${value}`)
            .join(', '),
          one,
        ] as const,
    ),
  )('%s', async (_, one) => {
    const api = await start(one);
    try {
      const root = one.prefix === 'none' || one.prefix === 'excluded' ? '!/webhooks/v1' : '!/api/webhooks/v1';
      const created = await api.call('POST', `${root}/listeners`, {
        as: 'acme',
        body: { events: ['order.*'], url: api.receiver.url, where: { status: { changedTo: 'paid' } } },
      });
      expect(created).toMatchObject({ status: 201, body: { owner: 'acme', where: { status: { changedTo: 'paid' } } } });
      const read = await api.call('GET', `${root}/listeners/${created.body.id}`, { as: 'acme' });
      expect(read).toMatchObject({ status: 200, body: { id: created.body.id } });
      expect(read.headers.get('content-type')).toBe('application/json; charset=utf-8');
      expect(read.headers.get('cache-control')).toBe('no-store');
      expect(read.headers.get('x-content-type-options')).toBe('nosniff');
      expect(read.headers.get('content-security-policy') !== null).toBe(one.helmet === 'yes');
      const removed = await api.call('DELETE', `${root}/listeners/${created.body.id}`, { as: 'acme' });
      expect(removed).toMatchObject({ status: 204, text: '' });

      const problems: [number, string, Promise<unknown>][] = [
        [404, 'LISTENER_NOT_FOUND', api.call('GET', `${root}/listeners/${created.body.id}`, { as: 'acme' })],
        [401, 'UNAUTHENTICATED', api.call('GET', `${root}/listeners`)],
        [400, 'INVALID_JSON', api.call('POST', `${root}/listeners`, { as: 'acme', body: '{"a":' })],
        [404, 'ROUTE_NOT_FOUND', api.call('GET', `${root}/nothing/here`, { as: 'acme' })],
        [405, 'METHOD_NOT_ALLOWED', api.call('PUT', `${root}/listeners`, { as: 'acme', body: {} })],
        [
          415,
          'UNSUPPORTED_CONTENT_TYPE',
          api.call('POST', `${root}/listeners`, {
            as: 'acme',
            body: 'a',
            headers: { 'content-type': 'application/xml' },
          }),
        ],
        [
          413,
          'BODY_TOO_LARGE',
          api.call('POST', `${root}/listeners`, { as: 'acme', body: `"${'x'.repeat(1_100_000)}"` }),
        ],
      ];
      for (const [status, code, answer] of problems)
        expect(await answer).toMatchObject({ status, body: { status, code } });
    } finally {
      await api.close();
    }
  });
});

@Webhook({ owner: 'customer' })
@Entity('api_invoice')
class Invoice {
  @PrimaryColumn({ type: 'int' })
  id: number;
  @Column({ type: 'varchar' })
  customer: string;
}

describe.each(['express', 'fastify'] satisfies Platform[])('two instances in one application (%s)', (platform) => {
  let api: ApiApp;
  beforeAll(async () => {
    api = await startApiApp({
      platform,
      imports: [
        TypeOrmModule.forRoot({ ...MEMORY, name: 'billing', synchronize: true, entities: [Invoice] }),
        WebhooksModule.forRoot({ dataSource: 'billing', security: LOOPBACK, dispatcher: { autoStart: false } }),
        WebhooksModule.forFeature([Invoice], 'billing'),
        WebhooksApiModule.forRoot({
          dataSource: 'billing',
          path: 'webhooks/billing',
          access: accessOf,
          // The same key for both: a token must still be good for one of them only.
          sessions: { keys: [SESSION_KEY] },
          catalog: { public: true },
        }),
      ],
    });
  });
  afterAll(() => api.close());

  const ROOTS = { default: '!/webhooks/v1', billing: '!/webhooks/billing/v1' };
  const both = async <T>(ask: (root: string) => Promise<T>): Promise<[T, T]> => [
    await ask(ROOTS.default),
    await ask(ROOTS.billing),
  ];

  it('have routes of their own', async () => {
    const [first, second] = await both((root) => api.call('GET', `${root}/me`, { as: 'acme' }));
    expect([first.body.instance, second.body.instance]).toEqual(['default', 'billing']);
    const created = await both((root) =>
      api.call('POST', `${root}/listeners`, { as: 'acme', body: { events: ['*'], url: api.receiver.url } }),
    );
    const listed = await both((root) => api.call('GET', `${root}/listeners`, { as: 'operator' }));
    const idsOf = ({ body }: Answer) => (body.items as { id: string }[]).map(({ id }) => id);
    expect(listed.map(idsOf)).toEqual(created.map(({ body }) => [body.id]));
    const other = await api.call('GET', `${ROOTS.billing}/listeners/${created[0].body.id}`, { as: 'operator' });
    expect(other).toMatchObject({ status: 404, body: { code: 'LISTENER_NOT_FOUND' } });
    const problems = await both((root) => api.call('POST', `${root}/listeners`, { as: 'acme', body: '{"a":' }));
    expect(problems.map(({ body }) => body.code)).toEqual(['INVALID_JSON', 'INVALID_JSON']);
    const none = await both((root) => api.call('GET', `${root}/nothing/here`, { as: 'acme' }));
    expect(none.map(({ body }) => body.code)).toEqual(['ROUTE_NOT_FOUND', 'ROUTE_NOT_FOUND']);
  });

  it('have events and event types of their own', async () => {
    await api.app
      .get<DataSource>(getDataSourceToken('billing'))
      .getRepository(Invoice)
      .save({ id: 1, customer: 'acme' });
    const events = await both((root) => api.call('GET', `${root}/events`, { as: 'acme' }));
    expect(events.map(({ body }) => body.items.length)).toEqual([0, 1]);
    const documents = await both((root) => api.call('GET', `${root}/event-types/openapi.json`, { as: 'operator' }));
    const [orders, invoices] = documents.map(({ body }) => Object.keys(body.webhooks as object));
    expect(orders).toContain('order.created');
    expect(invoices).toEqual(['created', 'deleted', 'restored', 'updated'].map((action) => `invoice.${action}`));
  });

  it('have a public catalogue only where the option says so', async () => {
    const answers = await both((root) => api.call('GET', `${root}/event-types`));
    expect(answers.map(({ status }) => status)).toEqual([401, 200]);
  });

  it('accept no session of each other, and revoke only their own', async () => {
    const body = { kind: 'owner', owner: 'acme', can: ['listeners:read'] };
    const sessions = await both((root) => api.call('POST', `${root}/sessions`, { as: 'operator', body }));
    const statusesOf = ({ body: { token } }: Answer) =>
      both(async (root) => {
        const headers = { authorization: `Bearer ${token}` };
        return (await api.call('GET', `${root}/listeners`, { headers })).status;
      });
    expect(await Promise.all(sessions.map(statusesOf))).toEqual([
      [200, 401],
      [401, 200],
    ]);
    await api.call('DELETE', `${ROOTS.billing}/sessions?owner=acme`, { as: 'operator' });
    expect(await Promise.all(sessions.map(statusesOf))).toEqual([
      [200, 401],
      [401, 401],
    ]);
  });

  it('share a document of @nestjs/swagger, in which each operation has its own id', () => {
    const { paths } = SwaggerModule.createDocument(api.app, new DocumentBuilder().build());
    const ids = Object.values(paths).flatMap((methods) =>
      Object.values(methods as Record<string, { operationId?: string }>).map(({ operationId }) => operationId),
    );
    expect(ids).toEqual(expect.arrayContaining(['createListener', 'createListener_billing']));
    expect(ids.filter((id, n) => ids.indexOf(id) !== n)).toEqual([]);
  });
});

describe('an application with @nestjs/swagger', () => {
  it('has the routes of the API in its own document', async () => {
    const api = await startApiApp({ prepare: (app) => app.setGlobalPrefix('api') });
    const own = (await api.call('GET', '!/api/webhooks/v1/openapi.json', { as: 'operator' })).body;
    const document = SwaggerModule.createDocument(api.app, new DocumentBuilder().build());
    await api.close();
    const of = (paths: object) =>
      Object.entries(paths).flatMap(([path, methods]) =>
        Object.keys(methods as object).map((method) => `${method} ${path}`),
      );
    const expected = of(own.paths as object).map((one) => one.replace(' /', ' /api/webhooks/v1/'));
    expect(of(document.paths).toSorted()).toEqual(expected.toSorted());
    const create = document.paths['/api/webhooks/v1/listeners']?.post;
    expect(create?.operationId).toBe('createListener');
    expect(JSON.stringify(create?.requestBody)).toContain('changedTo');
    expect(JSON.stringify(document)).not.toContain('#/components/schemas/Listener');
  });
});
