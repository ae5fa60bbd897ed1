import { Column, Entity, PrimaryColumn, type ColumnOptions } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { Webhook, type PublishedType, type WebhookOptions } from 'nestjs-entity-webhooks';
import { webhookCatalog, type CatalogRecord } from 'nestjs-entity-webhooks/catalog';

import { closedDataSource, shopCatalog } from './shop.js';

const TODAY = new Date('2026-11-30T12:00:00Z');

/** A catalogue of one entity with one column beside its key. */
function catalogOf(column: ColumnOptions | null, options: WebhookOptions = {}, property = 'value') {
  @Entity('compat_thing')
  class Thing {
    @PrimaryColumn({ type: 'int' })
    id: number;
  }
  if (column) Column(column)(Thing.prototype, property);
  Webhook({ on: ['created'], ...options } as never)(Thing as never);
  return webhookCatalog(closedDataSource([Thing]));
}

function catalogOfTypes(...publishedTypes: (string | PublishedType)[]) {
  return webhookCatalog(closedDataSource([]), { publishedTypes });
}

/** As the file in the repository: text, and parsed again. */
function file(record: CatalogRecord): unknown {
  return JSON.parse(JSON.stringify(record));
}

const VARCHAR: ColumnOptions = { type: 'varchar' };
const ENUM = (...members: string[]): ColumnOptions => ({ type: 'enum', enum: members });
const PATH = 'data.value';

describe('check() of a record', () => {
  it('finds nothing in the same catalogue, also after its texts and examples have changed', async () => {
    const catalog = await shopCatalog();
    expect(catalog.check(file(catalog.record()))).toEqual([]);
    const old = await catalogOf(VARCHAR);
    const now = await catalogOf(
      { ...VARCHAR, comment: 'new' },
      { title: 'A', description: 'B', describe: { value: 'C' }, examples: [{ id: 1, value: 'x' }] },
    );
    expect(now.check(file(old.record()))).toEqual([]);
  });

  it.each<[what: string, before: ColumnOptions | null, after: ColumnOptions | null, change: string, path?: string]>([
    ['a removed field', VARCHAR, null, 'was removed'],
    ['another kind', VARCHAR, { type: 'int' }, 'was string, is integer now'],
    ['another format', { type: 'date' }, { type: 'timestamptz' }, 'was string (date), is string (date-time) now'],
    ['a wider number', { type: 'int' }, { type: 'float8' }, 'was integer, is number now'],
    ['a new null', VARCHAR, { ...VARCHAR, nullable: true }, 'may be null now'],
    ['a lost member of an enum', ENUM('a', 'b'), ENUM('a'), 'has no value "b" any more'],
    ['an enum that is text now', ENUM('a'), VARCHAR, 'may have any value now'],
    ['a list', VARCHAR, { ...VARCHAR, array: true }, 'was string, is array now'],
    [
      'other items of a list',
      { ...VARCHAR, array: true },
      { type: 'int', array: true },
      'was string, is integer now',
      `${PATH}[]`,
    ],
  ])('calls breaking: %s', async (_, before, after, change, path = PATH) => {
    const now = await catalogOf(after);
    expect(now.check(file((await catalogOf(before)).record()))).toEqual([
      { type: 'thing.created', path, breaking: true, change },
    ]);
  });

  it.each<[what: string, before: ColumnOptions | null, after: ColumnOptions | null, change: string]>([
    ['a new field', null, VARCHAR, 'is new'],
    ['a narrower number', { type: 'float8' }, { type: 'int' }, 'was number, is integer now'],
    ['a lost null', { ...VARCHAR, nullable: true }, VARCHAR, 'is never null now'],
    ['a new member of an enum', ENUM('a'), ENUM('a', 'b'), 'may be "b" now'],
  ])('reports as compatible: %s', async (_, before, after, change) => {
    const now = await catalogOf(after);
    expect(now.check(file((await catalogOf(before)).record()))).toEqual([
      { type: 'thing.created', path: PATH, breaking: false, change },
    ]);
  });

  it('compares the properties of objects, and whether they may be missing', async () => {
    const withProperties = (required: string[], properties: Record<string, object>) =>
      catalogOfTypes({ type: 'a.b', schema: { type: 'object', properties: properties as never, required } });
    const text = { type: 'string' };
    const old = await withProperties(['a', 'b'], { a: text, b: { type: 'object', properties: { c: text } } });
    const now = await withProperties(['b'], { a: text, b: { type: 'object', properties: { d: text } } });
    expect(now.check(file(old.record()))).toEqual([
      { type: 'a.b', path: 'data.a', breaking: true, change: 'may be missing now' },
      { type: 'a.b', path: 'data.b.c', breaking: true, change: 'was removed' },
      { type: 'a.b', path: 'data.b.d', breaking: false, change: 'is new' },
    ]);
  });

  it('compares `previous`, too', async () => {
    const on = ['updated'] as const;
    const now = await catalogOf(null, { on });
    expect(now.check(file((await catalogOf(VARCHAR, { on })).record())).map(({ path }) => path)).toEqual([
      'data.value',
      'previous.value',
    ]);
  });

  it('calls the removal of a type breaking until its sunset is over', async () => {
    const deprecated = { since: '2026-01-01', sunset: '2026-11-29' };
    const gone = (await catalogOfTypes({ type: 'a.b', deprecated })).record();
    const now = await catalogOfTypes('c.d');
    expect(now.check(file(gone), TODAY)).toEqual([
      { type: 'a.b', path: null, breaking: false, change: 'was removed after its sunset, 2026-11-29' },
      { type: 'c.d', path: null, breaking: false, change: 'is new' },
    ]);
    for (const record of [
      (await catalogOfTypes('a.b')).record(),
      (await catalogOfTypes({ type: 'a.b', deprecated: { ...deprecated, sunset: '2026-11-30' } })).record(),
    ]) {
      expect(now.check(file(record), TODAY)[0]).toEqual({
        type: 'a.b',
        path: null,
        breaking: true,
        change: 'was removed',
      });
    }
  });

  it('calls a type that becomes internal breaking, and one that becomes public or deprecated not', async () => {
    const internal = await catalogOfTypes({ type: 'a.b', visibility: 'internal' });
    const open = await catalogOfTypes({ type: 'a.b', deprecated: { since: '2026-01-01' } });
    expect(internal.check(file((await catalogOfTypes('a.b')).record()))).toEqual([
      { type: 'a.b', path: null, breaking: true, change: 'is internal now' },
    ]);
    expect(open.check(file(internal.record()))).toEqual([
      { type: 'a.b', path: null, breaking: false, change: 'is public now' },
      { type: 'a.b', path: null, breaking: false, change: 'is deprecated since 2026-01-01' },
    ]);
  });

  it.each([null, {}, [], { catalog: 2, types: {} }, { catalog: 1, types: { 'a.b': {} } }])(
    'refuses %j, which is no record',
    async (record) => {
      const catalog = await catalogOfTypes('a.b');
      expect(() => catalog.check(record)).toThrow(expect.objectContaining({ code: 'INVALID_CATALOG' }) as Error);
    },
  );
});
