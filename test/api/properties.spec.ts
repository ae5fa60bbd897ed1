import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OWNER_CAPABILITIES, type Capability } from '../../libs/webhooks/src/api/access.js';
import { COMPONENTS } from '../../libs/webhooks/src/api/components.js';
import { neededBy, type ApiRoute } from '../../libs/webhooks/src/api/route.js';
import { violations, type Schema } from '../../libs/webhooks/src/api/schema.js';
import { apiRoutes } from '../../libs/webhooks/src/api/webhooks-api.module.js';
import { Order, Rate, startApiApp, type Answer, type ApiApp, type ApiAppOptions, type Platform } from './api-app.js';
import { countStatements } from './statements.js';
import { startShardedApi } from '../shards/sharded-api.js';
import { createPair, PAIRS } from '../shards/sharded-app.js';
import { databases, type FreshDatabase } from '../support/databases.js';
import { EventService } from 'nestjs-entity-webhooks';
import { MANAGE, OPERATE, VIEW } from 'nestjs-entity-webhooks/api';

/** Random requests: 10,000 with `npm run fuzz`, or `FUZZ_REQUESTS`. `FUZZ_SEED` repeats the requests of a run. */
const REQUESTS = Number(process.env.FUZZ_REQUESTS ?? (process.env.FUZZ_SECONDS === undefined ? 400 : 10_000));
const SEED = process.env.FUZZ_SEED === undefined ? {} : { seed: Number(process.env.FUZZ_SEED) };
const MANY = 1_000_000;
const ROUTES = apiRoutes(true);
const ROUTES_OF_SHARDS = apiRoutes(true, true);

const OPTIONS: ApiAppOptions = {
  api: { limits: { readsPerMinute: MANY, writesPerMinute: MANY, previewsPerMinute: MANY, urlChecksPerMinute: MANY } },
  webhooks: { limits: { listenersPerOwner: MANY, testsPerMinute: MANY, resendsPerMinute: MANY } },
};

/** Both platforms on the first database of the run, and one of them on the others: what differs there is the SQL. */
const PLACES = databases.flatMap((database, index) =>
  (index ? ['express'] : (['express', 'fastify'] satisfies Platform[])).map(
    (platform) => [platform as Platform, database.name, database] as const,
  ),
);

interface Ids {
  listener: string;
  delivery: string;
  event: string;
  task: string;
}

/** A listener of an owner that received an event, and the ids of all three. */
async function received(api: ApiApp, owner: string, orderId: number): Promise<Ids> {
  const { id: listener } = await api.listeners.create({ owner, events: ['order.*'], url: api.receiver.url });
  await api.dataSource.getRepository(Order).save({ id: orderId, customer: owner, status: `secret of ${owner}` });
  await api.dispatcher.drain();
  const [delivery] = (await api.deliveries.list({ listenerId: listener })).items;
  const { id: task } = await api.tasks.forOwner(owner).create({ kind: 'discard', listenerId: listener });
  return { listener, delivery: delivery?.id ?? '', event: delivery?.eventId ?? '', task };
}

function idFor({ path }: ApiRoute, ids: Ids): string {
  if (path.startsWith('/listeners')) return ids.listener;
  if (path.startsWith('/tasks')) return ids.task;
  return path.startsWith('/deliveries') ? ids.delivery : ids.event;
}

/** Whether an owner may have the capability. */
function ofOwners({ capability }: ApiRoute): boolean {
  return mayCall(OWNER_CAPABILITIES, capability);
}

function mayCall(can: readonly Capability[], capability: ApiRoute['capability']): boolean {
  const needed = neededBy(capability);
  return !needed.length || needed.some((one) => can.includes(one));
}

const PRESETS = { view: VIEW, operate: OPERATE, manage: MANAGE };

/** A name or an id that is not the same, and that nothing has. */
const unknownFor = (id: string) => id.slice(0, -4) + (id.endsWith('0000') ? '1111' : '0000');

