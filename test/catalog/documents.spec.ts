import { Parser } from '@asyncapi/parser';
import { Controller, Get } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { webhookCatalog, type WebhookCatalog } from 'nestjs-entity-webhooks/catalog';

import { databases, type FreshDatabase } from '../support/databases.js';
import { PayloadSchemas } from '../support/payload-schemas.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { Audit, closedDataSource, ENTITIES, Order, PUBLISHED_TYPES, shopCatalog } from './shop.js';

const TYPES = [
  'audit.created',
  'invoice.overdue',
  'invoice.paid',
  'order.created',
  'order.deleted',
  'order.restored',
  'order.updated',
  'ping',
  'stock.low',
];
const PUBLIC_TYPES = TYPES.filter((type) => !['audit.created', 'stock.low'].includes(type));

describe('the catalogue of a data source whose connection is not open', () => {
  let catalog: WebhookCatalog;
  beforeAll(async () => {
    catalog = await shopCatalog();
  });

  const typeOf = (type: string) => {
    const found = catalog.types.find((one) => one.type === type);
    if (!found) throw new Error(`no type ${type}`);
    return found;
  };

  it('has every type, sorted, with its descriptions', () => {
    expect(catalog.types.map(({ type }) => type)).toEqual(TYPES);
    expect(typeOf('order.updated')).toMatchObject({
      title: 'Order updated',
      group: 'Sales',
      description: 'Any change of status or total.',
      deprecated: null,
      visibility: 'public',
    });
    expect(typeOf('order.restored')).toMatchObject({
      title: 'Order restored',
      description: 'An order of one customer.',
      deprecated: { since: '2026-10-01', sunset: '2027-04-01', use: 'order.created' },
    });
    expect(typeOf('stock.low')).toMatchObject({ title: 'Stock low', visibility: 'internal', group: null });
  });

  it('has the types of `operationalEvents`, of which customers see those about their listeners', async () => {
    const { types } = await webhookCatalog(closedDataSource([]), { operationalEvents: true });
    expect(types.map(({ type, visibility }) => `${visibility} ${type}`)).toEqual([
      'public webhooks.delivery.exhausted',
      'internal webhooks.lag.high',
      'internal webhooks.lag.normal',
      'public webhooks.listener.disabled',
      'public webhooks.listener.disabling_soon',
      'public webhooks.listener.failing',
      'public webhooks.listener.recovered',
      'internal webhooks.outbox.damaged',
    ]);
    expect(types[0]).toMatchObject({ group: 'Webhooks', title: 'Delivery exhausted', previous: null });
    expect(types[0]?.data).toMatchObject({
      properties: { lastStatus: { type: ['integer', 'null'] } },
      required: ['listener', 'lastStatus', 'lastErrorCode', 'delivery', 'event', 'attempts'],
    });
  });

  it('has the schema of each column, with the descriptions of `describe`, @ApiProperty() and the comment', () => {
    expect(typeOf('order.created').data).toEqual({
      type: 'object',
      description: 'An order of one customer.',
      properties: {
        id: { type: 'integer' },
        status: { type: 'string', enum: ['new', 'paid'], description: 'Where it stands' },
        total: { type: ['string', 'null'], pattern: '^-?\\d+(\\.\\d+)?$', description: 'Gross, in EUR' },
        customerId: { type: 'string' },
        weight: { type: 'number' },
        notes: { type: ['array', 'null'], items: { type: 'string' }, description: 'Remarks */ of the "buyer"' },
        createdAt: { type: 'string', format: 'date-time' },
        shelf: {
          type: ['object', 'null'],
          properties: {
            room: { type: 'string' },
            number: expect.objectContaining({ type: 'string', pattern: '^-?\\d+$' }) as object,
          },
          required: ['room', 'number'],
        },
        address: {
          type: 'object',
          description: 'Where it goes',
          properties: {
            city: { type: 'string' },
            zip: { type: ['string', 'null'], description: 'As the post office writes it' },
          },
          required: ['city', 'zip'],
        },
        labels: { type: 'array', items: { type: 'string', format: 'uuid' } },
      },
      required: expect.arrayContaining(['id', 'shelf', 'labels', 'address']) as string[],
    });
  });

  it('requires all fields, except in `previous` and in the `deleted` of an object that may move to another owner', () => {
    expect(typeOf('order.created').data['required']).toHaveLength(10);
    expect(typeOf('order.updated').previous).not.toHaveProperty('required');
    expect(typeOf('order.updated').previous).not.toHaveProperty('properties.address.required');
    expect(typeOf('order.deleted').data).toMatchObject({
      required: ['id'],
      description: 'An order of one customer. If the object moved to another owner, only its id is sent.',
    });
  });

  it('has examples that fit the schemas, in draft-07 and in 2020-12', () => {
    const schemas = new PayloadSchemas(catalog);
    const examples = catalog.types.flatMap((type) => type.examples) as { type: string; data: object }[];
    expect(examples.length).toBeGreaterThanOrEqual(TYPES.length);
    expect(examples.flatMap((example) => schemas.mistakesOf(example))).toEqual([]);
    expect(typeOf('invoice.paid').examples[0]).toMatchObject({ data: { id: 7, payer: { name: 'Ada' } } });
    expect(typeOf('invoice.overdue').examples[0]).toMatchObject({ data: { invoiceId: 1, dueOn: '2026-01-01' } });
  });

  it('accepts a truncated payload, and refuses a complete one that lacks a field', () => {
    const schemas = new PayloadSchemas(catalog);
    const [example] = typeOf('order.created').examples as unknown as { type: string; data: Record<string, unknown> }[];
    const { total: _, ...data } = example?.data ?? {};
    const lacking = { type: 'order.created', data };
    expect(schemas.mistakesOf(lacking)).not.toEqual([]);
    expect(schemas.mistakesOf({ ...lacking, truncated: true } as typeof lacking)).toEqual([]);
  });

  it.each(['mysql', 'mariadb', 'better-sqlite3'] as const)('is the same on %s', async (driver) => {
    expect((await shopCatalog(driver)).record()).toEqual(catalog.record());
  });

  it('gives each schema an $id below `baseUrl`', () => {
    const schemas = catalog.schemas({ baseUrl: 'https://api.example.com/schemas/' });
    expect(Object.keys(schemas)).toEqual(PUBLIC_TYPES);
    expect(schemas['ping']).toMatchObject({ $id: 'https://api.example.com/schemas/ping.json' });
    expect(catalog.schemas()['ping']).not.toHaveProperty('$id');
  });

  it('makes a valid document of AsyncAPI 3.1', async () => {
    const { document, diagnostics } = await new Parser().parse(catalog.asyncApi({ title: 'Shop', version: '2.0.0' }));
    expect(diagnostics.map(({ message, path }) => [message, path])).toEqual([]);
    expect(document?.version()).toBe('3.1.0');
    const operations = document
      ?.operations()
      .filterBySend()
      .map((operation) => operation.messages().all()[0]?.name());
    expect(operations?.toSorted()).toEqual(PUBLIC_TYPES);
  });

  it('makes a valid document of OpenAPI 3.1', async () => {
    const document = catalog.openApi({ title: 'Shop', version: '2.0.0' });
    expect(await new Validator().validate({ ...structuredClone(document) })).toEqual({ valid: true });
    expect(Object.keys(document.webhooks)).toEqual(PUBLIC_TYPES);
    expect(document.webhooks['order.restored']).toMatchObject({
      post: { deprecated: true, tags: ['Sales'], description: expect.stringContaining('Use order.created.') as string },
    });
  });

  it('has internal types only in documents that ask for all', () => {
    for (const include of ['public', 'all'] as const) {
      const types = include === 'all' ? TYPES : PUBLIC_TYPES;
      expect(Object.keys(catalog.openApi({ include }).webhooks)).toEqual(types);
      expect(Object.keys(catalog.schemas({ include }))).toEqual(types);
      expect(Object.keys(catalog.asyncApi({ include })['operations'] as object)).toHaveLength(types.length);
      expect(catalog.typeScript({ include }).includes('stock.low')).toBe(include === 'all');
    }
  });

  it('names each schema once, also if two types have the same words', async () => {
    const publishedTypes = ['a.b_c', 'a_b.c', '2fa.enabled'];
    const { components } = (await webhookCatalog(closedDataSource([]), { publishedTypes })).openApi();
    expect(Object.keys(components.schemas).filter((name) => name.endsWith('WebhookData') || /\d$/.test(name))).toEqual([
      'Type2faEnabledWebhookData',
      'ABCWebhookData',
      'ABCWebhookData2',
      'ABCWebhook2',
    ]);
  });
});

