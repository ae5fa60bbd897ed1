import { createHmac } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { Inject, Injectable, Module, type Type } from '@nestjs/common';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import {
  WebhookTransport,
  Webhook,
  WebhooksModule,
  type Outcome,
  type SignedRequest,
  type WebhooksParts,
} from 'nestjs-entity-webhooks';
import { TestReceiver } from 'nestjs-entity-webhooks/testing';
import { afterEach, describe, expect, it } from 'vitest';

import { databases } from '../support/databases.js';
import { codeBlock } from '../support/scratch-project.js';
import { startApp, type TestApp, type TestAppOptions } from '../support/webhooks-app.js';
import { ARCHIVE_FOLDER, FolderArchive } from './examples/folder-archive.js';
import { ChatFormat } from './examples/chat-format.js';
import { GatewayHeader } from './examples/gateway-header.js';
import { HourlySchedule } from './examples/hourly-schedule.js';
import { HubScheme } from './examples/hub-scheme.js';
import { RELAY_URL, RelayTransport } from './examples/relay-transport.js';

@Webhook()
@Entity()
class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar' })
  status: string;
}

const MINUTE = 60_000;
const DAY = 86_400_000;
const closing: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

async function start(options: Pick<TestAppOptions, 'webhooks' | 'providers'>): Promise<TestApp> {
  const database = await (databases[0] as (typeof databases)[number]).create();
  closing.push(database.drop);
  const app = await startApp({ database: database.options, entities: [Parcel], ...options });
  closing.push(app.close);
  return app;
}

async function change(app: TestApp): Promise<void> {
  await app.dataSource.getRepository(Parcel).save({ status: 'packed' });
  await app.dispatcher.drain();
}

describe('docs/replaceable-parts.md', () => {
  const examples = join(import.meta.dirname, 'examples');

  it('shows the examples that run here, character by character', async () => {
    const files = await readdir(examples);
    expect(files).toHaveLength(6);
    for (const file of files) {
      expect(await codeBlock('docs/replaceable-parts.md', file), file).toBe(
        await readFile(join(examples, file), 'utf8'),
      );
    }
  });
});

describe('a payload format of the application', () => {
  it('renders the body of its listeners, which is signed, and does not affect other listeners', async () => {
    const app = await start({ webhooks: { parts: { payloadFormats: [ChatFormat] } } });
    const { secret } = await app.listeners.create({ entity: Parcel, url: `${app.receiver.url}/chat`, format: 'chat' });
    await app.listeners.create({ entity: Parcel, url: app.receiver.url });
    await change(app);

    const chat = app.receiver.requests.find(({ url }) => url.endsWith('/chat'));
    const standard = app.receiver.requests.find(({ url }) => !url.endsWith('/chat'));
    expect(chat?.rawBody.toString()).toBe('{"text":"parcel.created: no. 1 is packed"}');
    expect(standard?.json).toMatchObject({ type: 'parcel.created', data: { id: 1, status: 'packed' } });
    // The signature is valid. The receiver refuses a body without "type".
    expect(() => chat && app.receiver.verify(chat, secret)).toThrow(
      expect.objectContaining({ code: 'INVALID_PAYLOAD' }),
    );
  });

  it('sends the same bytes in a retry, even if the format would now render other bytes', async () => {
    const app = await start({ webhooks: { parts: { payloadFormats: [ChatFormat] } } });
    await app.listeners.create({ events: ['parcel.created'], url: app.receiver.url, format: 'chat' });
    app.receiver.failTimes(1);
    await change(app);
    await app.dataSource.getRepository(Parcel).update(1, { status: 'lost' });
    app.clock.advance(MINUTE);
    await app.dispatcher.drain();
    expect(app.receiver.requests.map(({ rawBody }) => rawBody.toString())).toEqual([
      '{"text":"parcel.created: no. 1 is packed"}',
      '{"text":"parcel.created: no. 1 is packed"}',
    ]);
  });

  it('is refused by its name if it is not registered', async () => {
    const app = await start({});
    await expect(app.listeners.create({ entity: Parcel, url: app.receiver.url, format: 'chat' })).rejects.toMatchObject(
      {
        code: 'UNKNOWN_FORMAT',
      },
    );
  });
});