const BODIES: Readonly<Record<string, object>> = {
  createListener: { events: ['order.*'], url: 'https://127.0.0.1:9/', enabled: false },
  updateListener: { name: 'changed' },
  checkUrl: { url: 'https://hooks.example.com/' },
  previewListener: { events: ['order.*'], where: { status: 'x' } },
  sendEvent: { listenerId: 'lst_unknown' },
  createTask: { kind: 'recover', since: '2026-01-01T00:00:00Z', dryRun: true },
};

describe.each(PLACES)('of what belongs to another owner (%s, %s)', (platform, _name, database) => {
  let fresh: FreshDatabase;
  let api: ApiApp;
  let ids: Ids;
  beforeAll(async () => {
    fresh = await database.create();
    api = await startApiApp({ ...OPTIONS, platform, database: fresh.options });
    ids = await received(api, 'globex', 1);
    await received(api, 'acme', 2);
    await api.dataSource.getRepository(Rate).save({ id: 1 });
    await api.dispatcher.drain();
  });
  afterAll(async () => {
    await api.close();
    await fresh.drop();
  });

  const stateOf = async () => ({
    listener: await api.listeners.get(ids.listener),
    delivery: await api.deliveries.get(ids.delivery),
    counts: await api.deliveries.counts(),
    event: await api.app.get(EventService).get(ids.event),
    tasks: (await api.tasks.list()).items,
  });

  /** What an answer reveals, without the name that was asked for. */
  const asking = async (asked: string, request: () => Promise<Answer>) => {
    const { answer, statements } = await countStatements(api, request);
    return {
      status: answer.status,
      text: answer.text.replaceAll(asked, 'ID').replace(/urn:uuid:[\w-]+/, 'URN'),
      headers: [...answer.headers.keys()].toSorted(),
      statements,
    };
  };
  const bodyFor = ({ method, operation }: ApiRoute) =>
    method === 'GET' || method === 'DELETE' ? {} : { body: BODIES[operation] ?? {} };
  const pathFor = (route: ApiRoute) => route.path.replace(/\{\w+\}/, idFor(route, ids));

  it('every operation of the document is tested here', async () => {
    const { body } = await api.call('GET', '/openapi.json', { as: 'operator' });
    const operations = Object.values(body.paths as Record<string, Record<string, { operationId: string }>>);
    const ids = operations.flatMap((path) => Object.values(path).map(({ operationId }) => operationId));
    expect(ids.toSorted()).toEqual(ROUTES.map(({ operation }) => operation).toSorted());
  });

  it.each(ROUTES.filter((one) => one.path.includes('{') && ofOwners(one)).map((one) => [one.operation, one] as const))(
    '%s sees, changes and reveals nothing: the same as for an unknown id',
    async (_, route) => {
      const id = route.path.includes('{type}') ? 'rate.created' : idFor(route, ids);
      const unknown = unknownFor(id);
      const before = await stateOf();
      const ask = (one: string) =>
        asking(one, () =>
          api.call(route.method, route.path.replace(/\{\w+\}/, one), { as: 'acme', ...bodyFor(route) }),
        );
      const foreign = await ask(id);
      expect(foreign.status).toBe(404);
      expect(foreign).toEqual(await ask(unknown));
      expect(await stateOf()).toEqual(before);
    },
  );

  it.each(ROUTES.filter(ofOwners).map((one) => [one.operation, one] as const))(
    '%s reveals nothing about what its parameters name: the same as for an unknown name',
    async (_, route) => {
      const known = { ...ids, owner: 'globex', listenerId: ids.listener, eventId: ids.event, target: ids.listener };
      // What a stream sends comes later, from a poll that all streams share.
      const named =
        route.operation === 'stream'
          ? known
          : { ...known, q: ids.listener, actor: 'user of globex', entityId: '1', type: 'rate.created' };
      const before = await stateOf();
      for (const [name, value] of Object.entries(named)) {
        const path = pathFor({ ...route, path: route.path.replace('{type}', 'order.updated') });
        if (route.query && name in route.query) {
          const ask = (one: string) =>
            asking(one, () => api.call(route.method, `${path}?${name}=${encodeURIComponent(one)}`, { as: 'acme' }));
          expect([name, await ask(value)]).toEqual([name, await ask(unknownFor(value))]);
        }
        if (route.body?.properties && name in route.body.properties) {
          const given = { ...BODIES[route.operation], ...(name === 'entityId' ? { entity: 'Order' } : {}) };
          const ask = (one: string) =>
            asking(one, () => api.call(route.method, path, { as: 'acme', body: { ...given, [name]: one } }));
          expect([name, await ask(value)]).toEqual([name, await ask(unknownFor(value))]);
        }
      }
      expect(await stateOf()).toEqual(before);
    },
  );

  it.each(ROUTES.map((one) => [one.operation, one] as const))(
    '%s is closed to those who lack its capability, before anything is read',
    async (_, route) => {
      const closed = Object.entries(PRESETS).filter(([, can]) => !mayCall(can, route.capability));
      const callers = [[undefined, 401] as const, ...closed.map(([preset]) => [`acme ${preset}`, 403] as const)];
      for (const [as, status] of callers) {
        const { answer, statements } = await countStatements(api, () =>
          api.call(route.method, pathFor(route), { ...(as === undefined ? {} : { as }), ...bodyFor(route) }),
        );
        expect([as, answer.status, statements]).toEqual([as, status, 0]);
      }
    },
  );

  it('no list and no filter shows anything', async () => {
    const lists = ROUTES.filter((one) => one.method === 'GET' && !one.path.includes('{') && ofOwners(one));
    const named = {
      owner: 'globex',
      listenerId: ids.listener,
      eventId: ids.event,
      type: 'order.created',
      q: '127.0.0.1',
    };
    const other = { state: 'queued', kind: 'discard', step: '1h', since: '2024-01-01T00:00:00Z', limit: '200' };
    const queries = lists
      .filter(({ operation }) => operation !== 'stream')
      .flatMap(({ path, query = {} }) => [
        path,
        ...Object.entries({ ...named, ...other })
          .filter(([name, value]) => name in query && (query[name]?.enum ?? [value]).includes(value))
          .map(([name, value]) => `${path}?${name}=${value}${name === 'since' && 'step' in query ? '&step=1d' : ''}`),
      ]);
    expect(queries).toContain('/events?owner=globex');
    for (const query of queries) {
      const { status, text, body } = await api.call('GET', query, { as: 'acme' });
      if (query === '/listeners?owner=globex') {
        expect([status, body.code]).toEqual([400, 'INVALID_OWNER']);
        continue;
      }
      expect([query, status]).toEqual([query, 200]);
      for (const hidden of ['globex', 'secret of globex', ...Object.values(ids), 'rate.created'])
        expect([query, text.includes(hidden)]).toEqual([query, false]);
    }
  });

  it('a task concerns nothing, whatever it names, and answers the same as for an unknown name', async () => {
    const before = await stateOf();
    const row = { entity: 'Order', entityId: '1' };
    for (const kind of ['recover', 'discard'] as const) {
      for (const named of [{ listenerId: ids.listener }, { owner: 'globex' }, row, { types: ['rate.created'] }]) {
        const states = kind === 'recover' ? ['exhausted', 'discarded'] : ['due', 'held'];
        const body = { kind, states, since: '2020-01-01T00:00:00Z', dryRun: true, ...named };
        const { status, body: count } = await api.call('POST', '/tasks', { as: 'acme', body });
        expect([status, count]).toEqual([200, { count: 0, capped: false, oldest: null, newest: null }]);
      }
    }
    const replay = (listenerId: string) =>
      countStatements(api, () =>
        api.call('POST', '/tasks', { as: 'acme', body: { kind: 'replay', listenerId, since: '2020-01-01T00:00:00Z' } }),
      );
    const [foreign, none] = [await replay(ids.listener), await replay('lst_unknown')];
    for (const { answer } of [foreign, none]) {
      expect([answer.status, answer.body.code]).toEqual([404, 'LISTENER_NOT_FOUND']);
    }
    expect(foreign.statements).toBe(none.statements);
    for (const kind of ['erase', 'reseal']) {
      const { status, body } = await api.call('POST', '/tasks', { as: 'acme', body: { kind, owner: 'globex' } });
      expect([status, body.code]).toEqual([403, 'CAPABILITY_MISSING']);
    }
    expect(await stateOf()).toEqual(before);
  });

  it('an event is not sent to a listener of another owner', async () => {
    const own = (await api.call('GET', '/events', { as: 'acme' })).body.items[0].id as string;
    const { status, body } = await api.call('POST', `/events/${own}/deliveries`, {
      as: 'acme',
      body: { listenerId: ids.listener },
    });
    expect([status, body.code]).toEqual([404, 'LISTENER_NOT_FOUND']);
  });

  it('a preview examines only the own events, whatever the filter asks', async () => {
    const body = { events: ['*'], where: {} };
    const { status, text, body: preview } = await api.call('POST', '/listeners/preview', { as: 'acme', body });
    expect([status, preview.examined, preview.matched]).toEqual([200, 1, 1]);
    for (const hidden of ['globex', ids.event, 'rate.created']) expect(text).not.toContain(hidden);
    const foreign = await api.call('POST', '/listeners/preview', { as: 'acme', body: { ...body, owner: 'globex' } });
    expect([foreign.status, foreign.body.code]).toEqual([400, 'INVALID_OWNER']);
  });

  it('the figures of an owner do not count the attempts of another', async () => {
    const { body } = await api.call('GET', '/stats', { as: 'acme' });
    expect(body.totals).toMatchObject({ accepted: 1, rejected: 0 });
    expect((await api.call('GET', '/stats', { as: 'operator' })).body.totals).toMatchObject({ accepted: 2 });
  });

  it('a listener cannot be created for another owner', async () => {
    const { status, body } = await api.call('POST', '/listeners', {
      as: 'acme',
      body: { events: ['order.*'], url: api.receiver.url, owner: 'globex' },
    });
    expect([status, body.code]).toEqual([400, 'INVALID_OWNER']);
  });
});

