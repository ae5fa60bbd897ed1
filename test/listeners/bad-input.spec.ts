// Misspelt on purpose. cspell:ignore statsu
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  BadRequestError,
  Webhook,
  WebhookHidden,
  WebhooksError,
  type CreateListenerInput,
} from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: 'customerId' })
@Entity('bad_order')
class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'int', default: 0 })
  total: number;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customerId: string;

  @WebhookHidden()
  @Column({ type: 'varchar', length: 50, default: '' })
  margin: string;

  @Column({ type: 'varchar', length: 50, default: '', select: false })
  password: string;
}

@Webhook()
@Entity('bad_plain')
class Plain {
  @PrimaryGeneratedColumn()
  id: number;
}

/** An entity of the data source without webhooks. */
@Entity('bad_audit')
class Audit {
  @PrimaryGeneratedColumn()
  id: number;
}

const TYPO = 'whsec_bm90IHF1aXRlIGEgc2VjcmV0IGJ1dCBjbG9zZQ==!';
const SHORT = 'whsec_dG9vIHNob3J0';
const CREDENTIAL = 'Bearer s3cr3t-t0ken';

// Runs on every database: the library must refuse an input on all databases if one of them would refuse it.
describeDatabases('bad input', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order, Plain],
      others: [Audit],
      webhooks: { publishedTypes: ['invoice.overdue', { type: 'invoice.paid', fields: ['total'] }] },
    });
  });
  afterEach(async () => {
    for (const { id } of (await app.listeners.list({ limit: 500 })).items) await app.listeners.remove(id);
    // Few of the tests store events, and a search for work takes longer than most of them.
    const { outbox } = await counts('outbox');
    if (outbox) await app.dispatcher.drain();
    app.receiver.clear();
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  /** How many rows the tables have. */
  const counts = async (...tables: string[]) => {
    const selects = tables.map((table) => `(SELECT count(*) FROM webhook_${table}) AS ${table}`);
    const [row] = await app.dataSource.query<Record<string, unknown>[]>(`SELECT ${selects.join(', ')}`);
    return Object.fromEntries(Object.entries(row ?? {}).map(([table, count]) => [table, Number(count)]));
  };
  const stored = () => counts('listeners', 'routes', 'deliveries', 'events');
  const url = () => app.receiver.url;
  const errorOf = async (promise: Promise<unknown>): Promise<WebhooksError> => {
    const error: unknown = await promise.then(
      () => new Error('it was accepted'),
      (caught: unknown) => caught,
    );
    expect(error).toBeInstanceOf(WebhooksError);
    return error as WebhooksError;
  };

  const listenerCases: [what: string, code: string, input: Record<string, unknown>][] = [
    ['an unknown entity class', 'UNKNOWN_ENTITY', { entity: Audit }],
    ['an unknown entity name', 'UNKNOWN_ENTITY', { entity: 'Nothing' }],
    ['an entity that is a number', 'UNKNOWN_ENTITY', { entity: 5 }],
    ['an entity that is null', 'UNKNOWN_ENTITY', { entity: null }],
    ['an unknown event type', 'UNKNOWN_EVENT_TYPE', { events: ['order.paid'] }],
    ['an unknown prefix', 'UNKNOWN_EVENT_TYPE', { events: ['orders.*'] }],
    ['one unknown type among known ones', 'UNKNOWN_EVENT_TYPE', { events: ['order.created', 'nothing.created'] }],
    ['a pattern that is none', 'INVALID_EVENT_TYPE', { events: ['order.**'] }],
    ['a star inside', 'INVALID_EVENT_TYPE', { events: ['*.created'] }],
    ['an empty type', 'INVALID_EVENT_TYPE', { events: [''] }],
    ['a type with NUL', 'INVALID_EVENT_TYPE', { events: ['order.created\0'] }],
    ['neither events nor an entity', 'INVALID_LISTENER', {}],
    ['no event at all', 'INVALID_LISTENER', { events: [] }],
    ['events that are a text', 'INVALID_LISTENER', { events: 'order.created' }],
    ['events that are null', 'INVALID_LISTENER', { events: null }],
    ['events that are numbers', 'INVALID_LISTENER', { events: [1] }],
    ['101 events', 'INVALID_LISTENER', { events: Array(101).fill('order.created') }],
    ['events and an entity', 'INVALID_LISTENER', { events: ['order.*'], entity: Order }],
    ['an unknown key', 'INVALID_LISTENER', { events: ['order.*'], secrets: 'x' }],
    ['an id', 'INVALID_LISTENER', { events: ['order.*'], id: 'lst_mine' }],
    ['a state', 'INVALID_LISTENER', { events: ['order.*'], state: 'disabled' }],
    [
      'a prototype',
      'INVALID_LISTENER',
      JSON.parse('{"events":["order.*"],"__proto__":{"url":"x"}}') as Record<string, unknown>,
    ],
    ['a description of 501 characters', 'INVALID_LISTENER', { events: ['order.*'], description: 'x'.repeat(501) }],
    ['a description with NUL', 'INVALID_LISTENER', { events: ['order.*'], description: 'a\0b' }],
    ['a description that is an object', 'INVALID_LISTENER', { events: ['order.*'], description: {} }],
    ['a rate limit of nothing', 'INVALID_RATE_LIMIT', { events: ['order.*'], rateLimit: { limit: 0, perSeconds: 1 } }],
    ['a rate limit of a part', 'INVALID_RATE_LIMIT', { events: ['order.*'], rateLimit: { limit: 1.5, perSeconds: 1 } }],
    [
      'a rate limit over days',
      'INVALID_RATE_LIMIT',
      { events: ['order.*'], rateLimit: { limit: 1, perSeconds: 86_401 } },
    ],
    [
      'a rate limit of more',
      'INVALID_RATE_LIMIT',
      { events: ['order.*'], rateLimit: { limit: 1, perSeconds: 1, x: 1 } },
    ],
    ['an owner on a type that declares none', 'OWNER_NOT_DECLARED', { events: ['plain.created'], owner: 'acme' }],
    ['an owner on an entity that declares none', 'OWNER_NOT_DECLARED', { entity: Plain, owner: 'acme' }],
    ['an owner that is an object', 'INVALID_OWNER', { events: ['order.*'], owner: {} }],
    ['an owner that is empty', 'INVALID_OWNER', { events: ['order.*'], owner: '' }],

    ['an unknown property', 'UNKNOWN_PROPERTY', { events: ['order.*'], where: { statsu: 'x' } }],
    ['an unknown property with conditions', 'UNKNOWN_PROPERTY', { events: ['order.*'], where: { statsu: { gt: 1 } } }],
    ['a property of another type', 'UNKNOWN_PROPERTY', { events: ['plain.*'], where: { status: 'x' } }],
    ['an unknown property of a published type', 'UNKNOWN_PROPERTY', { events: ['invoice.paid'], where: { sum: 1 } }],
    ['a hidden property', 'UNKNOWN_PROPERTY', { events: ['order.*'], where: { margin: '1' } }],
    ['a select: false property', 'UNKNOWN_PROPERTY', { events: ['order.*'], where: { password: { exists: true } } }],
    ['a hidden property in the short form', 'UNKNOWN_PROPERTY', { entity: Order, property: 'margin', value: '1' }],
    ['what every object has', 'UNKNOWN_PROPERTY', { events: ['invoice.overdue'], where: { constructor: 'x' } }],
    ['something inside a text', 'UNKNOWN_PROPERTY', { events: ['order.*'], where: { 'status.length': 3 } }],
    ['an unknown operator', 'UNKNOWN_OPERATOR', { events: ['order.*'], where: { status: { like: 'x' } } }],
    ['an operator of MongoDB', 'UNKNOWN_OPERATOR', { events: ['order.*'], where: { $or: [{ status: 'x' }] } }],
    ['an operator beside none', 'UNKNOWN_OPERATOR', { events: ['order.*'], where: { total: { gt: 1, below: 2 } } }],
    ['a filter that is a text', 'INVALID_LISTENER', { events: ['order.*'], where: 'status' }],
    ['a filter that is a list', 'INVALID_LISTENER', { events: ['order.*'], where: [] }],
    ['a value that is undefined', 'INVALID_FILTER', { events: ['order.*'], where: { status: undefined } }],
    ['a value that is a list', 'INVALID_FILTER', { events: ['order.*'], where: { status: ['a', 'b'] } }],
    ['a number that is none', 'INVALID_FILTER', { events: ['order.*'], where: { total: 'many' } }],
    ['an empty in', 'INVALID_FILTER', { events: ['order.*'], where: { status: { in: [] } } }],
    ['101 values in one in', 'INVALID_FILTER', { events: ['order.*'], where: { total: { in: Array(101).fill(1) } } }],
    ['a value beyond 16 KiB', 'INVALID_FILTER', { events: ['order.*'], where: { status: 'x'.repeat(16_385) } }],
    ['a property without a value', 'INVALID_FILTER', { entity: Order, property: 'status' }],
    ['a value without a property', 'INVALID_FILTER', { entity: Order, value: 'john' }],
    ['the short form and a filter', 'INVALID_LISTENER', { entity: Order, property: 'status', value: 'x', where: {} }],

    ['no URL', 'INVALID_URL', { events: ['order.*'], url: undefined }],
    ['a URL that is null', 'INVALID_URL', { events: ['order.*'], url: null }],
    ['a URL that is a number', 'INVALID_LISTENER', { events: ['order.*'], url: 5 }],
    ['a path', 'INVALID_URL', { events: ['order.*'], url: '/hooks' }],
    ['a URL with a space', 'INVALID_URL', { events: ['order.*'], url: 'https://example.com/a b' }],
    ['a URL with a line end', 'INVALID_URL', { events: ['order.*'], url: 'https://example.com/\r\nx: y' }],
    [
      'a URL of 2,049 characters',
      'INVALID_URL',
      { events: ['order.*'], url: `https://example.com/${'x'.repeat(2_029)}` },
    ],
    ['another scheme', 'URL_SCHEME', { events: ['order.*'], url: 'ftp://example.com/' }],
    ['a script', 'URL_SCHEME', { events: ['order.*'], url: 'javascript:alert(1)' }],
    ['a file', 'URL_SCHEME', { events: ['order.*'], url: 'file:///etc/passwd' }],
    ['a URL with a password', 'URL_CREDENTIALS', { events: ['order.*'], url: 'https://user:hunter2@example.com/' }],
    ['a URL with a user', 'URL_CREDENTIALS', { events: ['order.*'], url: 'https://hunter2@example.com/' }],
    ['a private address', 'URL_ADDRESS_BLOCKED', { events: ['order.*'], url: 'http://10.0.0.1/' }],
    ['the metadata address', 'URL_ADDRESS_BLOCKED', { events: ['order.*'], url: 'http://169.254.169.254/latest' }],
    ['a private address in disguise', 'URL_ADDRESS_BLOCKED', { events: ['order.*'], url: 'http://0xa000001/' }],

    ['a header of the sender', 'INVALID_HEADER', { events: ['order.*'], headers: { 'Webhook-Signature': 'v1,x' } }],
    ['a header of HTTP', 'INVALID_HEADER', { events: ['order.*'], headers: { 'Content-Length': '1' } }],
    [
      'a header with a line end',
      'INVALID_HEADER',
      { events: ['order.*'], headers: { authorization: `${CREDENTIAL}\r\nx: y` } },
    ],
    [
      'a header name with a colon',
      'INVALID_HEADER',
      { events: ['order.*'], headers: { [`authorization: ${CREDENTIAL}`]: 'x' } },
    ],
    ['a header that is a number', 'INVALID_HEADER', { events: ['order.*'], headers: { 'x-a': 1 } }],
    ['a header twice', 'INVALID_HEADER', { events: ['order.*'], headers: { 'x-a': '1', 'X-A': '2' } }],
    ['headers that are a list', 'INVALID_LISTENER', { events: ['order.*'], headers: ['x-a'] }],

    ['a secret without its prefix', 'INVALID_SECRET', { events: ['order.*'], secret: TYPO.slice(6) }],
    ['a secret with a typing error', 'INVALID_SECRET', { events: ['order.*'], secret: TYPO }],
    ['a secret too short', 'INVALID_SECRET', { events: ['order.*'], secret: SHORT }],
    ['a secret that is empty', 'INVALID_SECRET', { events: ['order.*'], secret: '' }],
    ['a secret that is a number', 'INVALID_LISTENER', { events: ['order.*'], secret: 5 }],
    ['an unknown scheme', 'UNKNOWN_SCHEME', { events: ['order.*'], schemes: ['standard', 'rot13'] }],
    ['no scheme', 'INVALID_LISTENER', { events: ['order.*'], schemes: [] }],
    ['an unknown format', 'UNKNOWN_FORMAT', { events: ['order.*'], format: 'xml' }],
    ['an empty format', 'UNKNOWN_FORMAT', { events: ['order.*'], format: '' }],
    ['a format with NUL', 'UNKNOWN_FORMAT', { events: ['order.*'], format: 'standard\0' }],
  ];

  /** No message and no details may repeat a secret, a credential or a password. */
  const expectNoEcho = (error: WebhooksError) => {
    const shown = JSON.stringify([error.message, error.details, String(error.cause ?? '')]);
    for (const secret of [TYPO.slice(6, 30), SHORT.slice(6), CREDENTIAL, 's3cr3t', 'hunter2']) {
      expect(shown).not.toContain(secret);
    }
  };

  it.each(listenerCases)('create: %s is %s, a 400 after which nothing is stored', async (_, code, input) => {
    const before = await stored();
    const error = await errorOf(app.listeners.create({ url: url(), ...input } as CreateListenerInput));
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error).toMatchObject({ code, httpStatus: 400 });
    expectNoEcho(error);
    expect(await stored()).toEqual(before);
  });

  it.each([null, undefined, 'x', 5, [], true])(
    'create and update: a body that is %j is INVALID_LISTENER',
    async (body) => {
      const { id } = await app.listeners.create({ events: ['order.*'], url: url() });
      const invalid = { code: 'INVALID_LISTENER', httpStatus: 400 };
      expect(await errorOf(app.listeners.create(body as never))).toMatchObject(invalid);
      expect(await errorOf(app.listeners.forOwner('acme').create(body as never))).toMatchObject(invalid);
      expect(await errorOf(app.listeners.update(id, body as never))).toMatchObject(invalid);
    },
  );

  // `update` does not know properties that only `create` has, and `update` does not require properties.
  const updateCases = listenerCases
    .filter(
      ([what, code, input]) =>
        what !== 'no URL' &&
        !('entity' in input) &&
        !['INVALID_OWNER', 'OWNER_NOT_DECLARED'].includes(code) &&
        Object.keys(input).length > 0,
    )
    .map(([what, code, input]) => [what, 'secret' in input ? 'INVALID_LISTENER' : code, input] as const);

  it.each(updateCases)('update: %s is %s, and the listener stays as it was', async (_, code, input) => {
    const {
      id,
      secret: __,
      ...before
    } = await app.listeners.create({ events: ['order.*'], where: { status: 'a' }, url: url() });
    const stood = await stored();
    const error = await errorOf(app.listeners.update(id, input));
    expect(error).toMatchObject({ code, httpStatus: 400 });
    expectNoEcho(error);
    expect(await app.listeners.get(id)).toEqual({ id, ...before });
    expect(await stored()).toEqual(stood);
    await app.dataSource.manager.save(Order, { status: 'a' });
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(1);
  });

  it.each(['drop', '', null, true, {}])('enable: held %j is INVALID_LISTENER, and it stays disabled', async (held) => {
    const { id } = await app.listeners.create({ events: ['order.*'], url: url() });
    await app.listeners.disable(id);
    const error = await errorOf(app.listeners.enable(id, { held } as never));
    expect(error).toMatchObject({ code: 'INVALID_LISTENER', httpStatus: 400 });
    expect(await app.listeners.get(id)).toMatchObject({ state: 'disabled' });
  });

  it('resealSecrets() of an owner-bound service is INVALID_OWNER', async () => {
    expect(await errorOf(app.listeners.forOwner('acme').resealSecrets())).toMatchObject({ code: 'INVALID_OWNER' });
  });

  it('update: null stands for the default, as in create', async () => {
    const { id } = await app.listeners.create({
      ...{ events: ['order.*'], where: { status: 'a' }, url: url(), description: 'd', headers: { 'x-a': '1' } },
      schemes: ['google-code'],
    });
    const nulls = { where: null, description: null, headers: null, schemes: null, format: null };
    expect(await app.listeners.update(id, nulls as never)).toMatchObject({
      ...{ where: {}, description: null, headers: {}, schemes: ['standard'], format: 'standard' },
      events: ['order.*'],
    });
  });

  it.each([
    'lst_nowhere',
    '',
    ' ',
    'lst_\0',
    '\ud800',
    "'; drop table x --",
    'x'.repeat(5_000),
    null,
    undefined,
    {},
    5,
  ])('an unknown id of a listener or a delivery is a 404: %j', async (id) => {
    const { listeners, deliveries } = app;
    const before = await stored();
    for (const service of [listeners, listeners.forOwner('acme')]) {
      for (const ask of [
        () => service.get(id as string),
        () => service.update(id as string, {}),
        () => service.remove(id as string),
        () => service.enable(id as string),
        () => service.disable(id as string),
        () => service.rotateSecret(id as string),
        () => service.sendTest(id as string),
      ]) {
        const error = await errorOf(ask());
        expect(error).toMatchObject({ code: 'LISTENER_NOT_FOUND', httpStatus: 404 });
        expect(error.message.length).toBeLessThan(120);
      }
    }
    for (const service of [deliveries, deliveries.forOwner('acme')]) {
      expect(await errorOf(service.get(id as string))).toMatchObject({ code: 'DELIVERY_NOT_FOUND', httpStatus: 404 });
      expect(await errorOf(service.resend(id as string))).toMatchObject({
        code: 'DELIVERY_NOT_FOUND',
        httpStatus: 404,
      });
    }
    expect(await stored()).toEqual(before);
  });

  it.each([
    ['rotateSecret', { secret: TYPO }, 'INVALID_SECRET'],
    ['rotateSecret', { secret: SHORT }, 'INVALID_SECRET'],
    ['rotateSecret', { overlapMs: -1 }, 'INVALID_OVERLAP'],
    ['rotateSecret', { overlapMs: 1.5 }, 'INVALID_OVERLAP'],
    ['rotateSecret', { overlapMs: Infinity }, 'INVALID_OVERLAP'],
    ['rotateSecret', { overlapMs: '0' as never }, 'INVALID_OVERLAP'],
  ] as const)(
    '%s with %j is %s, the message has no secret, and the old secret stays',
    async (method, options, code) => {
      const { id, secret } = await app.listeners.create({ events: ['order.*'], url: url() });
      const error = await errorOf(app.listeners[method](id, options));
      expect(error).toMatchObject({ code, httpStatus: 400 });
      expectNoEcho(error);
      await app.listeners.sendTest(id);
      await app.dispatcher.drain();
      const [request] = app.receiver.requests;
      expect(request && app.receiver.verify(request, secret)).toBeTruthy();
    },
  );

  it('a test event for a disabled listener is LISTENER_DISABLED, a 409, and nothing is stored', async () => {
    const { id } = await app.listeners.create({ events: ['order.*'], url: url() });
    await app.listeners.disable(id, 'with a NUL \0 inside');
    const before = await stored();
    expect(await errorOf(app.listeners.sendTest(id))).toMatchObject({ code: 'LISTENER_DISABLED', httpStatus: 409 });
    expect(await stored()).toEqual(before);
  });

  describe('lists', () => {
    const cursorOf = (text: string) => Buffer.from(text).toString('base64url');

    it.each([0, -1, 1.5, 501, '10', Number.NaN, Infinity, {}])('a limit of %o is INVALID_LIMIT', async (limit) => {
      const invalid = { code: 'INVALID_LIMIT', httpStatus: 400 };
      expect(await errorOf(app.listeners.list({ limit: limit as number }))).toMatchObject(invalid);
      expect(await errorOf(app.deliveries.list({ limit: limit as number }))).toMatchObject(invalid);
    });

    it.each([
      ...['', 'x', '%%%', 'bnVsbA', cursorOf('1'), cursorOf('1.'), cursorOf('.1'), cursorOf('-1.1'), cursorOf('1.1.1')],
      ...[
        cursorOf('1.9223372036854775808'),
        cursorOf('1e3.1'),
        cursorOf("1.1' or 1=1"),
        '\0',
        'x'.repeat(10_000),
        null,
        5,
        {},
      ],
    ])('a cursor that no list gave is INVALID_CURSOR: %j', async (cursor) => {
      const invalid = { code: 'INVALID_CURSOR', httpStatus: 400 };
      expect(await errorOf(app.listeners.list({ cursor: cursor as string }))).toMatchObject(invalid);
      expect(await errorOf(app.deliveries.list({ cursor: cursor as string }))).toMatchObject(invalid);
    });

    it('cursors with the largest possible values are accepted', async () => {
      for (const cursor of [cursorOf('0.0'), cursorOf('9999999999999999.9223372036854775807')]) {
        expect((await app.listeners.list({ cursor, limit: 500 })).next).toBeNull();
        expect((await app.deliveries.list({ cursor, limit: 500 })).next).toBeNull();
      }
    });

    it.each(['', 'DUE', 'failed', 'due\0', null, 1])('an unknown state is INVALID_STATE: %j', async (state) => {
      const invalid = { code: 'INVALID_STATE', httpStatus: 400 };
      expect(await errorOf(app.listeners.list({ state: state as 'active' }))).toMatchObject(invalid);
      expect(await errorOf(app.deliveries.list({ state: state as 'due' }))).toMatchObject(invalid);
      expect(await errorOf(app.deliveries.counts({ state: state as 'due' }))).toMatchObject(invalid);
    });

    it.each([new Date(Number.NaN), '2024-01-01', 0, null])('an invalid time is INVALID_TIME: %j', async (time) => {
      const invalid = { code: 'INVALID_TIME', httpStatus: 400 };
      expect(await errorOf(app.deliveries.list({ since: time as Date }))).toMatchObject(invalid);
      expect(await errorOf(app.deliveries.counts({ until: time as Date }))).toMatchObject(invalid);
    });

    it.each(['\0', 'lst_\0', ' ', "'", '\ud800', 'x'.repeat(5_000)])(
      'a filter by a text that no row can have finds nothing: %j',
      async (text) => {
        for (const filter of [{ listenerId: text }, { eventId: text }, { type: text }, { owner: text }]) {
          expect(await app.deliveries.list(filter)).toEqual({ items: [], next: null });
          expect(Object.values(await app.deliveries.counts(filter)).every((found) => found === 0)).toBe(true);
        }
      },
    );
  });

  it.each([
    ['an unknown type', 'UNKNOWN_EVENT_TYPE', ['invoice.lost', {}]],
    ['the type of an entity', 'UNKNOWN_EVENT_TYPE', ['order.created', {}]],
    ['a type that is undefined', 'UNKNOWN_EVENT_TYPE', [undefined, {}]],
    ['data that is a text', 'INVALID_DATA', ['invoice.overdue', 'x']],
    ['data that is a list', 'INVALID_DATA', ['invoice.overdue', [1]]],
    ['data that is null', 'INVALID_DATA', ['invoice.overdue', null]],
    ['data that is missing', 'INVALID_DATA', ['invoice.overdue']],
    ['data that is a date', 'INVALID_DATA', ['invoice.overdue', new Date()]],
    ['data with a function', 'INVALID_DATA', ['invoice.overdue', { f: () => 1 }]],
    ['an owner that is an object', 'INVALID_OWNER', ['invoice.overdue', {}, { owner: {} }]],
    ['an owner of 256 characters', 'INVALID_OWNER', ['invoice.overdue', {}, { owner: 'x'.repeat(256) }]],
    ['an empty idempotency key', 'INVALID_IDEMPOTENCY_KEY', ['invoice.overdue', {}, { idempotencyKey: '' }]],
    ['a long idempotency key', 'INVALID_IDEMPOTENCY_KEY', ['invoice.overdue', {}, { idempotencyKey: 'x'.repeat(256) }]],
    ['an idempotency key that is a number', 'INVALID_IDEMPOTENCY_KEY', ['invoice.overdue', {}, { idempotencyKey: 5 }]],
    ['an idempotency key that is null', 'INVALID_IDEMPOTENCY_KEY', ['invoice.overdue', {}, { idempotencyKey: null }]],
    ['an order key that is a number', 'INVALID_ORDER_KEY', ['invoice.overdue', {}, { orderKey: 5 }]],
  ] as const)('publish: %s is %s, after which nothing is stored', async (_, code, args) => {
    const before = await stored();
    const publish = app.webhooks.publish.bind(app.webhooks) as (...given: readonly unknown[]) => Promise<unknown>;
    expect(await errorOf(publish(...args))).toMatchObject({ name: 'PublishError', code });
    expect(await stored()).toEqual(before);
  });

  it('publish: data with a circular reference is INVALID_DATA', async () => {
    const data: Record<string, unknown> = {};
    data.self = { data };
    expect(await errorOf(app.webhooks.publish('invoice.overdue', data))).toMatchObject({ code: 'INVALID_DATA' });
  });

  it.each(['{"toString":1}', '{"constructor":null}', '[]', 'null', '1e99'])(
    'is an error with a code if JSON has %s in place of a text',
    async (json) => {
      const value = JSON.parse(json) as never;
      const { id } = await app.listeners.create({ events: ['order.*'], url: url() });
      const { listeners, deliveries } = app;
      const calls: (() => Promise<unknown>)[] = [
        () => listeners.get(value),
        () => listeners.update(value, { description: 'x' }),
        () => listeners.remove(value),
        () => listeners.enable(value),
        () => listeners.disable(value),
        () => listeners.rotateSecret(value),
        () => listeners.rotateSecret(id, { secret: value ?? 1 }),
        () => listeners.keySet(value),
        () => listeners.sendTest(value),
        () => listeners.sendTest(id, { type: value }),
        () => listeners.list({ cursor: value }),
        () => listeners.list({ limit: value ?? 0 }),
        () => listeners.list({ state: value }),
        () => listeners.create({ url: url(), entity: value }),
        () => deliveries.get(value),
        () => deliveries.resend(value),
        () => deliveries.list({ cursor: value }),
        () => deliveries.list({ state: value }),
        () => deliveries.list({ since: value }),
        () => deliveries.replay({ listenerId: value, since: new Date(0) }),
        () => deliveries.replay({ listenerId: id, since: value }),
        () => deliveries.recover({ since: new Date(0), state: value }),
        () => app.webhooks.publish(value, {}),
      ];
      for (const call of calls) expect(await errorOf(call()), String(call)).toBeInstanceOf(WebhooksError);
      // These patterns match no type.
      for (const key of ['listenerId', 'eventId', 'type', 'owner']) {
        expect((await deliveries.list({ [key]: value })).items).toEqual([]);
      }
    },
  );

  it.each(['constructor', '__proto__', 'toString', 'hasOwnProperty', 'prototype'])(
    'is an error with a code if a key of JSON is %s, at any depth',
    async (key) => {
      const { id } = await app.listeners.create({ events: ['order.*'], url: url() });
      for (const inner of ['null', '{}', '"x"', '1']) {
        const named = (rest = '') => JSON.parse(`{${rest}"${key}":${inner}}`) as never;
        const parts: Record<string, unknown>[] = [
          named(),
          { where: named() },
          { where: { status: named() } },
          { auth: named() },
          { auth: named('"type":"bearer","token":"abc",') },
          { tls: named() },
          { rateLimit: named('"limit":1,"perSeconds":1,') },
        ];
        for (const part of parts) {
          const described = JSON.stringify(part);
          await expect(errorOf(app.listeners.update(id, part)), described).resolves.toBeInstanceOf(BadRequestError);
          const whole = { events: ['order.*'], url: url(), ...part };
          const created = app.listeners.create(whole as CreateListenerInput);
          await expect(errorOf(created), described).resolves.toBeInstanceOf(BadRequestError);
        }
      }
    },
  );

  it('every message is a sentence that names what is wrong', async () => {
    const error = await errorOf(app.listeners.create({ events: ['order.*'], where: { statsu: 'x' }, url: url() }));
    expect(error.message).toContain('statsu');
    const filter = await errorOf(
      app.listeners.create({ events: ['order.*'], where: { status: { like: 'x' } as never }, url: url() }),
    );
    expect(filter.message).toMatch(/like.*status.*equals, in, ne/);
    expect(filter.details).toMatchObject({ path: 'status', operator: 'like' });
    const unknown = await errorOf(app.listeners.create({ events: ['order.paid'], url: url() }));
    expect(unknown.message).toContain("'order.paid'");
  });

  it('unusual but valid texts are stored unchanged', async () => {
    const odd = 'ä\u0301😀\u2028\t"\\\'%_';
    const created = await app.listeners.create({
      ...{ events: ['order.*'], url: url(), description: odd },
      where: { status: odd, total: { in: [1, 2] } },
      headers: { 'X-Team': '"a" \\ b' },
    });
    expect(await app.listeners.get(created.id)).toMatchObject({
      description: odd,
      where: { status: odd, total: { in: [1, 2] } },
      headers: { 'x-team': '"a" \\ b' },
    });
    await app.dataSource.manager.save(Order, { status: odd, total: 2 });
    await app.dispatcher.drain();
    expect(app.receiver.requests.map(({ headers }) => headers['x-team'])).toEqual(['"a" \\ b']);
  });
});