describe('a signature scheme of the application', () => {
  it('signs in addition to the standard scheme if a listener names both', async () => {
    const app = await start({ webhooks: { parts: { signatureSchemes: [HubScheme] } } });
    const schemes = ['standard', 'hub-sha256'];
    const { secret } = await app.listeners.create({ entity: Parcel, url: app.receiver.url, schemes });
    await change(app);

    const [request] = await app.receiver.waitFor(1);
    if (!request) throw new Error('nothing arrived');
    const hmac = createHmac('sha256', secret).update(request.rawBody).digest('hex');
    expect(request.headers['x-hub-signature-256']).toBe(`sha256=${hmac}`);
    expect(app.receiver.verify(request, secret).type).toBe('parcel.created');
    expect(app.receiver.verify(request, secret, { scheme: new HubScheme() }).type).toBe('parcel.created');
    const tampered = { ...request, rawBody: Buffer.from(request.rawBody.toString().replace('packed', 'stolen')) };
    expect(() => app.receiver.verify(tampered, secret, { scheme: new HubScheme() })).toThrow(
      expect.objectContaining({ code: 'SIGNATURE_MISMATCH' }),
    );
  });

  it('alone sends no standard signature', async () => {
    const app = await start({ webhooks: { parts: { signatureSchemes: [HubScheme] } } });
    await app.listeners.create({ entity: Parcel, url: app.receiver.url, schemes: ['hub-sha256'] });
    await change(app);
    expect(app.receiver.requests[0]?.headers).not.toHaveProperty('webhook-signature');
    expect(app.receiver.requests[0]?.headers).toHaveProperty('x-hub-signature-256');
  });
});

describe('a retry schedule of the application', () => {
  it('decides when the next attempt is due, and when there is none', async () => {
    const app = await start({ webhooks: { parts: { retrySchedule: HourlySchedule } } });
    const { id } = await app.listeners.create({ entity: Parcel, url: app.receiver.url });
    app.receiver.respond({ status: 500 });
    await change(app);

    const waits: number[] = [];
    for (;;) {
      const { items } = await app.deliveries.list({ listenerId: id });
      const next = items[0]?.nextAttemptAt;
      if (!next) break;
      waits.push((next.getTime() - app.clock.now()) / MINUTE);
      app.clock.set(next);
      await app.dispatcher.drain();
    }
    // failures 1, then 2 to 24
    expect(waits).toEqual([1, ...Array.from({ length: 23 }, () => 60)]);
    expect((await app.deliveries.list({ listenerId: id })).items).toMatchObject([
      { state: 'exhausted', attemptCount: 25 },
    ]);
  });
});

describe('a transport of the application', () => {
  it('replaces the built-in transport, and may inject providers', async () => {
    const relay = await new TestReceiver().start();
    closing.push(() => relay.stop());
    relay.respond([{ status: 503 }, { status: 302, headers: { location: 'http://127.0.0.1:1/' } }]);
    const app = await start({ webhooks: { parts: { transport: RelayTransport, imports: [relayModule(relay.url)] } } });
    const { secret } = await app.listeners.create({ entity: Parcel, url: 'http://127.0.0.1:1/theirs' });
    await change(app);
    for (let retry = 1; retry < 3; retry++) {
      app.clock.advance(10 * MINUTE);
      await app.dispatcher.drain();
    }

    expect(relay.requests).toHaveLength(3);
    for (const request of relay.requests) {
      expect(request.headers['x-relay-to']).toBe('http://127.0.0.1:1/theirs');
      expect(relay.verify(request, secret)).toMatchObject({ type: 'parcel.created', data: { id: 1 } });
    }
    const { items } = await app.deliveries.list();
    const { attempts } = await app.deliveries.get(items[0]?.id ?? '');
    expect(attempts).toMatchObject([
      { outcome: 'rejected', status: 503, errorCode: 'HTTP_STATUS' },
      { outcome: 'rejected', status: 302, errorCode: 'HTTP_STATUS' },
      { outcome: 'accepted', status: 204, errorCode: null },
    ]);
  });

  it('that gets no answer returns an outcome, and the delivery is retried', async () => {
    const parts = { transport: RelayTransport, imports: [relayModule('http://127.0.0.1:1/')] };
    const app = await start({ webhooks: { parts } });
    await app.listeners.create({ entity: Parcel, url: app.receiver.url });
    await change(app);
    const { items } = await app.deliveries.list();
    expect(items).toMatchObject([
      { state: 'due', attemptCount: 1, lastStatus: null, lastErrorCode: 'CONNECTION_FAILED' },
    ]);
    expect(app.receiver.requests).toEqual([]);
  });
});

const SENT = Symbol('sent');

@Module({
  providers: [ChatFormat, HubScheme, HourlySchedule, { provide: SENT, useFactory: (): SignedRequest[] => [] }],
  exports: [ChatFormat, HubScheme, HourlySchedule, SENT],
})
class PartsModule {}

class RecordingTransport extends WebhookTransport {
  constructor(private readonly requests: SignedRequest[]) {
    super();
  }

  async send(request: SignedRequest): Promise<Outcome> {
    this.requests.push(request);
    return {
      kind: 'rejected',
      status: 500,
      errorCode: 'HTTP_STATUS',
      errorDetail: null,
      durationMs: 1,
      response: null,
      retryAfterMs: null,
    };
  }
}

@Injectable()
class InjectedTransport extends RecordingTransport {
  constructor(@Inject(SENT) sent: SignedRequest[]) {
    super(sent);
  }
}

@Module({ imports: [PartsModule], providers: [InjectedTransport], exports: [InjectedTransport, PartsModule] })
class TransportModule {}