const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '',
    '0',
    '-1',
    '1e9',
    'null',
    '*',
    'order.*',
    '..',
    '%',
    '\0',
    "'",
    '__proto__',
    'constructor',
    '9'.repeat(30),
  ),
  fc.constantFrom(
    '2026-02-30T00:00:00Z',
    '9999-12-31T23:59:59Z',
    '0000-01-01T00:00:00Z',
    '5xx',
    'lst_',
    'https://127.0.0.1/',
  ),
);
const anyJson = fc.oneof(
  anyText,
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(2 ** 53, -0, 1e308, [], {}, [[]], { __proto__: 1 }, 'x'.repeat(3_000)),
);

/** Values of a schema, and values that are nearly so. */
function valueOf(schema: Schema): fc.Arbitrary<unknown> {
  if (schema.enum) return mostly(fc.constantFrom(...schema.enum), anyJson);
  if (schema.oneOf) return mostly(fc.oneof(...schema.oneOf.map(valueOf)), anyJson);
  if (schema.type === 'object') return mostly(objectOf(schema), anyJson);
  if (schema.type === 'array') return mostly(fc.array(valueOf(schema.items ?? {}), { maxLength: 4 }), anyJson);
  if (schema.type === 'integer') return mostly(fc.integer({ min: -2, max: 1_000_000 }), anyJson);
  if (schema.type === 'boolean') return mostly(fc.boolean(), anyJson);
  return 'example' in schema ? mostly(fc.constant(schema.example), anyJson) : anyJson;
}

