// Misspelt on purpose. cspell:ignore transprt
import { expect, it, describe } from 'vitest';
import { Module, type DynamicModule } from '@nestjs/common';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ConfigurationError, ListenerService, WebhooksModule, type WebhooksOptions } from 'nestjs-entity-webhooks';

/** Starts an application. @returns the error that stopped it; `null` if it started */
async function refusal(webhooks: DynamicModule | (() => DynamicModule)): Promise<ConfigurationError | null> {
  try {
    @Module({
      imports: [
        TypeOrmModule.forRoot({ type: 'better-sqlite3', database: ':memory:', synchronize: true, retryAttempts: 0 }),
        EventEmitterModule.forRoot(),
        typeof webhooks === 'function' ? webhooks() : webhooks,
      ],
    })
    class AppModule {}
    const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
    const app = module.createNestApplication({ logger: false });
    try {
      await app.init();
    } finally {
      await app.close();
    }
    return null;
  } catch (error) {
    if (error instanceof ConfigurationError) return error;
    throw error;
  }
}

/** 32 bytes that no message may contain. */
const KEY = Buffer.alloc(32, 'k').toString('base64');

/** An error about an unknown option does not show its value. */
const UNKNOWN = 'Unknown option';

const wrong: [key: string, value: string, options: unknown][] = [
  ['dispatch', `'now'`, { dispatch: 'now' }],
  ['tablePrefix', `'my hooks'`, { tablePrefix: 'my hooks' }],
  ['tableSchema', `'a.b'`, { tableSchema: 'a.b' }],
  ['tableSchema', 'has no schemas', { tableSchema: 'hooks' }],
  ['publishedTypes', `'order.paid'`, { publishedTypes: ['order.paid', 'order.paid'] }],
  ['publishedTypes', `'order.paid'`, { publishedTypes: 'order.paid' }],
  ['publishedTypes', 'null', { publishedTypes: ['order.paid', null] }],
  ['publishedTypes', '"id"', { publishedTypes: [{ type: 'order.paid', fields: 'id' }] }],
  ['security.lookup', '4', { security: { lookup: 4 } }],
  ['currentManager', '4', { currentManager: 4 }],
  ['dispatcher', 'null', { dispatcher: null }],
  ['dispatcher.autoStart', `'no'`, { dispatcher: { autoStart: 'no' } }],
  ['dispatcher.concurrency', '0', { dispatcher: { concurrency: 0 } }],
  ['dispatcher.concurrencyPerListener', '1.5', { dispatcher: { concurrencyPerListener: 1.5 } }],
  ['dispatcher.eventsPerBatch', '5000', { dispatcher: { eventsPerBatch: 5_000 } }],
  ['dispatcher.timeoutMs', '-1', { dispatcher: { timeoutMs: -1 } }],
  ['dispatcher.leaseMs', '15000', { dispatcher: { leaseMs: 15_000 } }],
  ['dispatcher.pollIntervalMs', '1', { dispatcher: { pollIntervalMs: 1 } }],
  ['dispatcher.maxAgeMs', '1000', { dispatcher: { maxAgeMs: 1_000 } }],
  ['retention', 'true', { retention: true }],
  ['retention.failedMs', '0', { retention: { failedMs: 0 } }],
  ['retention.succeededMs', `'30d'`, { retention: { succeededMs: '30d' } }],
  ['retention.days', UNKNOWN, { retention: { days: 30 } }],
  ['dispatcher.poolSize', `'4'`, { dispatcher: { poolSize: '4' } }],
  ['dispatcher.retryAfterCapMs', '-5', { dispatcher: { retryAfterCapMs: -5 } }],
  ['dispatcher.circuit.failures', '0', { dispatcher: { circuit: { failures: 0 } } }],
  ['dispatcher.circuit.maxCooldownMs', '10', { dispatcher: { circuit: { cooldownMs: 20, maxCooldownMs: 10 } } }],
  ['dispatcher.circuit.cooldown', UNKNOWN, { dispatcher: { circuit: { cooldown: 5 } } }],
  ['dispatcher.timeout', UNKNOWN, { dispatcher: { timeout: 5 } }],
  ['payload.maxPayloadBytes', '10', { payload: { maxPayloadBytes: 10 } }],
  ['payload.maxStoredBytes', '2048', { payload: { maxStoredBytes: 2_048 } }],
  ['secrets.rotationOverlapMs', '-1', { secrets: { rotationOverlapMs: -1 } }],
  ['secrets.keys', `'…'`, { secrets: { keys: { id: 'a', key: KEY } } }],
  ['secrets.keys[0]', `'…'`, { secrets: { keys: [KEY] } }],
  ['secrets.keys[0]', `'…'`, { secrets: { keys: [{ id: 'a b', key: KEY }] } }],
  ['secrets.keys[0]', `'…'`, { secrets: { keys: [{ id: 'a', key: KEY, bytes: KEY }] } }],
  ['secrets.keys[0].key', `'…'`, { secrets: { keys: [{ id: 'a', key: `${KEY}A` }] } }],
  ['secrets.keys[0].key', `'…'`, { secrets: { keys: [{ id: 'a', key: Buffer.from(KEY) }] } }],
  ['secrets.keys[0].key', 'undefined', { secrets: { keys: [{ id: 'a' }] } }],
  [
    'secrets.keys[1].id',
    `'a'`,
    {
      secrets: {
        keys: [
          { id: 'a', key: KEY },
          { id: 'a', key: KEY },
        ],
      },
    },
  ],
  ['secrets.key', UNKNOWN, { secrets: { key: KEY } }],
  ['secrets', `'…'`, { secrets: KEY }],
  ['secret', UNKNOWN, { secret: { keys: [{ id: 'a', key: KEY }] } }],
  // A URL may contain a password.
  ['security.proxy', `'…'`, { security: { proxy: 'http://me:pw@proxy:3128' } }],
  ['security.proxy.uri', UNKNOWN, { security: { proxy: { uri: 'http://me:pw@proxy:3128' } } }],
  ['security.proxy.url', `'…'`, { security: { proxy: { url: new URL('http://me:pw@proxy:3128') } } }],
  [
    'security.proxy.resolvesNames',
    `'yes'`,
    { security: { proxy: { url: 'http://proxy:3128', resolvesNames: 'yes' } } },
  ],
  ['security.proxy.ca', `'…'`, { security: { proxy: { url: 'https://proxy:3129', ca: 'no PEM' } } }],
  ['security.proxy.ca', '7', { security: { proxy: { url: 'https://proxy:3129', ca: 7 } } }],
  ['wakeUp', `'…'`, { wakeUp: 'postgres://me:pw@db/app' }],
  ['wakeUp.url', `'…'`, { wakeUp: { url: new URL('postgres://me:pw@db/app') } }],
  ['proxy', UNKNOWN, { proxy: 'http://me:pw@proxy:3128' }],
  ['payload.cloudEventsSource', `'two words'`, { payload: { cloudEventsSource: 'two words' } }],
  ['payload.schemaBaseUrl', `'shop.example.com'`, { payload: { schemaBaseUrl: 'shop.example.com' } }],
  ['payload.schemaBaseUrl', `'https://x/?a=1'`, { payload: { schemaBaseUrl: 'https://x/?a=1' } }],
  ['security.allowHttp', `'yes'`, { security: { allowHttp: 'yes' } }],
  ['security.allowedAddresses', `'localhost'`, { security: { allowedAddresses: ['localhost'] } }],
  ['sqlite.isolate', '1', { sqlite: { isolate: 1 } }],
  ['sqlite.lockTimeoutMs', '0', { sqlite: { lockTimeoutMs: 0 } }],
  ['wakeUp', 'true', { wakeUp: true }],
  ['wakeUp.url', `'…'`, { wakeUp: { url: 'mysql://root:secret@db/shop' } }],
  ['wakeUp.redis', `'…'`, { wakeUp: { redis: 'redis://me:pw@cache' } }],
  ['wakeUp.url', `'…'`, { wakeUp: { redis: () => undefined, url: 'postgres://me:pw@db/app' } }],
  ['retries', UNKNOWN, { retries: 3 }],
  ['parts.transprt', UNKNOWN, { parts: { transprt: class {} } }],
  ['parts.payloadFormats', '7', { parts: { payloadFormats: 7 } }],
  ['dataSource', `' '`, { dataSource: ' ' }],
];

