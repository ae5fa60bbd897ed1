import { Column, Entity, PrimaryColumn } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { webhookCatalog } from 'nestjs-entity-webhooks/catalog';
import { closedDataSource } from '../catalog/shop.js';

const same = (data: object) => data;

function catalogOf(options: object) {
  @Entity('versioned_thing')
  class Thing {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'int' })
    value: number;
  }
  Webhook(options as never)(Thing as never);
  return webhookCatalog(closedDataSource([Thing]));
}

describe('`version` and `versions`', () => {
  it.each([
    [{ version: 0 }, 'version'],
    [{ version: 1.5, versions: {} }, 'version'],
    [{ version: '2', versions: {} }, 'version'],
    [{ version: 20_261_201, versions: {} }, 'version'],
    [{ version: 2 }, 'versions'],
    [{ version: 2, versions: [] }, 'versions'],
    [{ version: 3, versions: { 1: same } }, 'versions'],
    [{ version: 4, versions: { 3: same, 1: same } }, 'versions'],
    [{ version: 2, versions: { 2: same } }, 'versions'],
    [{ version: 2, versions: { 1: same, 0: same } }, 'versions'],
    [{ version: 2, versions: { one: same } }, 'versions'],
    [{ versions: { 1: same } }, 'versions'],
    [{ version: 2, versions: { 1: 'same' } }, 'versions.1'],
    [{ version: 2, versions: { 1: { schema: {} } } }, 'versions.1.render'],
    [{ version: 2, versions: { 1: { render: same, schema: 'x' } } }, 'versions.1.schema'],
    [{ version: 2, versions: { 1: { render: same, schemas: {} } } }, 'versions.1'],
    [{ version: 2, versions: { 1: { render: same, deprecated: { since: 'soon' } } } }, 'versions.1.deprecated.since'],
  ])('that are %j are refused, with the name of the option', async (options, option) => {
    const error: unknown = await catalogOf(options).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'INVALID_WEBHOOK_OPTIONS', details: { option } });
    const published = [{ type: 'note', ...options } as never];
    const other = await webhookCatalog(closedDataSource([]), { publishedTypes: published }).catch(
      (thrown: unknown) => thrown,
    );
    expect(other).toMatchObject({ code: 'INVALID_OPTION' });
    expect((other as Error).message).toContain(`\`${option}\` of 'note'`);
  });

  it.each([
    [{}],
    [{ version: 1 }],
    [{ version: 1, versions: {} }],
    [{ version: 2, versions: {} }],
    [{ version: 3, versions: { 2: same } }],
    [{ version: 3, versions: { 2: same, 1: { render: same } } }],
  ])('that are %j are accepted', async (options) => {
    await expect(catalogOf(options)).resolves.toBeDefined();
  });
});