const mostly = <T>(usual: fc.Arbitrary<T>, other: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 4, arbitrary: usual as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: other });

function objectOf({ properties = {}, required = [] }: Schema): fc.Arbitrary<unknown> {
  const known = Object.entries(properties).map(([key, one]) => [key, valueOf(one)] as const);
  const present = fc.record(Object.fromEntries(known), { requiredKeys: required.filter((key) => key in properties) });
  return fc.oneof(
    { weight: 5, arbitrary: present },
    {
      weight: 1,
      arbitrary: fc.tuple(present, fc.dictionary(anyText, anyJson, { maxKeys: 2 })).map(([a, b]) => ({ ...a, ...b })),
    },
  );
}

interface RandomRequest {
  route: ApiRoute;
  id: string;
  query: readonly (readonly [string, string])[];
  body: unknown;
  raw: string | null;
  headers: Record<string, string>;
  as: string | undefined;
}

/** A header value as HTTP can carry it. */
const headerText = anyText.map((text) => text.replaceAll(/[^\x20-\x7e]/g, '').trim());

const OTHER_IDS = ['order.updated', 'lst_0', 'dlv_0'];

function requests(
  routes: readonly ApiRoute[],
  idsOf: (route: ApiRoute) => readonly string[],
): fc.Arbitrary<RandomRequest> {
  return fc.constantFrom(...routes).chain((route) => {
    const names = [...Object.keys(route.query ?? {}), 'other'];
    return fc.record({
      route: fc.constant(route),
      id: fc.oneof(
        { weight: 8, arbitrary: fc.constantFrom(...idsOf(route)) },
        { weight: 1, arbitrary: fc.constantFrom(...idsOf(route), ...OTHER_IDS) },
        { weight: 1, arbitrary: anyText },
      ),
      query: fc.oneof(
        { weight: 2, arbitrary: fc.constant([]) },
        {
          weight: 1,
          arbitrary: fc.array(
            fc.constantFrom(...names).chain((name) => fc.tuple(fc.constant(name), queryText(route.query?.[name]))),
            { maxLength: 3 },
          ),
        },
      ),
      body:
        route.operation in BODIES
          ? mostly(fc.constant(BODIES[route.operation]), valueOf(route.body ?? {}))
          : route.body
            ? valueOf(route.body)
            : mostly(fc.constant(undefined), anyJson),
      raw: fc.oneof({ weight: 19, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: anyText }),
      headers: fc.oneof(
        { weight: 12, arbitrary: fc.constant({}) },
        { weight: 1, arbitrary: fc.record({ 'if-match': fc.oneof(fc.constant('"1"'), headerText) }) },
        { weight: 1, arbitrary: fc.record({ 'idempotency-key': headerText }) },
        {
          weight: 1,
          arbitrary: fc.record({
            'content-type': fc.constantFrom('text/plain', 'application/json; charset=x', 'a/b', ''),
          }),
        },
        { weight: 1, arbitrary: fc.record({ authorization: headerText.map((text) => `Bearer whs_${text}`) }) },
      ) as fc.Arbitrary<Record<string, string>>,
      as: fc.constantFrom(...['acme', 'acme', 'acme', 'operator', 'operator', 'operator', 'acme view', undefined]),
    });
  });
}