describe('an invalid option', () => {
  it.each(['webhooks.order', 'webhooks.delivery.failed'])(
    'is the published type %s, which is reserved for lifecycle events',
    async (type) => {
      for (const entry of [type, { type, fields: ['id'] }]) {
        const error = await refusal(WebhooksModule.forRoot({ publishedTypes: [entry] }));
        expect(error).toMatchObject({ code: 'RESERVED_EVENT_TYPE', message: expect.stringContaining(type) as string });
      }
    },
  );

  it('is not a published type that only resembles a lifecycle event', async () => {
    expect(
      await refusal(WebhooksModule.forRoot({ publishedTypes: ['webhooks', 'webhooks_x.a', 'my.webhooks.a'] })),
    ).toBeNull();
  });

  it('with a former name gets an error with the current name', async () => {
    const error = await refusal(WebhooksModule.forRoot({ lookup: () => undefined } as WebhooksOptions));
    expect(error?.message).toContain('Unknown option `lookup` of WebhooksModule. Use `security.lookup`.');
  });

  it.each(wrong)('stops the bootstrap: %s is %s', async (key, value, options) => {
    const error = await refusal(() => WebhooksModule.forRoot(options as WebhooksOptions));
    expect(error).toMatchObject({ code: 'INVALID_OPTION' });
    expect(error?.message).toContain(key);
    expect(error?.message).toContain(value);
    expect(error?.message).not.toContain(KEY.slice(0, 8));
    expect(error?.message).not.toContain('me:pw');
    // After key and value the message says what is allowed.
    expect(error?.message).toMatch(/(: |Known: ).{5,}\.$/);
  });

  it('from a factory stops the bootstrap, too', async () => {
    const options = { dispatcher: { concurrency: 0 } };
    const error = await refusal(WebhooksModule.forRootAsync({ useFactory: async () => options }));
    expect(error?.message).toContain(
      'Invalid value 0 for `dispatcher.concurrency` of WebhooksModule. Allowed: a whole number from 1 to 10,000. Remove the option to use the default: 64.',
    );
  });

  it.each([undefined, null, 'hooks_'])('is a factory that returns %j', async (options) => {
    const error = await refusal(WebhooksModule.forRootAsync({ useFactory: () => options as never }));
    expect(error).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining('useFactory') as string });
  });

  it.each(['dataSource', 'parts'])('is `%s` in the result of a factory, which is called too late', async (key) => {
    const error = await refusal(WebhooksModule.forRootAsync({ useFactory: () => ({ [key]: 'billing' }) }));
    expect(error?.message).toMatch(
      new RegExp(`^Unknown option \`${key}\` of WebhooksModule. Set this option beside \`useFactory\``),
    );
  });

  it('is not one that is undefined: the default is used', async () => {
    expect(await refusal(WebhooksModule.forRoot({ dispatcher: { concurrency: undefined as never } }))).toBeNull();
  });
});

it('an application without any option starts', async () => {
  expect(await refusal(WebhooksModule.forRoot())).toBeNull();
  expect(await refusal(WebhooksModule.forRootAsync({ useFactory: () => ({}) }))).toBeNull();
});

it('a factory injects what its imports export', async () => {
  @Module({ providers: [{ provide: 'PREFIX', useValue: 'hooks_' }], exports: ['PREFIX'] })
  class ConfigModule {}
  @Module({
    imports: [
      TypeOrmModule.forRoot({ type: 'better-sqlite3', database: ':memory:', synchronize: true }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRootAsync({
        imports: [ConfigModule],
        inject: ['PREFIX'],
        useFactory: (tablePrefix: string) => ({ tablePrefix }),
      }),
    ],
  })
  class AppModule {}
  const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
  const app = await module.createNestApplication({ logger: false }).init();
  expect(await app.get(ListenerService).list()).toEqual({ items: [], next: null });
  await app.close();
});
