import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { describe, expect, it } from 'vitest';
import type { PublishedType } from 'nestjs-entity-webhooks';
import { webhookCatalog, type CatalogRecord } from 'nestjs-entity-webhooks/catalog';
import { closedDataSource } from '../catalog/shop.js';
import { Shipment, TO_1, TO_2 } from './deploys.js';

const SCHEMA_1 = {
  type: 'object',
  properties: { id: { type: 'integer' }, state: { type: 'string' }, kilograms: { type: 'number' } },
  required: ['id', 'state', 'kilograms'],
};

/** The catalogue of version 3 of a shipment. */
const shipments = () =>
  webhookCatalog(closedDataSource([Shipment]), {
    entities: [
      {
        entity: Shipment,
        version: 3,
        versions: {
          2: TO_2 as never,
          1: { render: TO_1 as never, schema: SCHEMA_1, deprecated: { since: '2026-01-01', sunset: '2026-06-01' } },
        },
      },
    ] as never,
  });

const notes = (note: Omit<PublishedType, 'type'>) =>
  webhookCatalog(closedDataSource([]), { publishedTypes: [{ type: 'note', ...note }] });

const SCHEMA = { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] };
const OTHER = { type: 'object', properties: { body: { type: 'string' } }, required: ['body'] };
const file = (record: CatalogRecord): unknown => JSON.parse(JSON.stringify(record));

describe('the catalogue of a type with several versions', () => {
  it('has a schema for each version, to which the rendered examples fit, and those of other versions do not', async () => {
    const ajv = new Ajv2020({ strict: false });
    addFormats.default(ajv);
    const updated = (await shipments()).types.find(({ type }) => type === 'shipment.updated');
    expect([updated?.version, ...(updated?.older.map(({ version }) => version) ?? [])]).toEqual([3, 2, 1]);
    const all = [updated, ...(updated?.older ?? [])].map((one) => ({ schema: one?.schema, example: one?.examples[0] }));
    const fits = all.map(({ schema }) => all.map(({ example }) => ajv.validate(schema as object, example)));
    expect(fits).toEqual([
      [true, false, false],
      [false, true, false],
      [false, false, true],
    ]);
  });

  it('makes every document in the versions that the caller chooses', async () => {
    const catalog = await shipments();
    const versions = { 'shipment.updated': 1 };
    const newest = catalog.typeScript();
    expect(newest).toContain(
      "'shipment.updated': WebhookBody<'shipment.updated', ShipmentWebhookData, ShipmentWebhookPrevious> & { version: 3 };",
    );
    const old = catalog.typeScript({ versions });
    expect(old).toContain(
      "'shipment.updated': WebhookBody<'shipment.updated', ShipmentV1WebhookData, ShipmentV1WebhookPrevious>;",
    );
    expect(old).toContain('Deprecated since 2026-01-01, sent until 2026-06-01.');
    const { components, webhooks } = catalog.openApi({ versions });
    expect(components.schemas).toMatchObject({ ShipmentV1WebhookData: SCHEMA_1 });
    expect(JSON.stringify(webhooks['shipment.updated'])).toContain('webhook-version');
    expect(catalog.asyncApi({ versions })).toMatchObject({
      components: { schemas: { ShipmentV1WebhookData: SCHEMA_1 } },
    });
    const schemas = catalog.schemas({ baseUrl: 'https://shop.example/schemas' });
    expect(Object.keys(schemas)).toEqual(
      expect.arrayContaining(['shipment.updated', 'shipment.updated.1', 'shipment.updated.2']),
    );
    expect(schemas['shipment.updated.1']?.['$id']).toBe('https://shop.example/schemas/shipment.updated.1.json');
  });
});

describe('check() of a record, after a change of versions', () => {
  const TODAY = new Date('2026-07-01T00:00:00Z');
  const toText = ({ body }: Record<string, unknown>) => ({ text: body });

  it('accepts a new payload with a new version and a function for the old one', async () => {
    const before = file((await notes({ schema: SCHEMA })).record());
    const now = await notes({ schema: OTHER, version: 2, versions: { 1: { render: toText, schema: SCHEMA } } });
    expect(now.check(before)).toEqual([{ type: 'note', path: null, breaking: false, change: 'has version 2 now' }]);
  });

  it.each<[string, Omit<PublishedType, 'type'>, string | null, string]>([
    [
      'the old version has no function',
      { schema: OTHER, version: 2, versions: {} },
      'versions[1]',
      'is missing: add a function that makes this version',
    ],
    [
      'the schema of the old version changed',
      { schema: OTHER, version: 2, versions: { 1: { render: toText, schema: OTHER } } },
      'versions[1].data.text',
      'was removed',
    ],
    [
      'the function throws',
      {
        schema: OTHER,
        version: 2,
        versions: {
          1: () => {
            throw new Error('no');
          },
        },
      },
      'versions[1]',
      'cannot render the examples',
    ],
  ])('fails if %s', async (_, note, path, change) => {
    const before = file((await notes({ schema: SCHEMA })).record());
    expect((await notes(note)).check(before)).toContainEqual({ type: 'note', path, breaking: true, change });
  });

  it('fails for a lower version, and for an older version that is gone before its sunset', async () => {
    const deprecated = { since: '2026-01-01', sunset: '2026-06-30' };
    const two = { schema: OTHER, version: 2, versions: { 1: { render: toText, deprecated } } };
    const before = file((await notes(two)).record());
    expect((await notes({ schema: OTHER })).check(before, TODAY)).toContainEqual({
      type: 'note',
      path: null,
      breaking: true,
      change: 'has version 1 now, and had 2',
    });
    const gone = await notes({ schema: OTHER, version: 2, versions: {} });
    expect(gone.check(before, TODAY)).toEqual([
      { type: 'note', path: 'versions[1]', breaking: false, change: 'was removed after its sunset, 2026-06-30' },
    ]);
    expect(gone.check(before, new Date('2026-06-30T00:00:00Z'))).toMatchObject([
      { path: 'versions[1]', breaking: true },
    ]);
  });
});