function queryText(schema: Schema = {}): fc.Arbitrary<string> {
  if (schema.enum) return mostly(fc.constantFrom(...schema.enum), anyText).map(String);
  const usual =
    schema.format === 'date-time'
      ? '2026-01-01T00:00:00Z'
      : (schema.example ?? (schema.type === 'integer' ? 7 : 'acme'));
  return mostly(fc.constant(usual), anyText).map(String);
}

/** An API of one instance, or of two shards. */
interface Place {
  readonly title: string;
  readonly routes: readonly ApiRoute[];
  readonly start: () => Promise<{ api: ApiApp; drop: () => Promise<void> }>;
}

const OF_ONE = PLACES.map(([platform, name, database]): Place => {
  const start = async () => {
    const fresh = await database.create();
    return { api: await startApiApp({ ...OPTIONS, platform, database: fresh.options }), drop: fresh.drop };
  };
  return { title: `${platform}, ${name}`, routes: ROUTES, start };
});

const OF_SHARDS = PAIRS.slice(0, 1).map(([name, eu, us]): Place => {
  const start = async () => {
    const pair = await createPair(eu, us);
    const sharded = await startShardedApi({ databases: pair.options, webhooks: OPTIONS.webhooks });
    return { api: { ...sharded.eu, ...sharded }, drop: pair.drop };
  };
  return { title: `two shards, ${name}`, routes: ROUTES_OF_SHARDS, start };
});

