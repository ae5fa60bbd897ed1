// Misspelt on purpose. cspell:ignore vallue titel
import { Column, Entity, PrimaryColumn } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { webhookCatalog } from 'nestjs-entity-webhooks/catalog';

import { closedDataSource } from './shop.js';

function ofEntity(options: object) {
  @Entity('option_thing')
  class Thing {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'varchar', select: false })
    secret: string;

    @Column({ type: 'varchar' })
    value: string;
  }
  Webhook(options)(Thing as never);
  return webhookCatalog(closedDataSource([Thing]));
}

function ofPublished(published: object) {
  return webhookCatalog(closedDataSource([]), { publishedTypes: [published as never] });
}

const deprecated = (notice: unknown) => ({ events: { deleted: { deprecated: notice } } });

describe('an option that describes a type', () => {
  it.each<[options: object, option: string, text: string]>([
    [{ title: '' }, 'title', 'Allowed: a text that is not empty'],
    [{ group: 1 }, 'group', 'Allowed: a text that is not empty'],
    [{ description: ' ' }, 'description', 'Allowed: a text that is not empty'],
    [{ visibility: 'hidden' }, 'visibility', "Allowed: 'public', 'internal'"],
    [{ examples: [] }, 'examples', 'Allowed: a list of objects'],
    [{ examples: ['x'] }, 'examples', 'Allowed: a list of objects'],
    [{ describe: [] }, 'describe', 'Allowed: an object'],
    [{ describe: { vallue: 'x' } }, 'describe', "Did you mean 'value'?"],
    [{ describe: { secret: 'x' } }, 'describe', 'The payload has no such property'],
    [{ describe: { value: 1 } }, 'describe.value', 'Allowed: a text, or { description, schema }'],
    [{ describe: { value: { text: 'x' } } }, 'describe.value', 'Known: description, schema'],
    [{ describe: { value: { schema: 'x' } } }, 'describe.value.schema', 'Allowed: an object'],
    [{ events: { archived: {} } }, 'events', 'created, updated, deleted, restored'],
    [{ on: ['created'], events: { deleted: {} } }, 'events', 'These actions make events: created'],
    [{ events: { created: 'x' } }, 'events.created', 'Allowed: { description, deprecated }'],
    [{ events: { created: { titel: 'x' } } }, 'events.created', 'Known: description, deprecated'],
    [deprecated(true), 'events.deleted.deprecated', 'Allowed: { since, sunset, use }'],
    [deprecated({ since: 'soon' }), 'events.deleted.deprecated.since', "Allowed: a day as 'YYYY-MM-DD'"],
    [deprecated({ since: '2026-02-30' }), 'events.deleted.deprecated.since', "Allowed: a day as 'YYYY-MM-DD'"],
    [deprecated({ since: '2026-02-03', until: 'x' }), 'events.deleted.deprecated', 'Known: since, sunset, use'],
    [
      deprecated({ since: '2026-02-03', sunset: '2026-02-02' }),
      'events.deleted.deprecated.sunset',
      "not before `since`, '2026-02-03'",
    ],
  ])('of an entity stops the bootstrap if it is %j', async (options, option, text) => {
    await expect(ofEntity(options)).rejects.toMatchObject({
      code: 'INVALID_WEBHOOK_OPTIONS',
      message: expect.stringContaining(text) as string,
      details: { entity: 'Thing', option },
    });
  });

  it.each<[published: object, text: string]>([
    [{ title: '' }, "`title` of 'a.b' in `publishedTypes` of webhookCatalog(). Allowed: a text"],
    [{ titel: 'x' }, "Unknown option `titel` of 'a.b' in `publishedTypes` of webhookCatalog(). Did you mean 'title'?"],
    [{ schema: [] }, '`schema`'],
    [{ deprecated: { since: 1 } }, '`deprecated.since`'],
    [{ visibility: 'preview' }, "Allowed: 'public', 'internal'"],
    [{ example: {} }, 'Unknown option `example`'],
  ])('of a published type stops the bootstrap if it is %j', async (published, text) => {
    await expect(ofPublished({ type: 'a.b', ...published })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining(text) as string,
    });
  });
});

describe('the option `capture`', () => {
  @Webhook()
  @Entity('option_reading')
  class Reading {
    @PrimaryColumn({ type: 'timestamptz' })
    at: Date;
  }

  it('decides which entities are refused, as in the module', async () => {
    const dataSource = closedDataSource([Reading]);
    await expect(webhookCatalog(dataSource)).rejects.toMatchObject({ code: 'KEY_NOT_EXACT' });
    const { types } = await webhookCatalog(dataSource, { capture: 'trigger' });
    expect(types.map(({ type }) => type)).toContain('reading.created');
  });
});