describe('the catalogue of a running application', () => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let catalog: WebhookCatalog;

  @Controller('orders')
  class OrdersController {
    @Get()
    list(): string {
      return '';
    }
  }

  beforeAll(async () => {
    fresh = await (databases.find(({ name }) => name === 'sqlite') ?? databases[0])!.reuse();
    app = await startApp({
      database: fresh.options,
      entities: [Order, Audit],
      others: ENTITIES.filter((entity) => entity !== Order && entity !== Audit),
      webhooks: { publishedTypes: PUBLISHED_TYPES },
      controllers: [OrdersController],
    });
    catalog = await webhookCatalog(app.app);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  it('equals that of its data source', async () => {
    expect(catalog.types).toEqual((await shopCatalog('better-sqlite3')).types);
  });

  it('is merged into the document of @nestjs/swagger', async () => {
    const { webhooks, components } = catalog.openApi();
    const config = { ...new DocumentBuilder().setTitle('Shop').build(), openapi: '3.1.0', webhooks, components };
    const document = SwaggerModule.createDocument(app.app, config);
    expect(await new Validator().validate({ ...structuredClone(document) })).toEqual({ valid: true });
    expect(Object.keys(document.paths)).toEqual(['/orders']);
    expect(Object.keys(document.webhooks ?? {})).toEqual(PUBLIC_TYPES);
  });

  it('is refused for an instance that does not exist', async () => {
    await expect(webhookCatalog(app.app, 'billing')).rejects.toMatchObject({
      code: 'WEBHOOKS_MODULE_MISSING',
      message: expect.stringContaining("WebhooksModule.forRoot({ dataSource: 'billing' })") as string,
    });
  });

  describe('with an internal type', () => {
    const listen = (events: string[], owner?: string) =>
      app.listeners.create({ events, url: app.receiver.url, ...(owner === undefined ? {} : { owner }) });
    const typesSent = async () => {
      await app.dispatcher.drain();
      const types = app.receiver.requests.map(({ json }) => (json as { type: string }).type);
      app.receiver.clear();
      return types.toSorted();
    };

    it.each(['audit.created', 'audit.*', 'stock.low', 'stock.*'])(
      'a listener with an owner cannot subscribe to %s, as if it did not exist',
      async (pattern) => {
        const error: unknown = await listen([pattern], 'acme').catch((caught: unknown) => caught);
        expect(error).toMatchObject({ code: 'UNKNOWN_EVENT_TYPE' });
        const unknown: unknown = await listen([`${pattern.replace(/^\w+/, 'nothing')}`], 'acme').catch(
          (caught: unknown) => caught,
        );
        const withoutPattern = (caught: unknown) => (caught as Error).message.replace(/^'[^']+'/, '');
        expect(withoutPattern(error)).toBe(withoutPattern(unknown));
        expect((await listen([pattern])).events).toEqual([pattern]);
      },
    );

    it('a listener with an owner cannot name its entity, nor ask for a test of it', async () => {
      await expect(app.listeners.create({ entity: Audit, url: app.receiver.url, owner: 'acme' })).rejects.toMatchObject(
        { code: 'UNKNOWN_ENTITY' },
      );
      const { id } = await listen(['*'], 'acme');
      await expect(app.listeners.forOwner('acme').sendTest(id, { type: 'stock.low' })).rejects.toMatchObject({
        code: 'UNKNOWN_EVENT_TYPE',
      });
    });

    it('its events reach no listener with an owner, whatever owner they declare', async () => {
      for (const { id } of (await app.listeners.list({})).items) await app.listeners.remove(id);
      await listen(['*'], 'acme');
      await app.dataSource.manager.save(Audit, {});
      await app.webhooks.publish('stock.low', { article: 'x' }, { owner: 'acme' });
      expect(await typesSent()).toEqual([]);
      await listen(['*']);
      await app.dataSource.manager.save(Audit, {});
      await app.webhooks.publish('stock.low', { article: 'x' }, { owner: 'acme' });
      await app.webhooks.publish('ping', {}, { owner: 'acme' });
      expect(await typesSent()).toEqual(['audit.created', 'ping', 'ping', 'stock.low']);
    });

    it('publish() with one idempotency key makes an event for each owner', async () => {
      const publish = (owner: string) =>
        app.webhooks.publish('stock.low', { article: 'x' }, { owner, idempotencyKey: 'one' });
      const [first, again, other] = [await publish('acme'), await publish('acme'), await publish('globex')];
      expect(again.id).toBe(first.id);
      expect(other.id).not.toBe(first.id);
      expect(other.owner).toBeNull();
    });
  });
});
