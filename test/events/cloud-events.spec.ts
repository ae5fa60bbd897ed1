import { HTTP, type CloudEvent } from 'cloudevents';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebhooksModule } from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { resolveOptions } from '../../libs/webhooks/src/options/resolve-options.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const TYPE = 'note.sent';
const SOURCE = 'https://shop.example.com/caf%C3%A9';

describe('CloudEvents', () => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp({
      database: { type: 'better-sqlite3', database: ':memory:' },
      entities: [],
      webhooks: { publishedTypes: [TYPE], payload: { cloudEventsSource: SOURCE } },
    });
  });
  afterEach(async () => {
    const { items } = await app.listeners.list();
    for (const { id } of items) await app.listeners.remove(id);
    app.receiver.clear();
  });
  afterAll(() => app.close());

  const send = async (format: string) => {
    const { secret } = await app.listeners.create({
      ...{ url: app.receiver.url, events: [TYPE], format },
      headers: { 'ce-type': 'forged.type', 'ce-extra': 'mine' },
    });
    app.receiver.respond([{ status: 500 }, { status: 204 }]);
    const event = await app.webhooks.publish(TYPE, { text: 'é 🦜', big: '12345678901234567890', ratio: 1e21 });
    await app.dispatcher.drain();
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    const [first, retry] = app.receiver.requests as [ReceivedRequest, ReceivedRequest];
    app.receiver.verify(retry, secret);
    expect(retry.rawBody.equals(first.rawBody)).toBe(true);
    return { event, first, retry };
  };
  const read = ({ headers, rawBody }: ReceivedRequest) => {
    const message = { headers: headers as Record<string, string>, body: rawBody.toString() };
    expect(HTTP.isEvent(message)).toBe(true);
    const event = HTTP.toEvent(message) as CloudEvent<Record<string, unknown>>;
    // Strict: throws if the event does not follow the specification.
    event.validate();
    return event;
  };

  it('in structured mode can be read by the cloudevents package, and are signed as a whole', async () => {
    const { event, first, retry } = await send('cloudevents');
    expect(first.headers['content-type']).toBe('application/cloudevents+json; charset=utf-8');
    for (const request of [first, retry]) {
      expect(read(request)).toMatchObject({
        ...{ specversion: '1.0', id: event.id, source: SOURCE, type: TYPE, datacontenttype: 'application/json' },
        time: event.timestamp,
        data: { type: TYPE, timestamp: event.timestamp, data: event.data },
      });
    }
    // The stored text, not parsed and written again.
    expect(first.rawBody.toString()).toContain('"data":{"text":"é 🦜","big":"12345678901234567890","ratio":1e+21}');
  });

  it('in binary mode have attributes in headers, which no listener can override, and the payload as body', async () => {
    const { event, first, retry } = await send('cloudevents-binary');
    for (const request of [first, retry]) {
      expect(request.headers).toMatchObject({
        'ce-type': TYPE,
        'ce-extra': 'mine',
        'content-type': 'application/json',
      });
      expect(read(request)).toMatchObject({
        ...{ specversion: '1.0', id: event.id, source: SOURCE, type: TYPE, time: event.timestamp },
        data: { type: TYPE, timestamp: event.timestamp, data: event.data },
      });
      expect(request.json).toEqual({ type: TYPE, timestamp: event.timestamp, data: event.data });
    }
    // The body is not stored twice.
    const rows = await app.dataSource.query<{ body: string | null }[]>(
      'SELECT body FROM webhook_deliveries ORDER BY seq DESC LIMIT 1',
    );
    expect(rows[0]?.body).toBeNull();
  });

  it.each(['cloudevents', 'cloudevents-binary'])(
    'in %s have no `dataschema` without `schemaBaseUrl`',
    async (format) => {
      expect(read((await send(format)).first).dataschema).toBeUndefined();
    },
  );

  it.each(['', 'two words', 'é', 'a\r\nb: c', '%zz', 42])('do not start with the source %j', (cloudEventsSource) => {
    const options = { payload: { cloudEventsSource } } as never;
    expect(() => resolveOptions(options)).toThrow(/payload\.cloudEventsSource/);
    expect(WebhooksModule.forRoot(options)).toBeDefined(); // it is the bootstrap that stops
  });
});

describe('CloudEvents with `schemaBaseUrl`', () => {
  const SCHEMAS = 'https://shop.example.com/webhooks/v1/event-types/schemas';
  let app: TestApp;

  beforeAll(async () => {
    const versioned = { type: 'book.sold', version: 2, versions: { 1: (data: object) => data } };
    app = await startApp({
      database: { type: 'better-sqlite3', database: ':memory:' },
      entities: [],
      webhooks: { publishedTypes: [versioned as never], payload: { schemaBaseUrl: `${SCHEMAS}/` } },
    });
  });
  afterAll(() => app.close());

  it.each([
    ['cloudevents', 2],
    ['cloudevents', 1],
    ['cloudevents-binary', 2],
    ['cloudevents-binary', 1],
  ])('name in %s the schema of version %i, which is sent', async (format, version) => {
    app.receiver.clear();
    const versions = { 'book.sold': version };
    const { id } = await app.listeners.create({ url: app.receiver.url, events: ['book.sold'], format, versions });
    await app.webhooks.publish('book.sold', { title: 'Emma' });
    await app.dispatcher.drain();
    await app.listeners.remove(id);
    const [request] = app.receiver.requests as [ReceivedRequest];
    const message = { headers: request.headers as Record<string, string>, body: request.rawBody.toString() };
    const event = HTTP.toEvent(message) as CloudEvent<Record<string, unknown>>;
    event.validate();
    expect(event.dataschema).toBe(`${SCHEMAS}/book.sold.${version}.json`);
    expect(event.data?.['version'] ?? 1).toBe(version);
  });
});