const ways: [way: string, parts: WebhooksParts][] = [
  [
    'classes',
    {
      transport: InjectedTransport,
      retrySchedule: HourlySchedule,
      payloadFormats: [ChatFormat],
      signatureSchemes: [HubScheme],
    },
  ],
  [
    'useClass',
    {
      transport: { useClass: InjectedTransport },
      retrySchedule: { useClass: HourlySchedule },
      payloadFormats: [{ useClass: ChatFormat }],
      signatureSchemes: [{ useClass: HubScheme }],
    },
  ],
  [
    'useFactory',
    {
      transport: { useFactory: (sent: SignedRequest[]) => new RecordingTransport(sent), inject: [SENT] },
      retrySchedule: { useFactory: async () => new HourlySchedule() },
      payloadFormats: [{ useFactory: () => new ChatFormat() }],
      signatureSchemes: [{ useFactory: (scheme: HubScheme) => scheme, inject: [HubScheme] }],
    },
  ],
  [
    'useExisting',
    {
      transport: { useExisting: InjectedTransport },
      retrySchedule: { useExisting: HourlySchedule },
      payloadFormats: [{ useExisting: ChatFormat }],
      signatureSchemes: [{ useExisting: HubScheme }],
    },
  ],
  [
    'useValue',
    {
      transport: { useFactory: (sent: SignedRequest[]) => new RecordingTransport(sent), inject: [SENT] },
      retrySchedule: { useValue: new HourlySchedule() },
      payloadFormats: [{ useValue: new ChatFormat() }],
      signatureSchemes: [{ useValue: new HubScheme() }],
    },
  ],
];

describe('the parts of an application', () => {
  it.each(ways)('are all used if they are given as %s', async (_, parts) => {
    const app = await start({ webhooks: { parts: { ...parts, imports: [TransportModule] } } });
    const { id } = await app.listeners.create({
      entity: Parcel,
      url: app.receiver.url,
      format: 'chat',
      schemes: ['hub-sha256'],
    });
    await change(app);
    const sent = app.app.get<SignedRequest[]>(SENT, { strict: false });
    expect(sent.map(({ body }) => body.toString())).toEqual(['{"text":"parcel.created: no. 1 is packed"}']);
    expect(Object.keys(sent[0]?.headers ?? {})).toContain('x-hub-signature-256');
    expect(app.receiver.requests).toEqual([]);
    const { items } = await app.deliveries.list({ listenerId: id });
    expect(items).toMatchObject([{ state: 'due', attemptCount: 1, nextAttemptAt: new Date(app.clock.now() + MINUTE) }]);
  });

  it.each([
    ['transport', { transport: { class: RelayTransport } }],
    ['retrySchedule', { retrySchedule: new HourlySchedule() }],
    ['archive', { archive: new FolderArchive('archive') }],
    ['payloadFormats', { payloadFormats: [null] }],
    ['signatureSchemes', { signatureSchemes: [new HubScheme()] }],
  ])('stop the bootstrap if %s is neither a class nor a provider', (key, parts) => {
    expect(() => WebhooksModule.forRoot({ parts: parts as never })).toThrow(
      expect.objectContaining({
        code: 'INVALID_PART',
        message: expect.stringContaining(`for \`parts.${key}\`. Allowed: `) as string,
      }),
    );
  });
});

describe('an interceptor on the HttpService of the module', () => {
  it('adds a header to every webhook', async () => {
    const app = await start({ providers: [GatewayHeader] });
    const { secret } = await app.listeners.create({ entity: Parcel, url: app.receiver.url });
    await change(app);
    const [request] = await app.receiver.waitFor(1);
    expect(request?.headers['x-gateway-key']).toBe('k-123');
    if (request) expect(app.receiver.verify(request, secret).type).toBe('parcel.created');
  });
});

function relayModule(url: string): Type {
  @Module({ providers: [{ provide: RELAY_URL, useValue: url }], exports: [RELAY_URL] })
  class RelayModule {}
  return RelayModule;
}

describe('an archive of the application', () => {
  it('writes the file of a day, compressed, and leaves no incomplete file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'webhooks-archive-'));
    closing.push(() => rm(folder, { recursive: true }));
    @Module({ providers: [{ provide: ARCHIVE_FOLDER, useValue: folder }], exports: [ARCHIVE_FOLDER] })
    class FolderModule {}
    const app = await start({
      webhooks: {
        retention: { succeededMs: DAY, failedMs: DAY },
        parts: { archive: FolderArchive, imports: [FolderModule] },
      },
    });
    await change(app);
    const day = new Date(app.clock.now()).toISOString().slice(0, 10);
    app.clock.advance(3 * DAY);
    expect(await app.dispatcher.runChores()).toMatchObject({ events: 1 });
    expect(await readdir(folder)).toEqual([`${day}.ndjson.gz`]);
    const text = gunzipSync(await readFile(join(folder, `${day}.ndjson.gz`))).toString();
    expect(text).toContain('"type":"parcel.created"');
  });
});