describe.each([...OF_ONE, ...OF_SHARDS])('random requests ($title)', ({ title, routes, start }) => {
  let drop: () => Promise<void>;
  let api: ApiApp;
  const answers = new Map<number, number>();
  beforeAll(async () => {
    ({ api, drop } = await start());
  });
  afterAll(async () => {
    await api.close();
    await drop();
  });

  it('never cause a 5xx, and every answer is as documented', { timeout: 60_000 + REQUESTS * 60 }, async () => {
    const { listener, delivery, event, task } = await received(api, 'acme', 3);
    const more = await Promise.all(
      Array.from({ length: 40 }, () =>
        api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url }),
      ),
    );
    const damaged = await damagedEvent(api);
    const session = { kind: 'owner', owner: 'acme', can: [] };
    const made = await Promise.all(
      Array.from({ length: 20 }, () => api.call('POST', '/sessions', { as: 'operator', body: session })),
    );
    const sessions = made.map(({ body }) => body.id as string);
    const idsOf = ({ path }: ApiRoute): readonly string[] => {
      if (path.startsWith('/listeners')) return [listener, ...more.map(({ id }) => id)];
      if (path.startsWith('/event-types')) return ['order.updated', 'note.sent'];
      if (path.startsWith('/tasks')) return [task];
      if (path.startsWith('/damaged')) return [damaged, 'img_1'];
      if (path.startsWith('/sessions')) return sessions;
      return [path.startsWith('/events') ? event : delivery];
    };
    const called = new Set<string>();
    const property = fc.asyncProperty(requests(routes, idsOf), async (given) => {
      called.add(given.route.operation);
      const answer = await send(api, given);
      answers.set(answer.status, (answers.get(answer.status) ?? 0) + 1);
      assertDocumented(given.route, answer);
    });
    await fc.assert(property, { numRuns: Math.ceil(REQUESTS / PLACES.length), endOnFailure: true, ...SEED });
    if (REQUESTS >= 5_000) expect([...called].toSorted()).toEqual(ROUTES.map(({ operation }) => operation).toSorted());
    // The requests reach the routes, and are not all refused at the door.
    const succeeded = [200, 201, 202, 204].reduce((sum, status) => sum + (answers.get(status) ?? 0), 0);
    expect(succeeded).toBeGreaterThan(REQUESTS / PLACES.length / 10);
    if (process.env.FUZZ_SECONDS !== undefined || process.env.FUZZ_REQUESTS !== undefined)
      console.log(`fuzz: API on ${title}: ${JSON.stringify(Object.fromEntries([...answers].toSorted()))}`);
  });
});

/** An event that cannot be read. @returns its id */
async function damagedEvent(api: ApiApp): Promise<string> {
  await api.dataSource.getRepository(Order).save({ id: 4, customer: 'acme', status: 'new' });
  const [{ id }] = await api.dataSource.query(`select id from webhook_events order by seq desc limit 1`);
  await api.dataSource.query(`update webhook_events set payload = '{' where id = '${id}'`);
  await api.dispatcher.drain();
  return id as string;
}

/** Lone surrogates cannot be part of a URL. */
const wellFormed = (text: string) => Buffer.from(text).toString();

function send(api: ApiApp, { route, id, query, body, raw, headers, as }: RandomRequest): Promise<Answer> {
  const path = route.path.replace(/\{\w+\}/, encodeURIComponent(wellFormed(id)) || 'x');
  const search = query.map((pair) => pair.map((text) => encodeURIComponent(wellFormed(text))).join('=')).join('&');
  const content = route.method === 'GET' || route.method === 'DELETE' ? undefined : (raw ?? JSON.stringify(body));
  return api.call(route.method, `${path}${search && `?${search}`}`, {
    ...(as === undefined ? {} : { as }),
    ...(content === undefined ? {} : { body: content }),
    headers,
  });
}

/** A `.` or `..` in the path is another route for the HTTP client, and an id that no URL can carry is answered by the framework. */
function assertDocumented(route: ApiRoute, { status, headers, text, body }: Answer): void {
  expect(status, text).toBeLessThan(500);
  if (status >= 400) {
    if (headers.get('content-type')?.startsWith('application/problem+json')) {
      expect(violations(COMPONENTS['Problem'] as Schema, body)).toEqual([]);
    }
    return;
  }
  if (status === route.otherAnswer?.status) {
    expect(violations(route.otherAnswer.answer, body, COMPONENTS)).toEqual([]);
  }
  if (status !== route.status) return;
  if (route.answer && !route.answerType) expect(violations(route.answer, body, COMPONENTS)).toEqual([]);
}
