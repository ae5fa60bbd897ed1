import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCommandLine, dataSourceFile, type CommandLine, type CommandResult } from './command-line.js';

/** No server listens here: a command that connects fails. */
const CLOSED = { type: 'postgres', url: 'postgres://nobody@127.0.0.1:1/none' };
const TYPES = "publishedTypes: ['invoice.overdue', { type: 'stock.low', visibility: 'internal' }],";
const FIELDS = (...fields: string[]) => `{ entity: Parcel, owner: 'customerId', fields: ${JSON.stringify(fields)} }`;

describe('npx nestjs-entity-webhooks types', () => {
  let cli: CommandLine;
  beforeAll(async () => {
    cli = await createCommandLine();
    await cli.project.write('data-source.js', dataSourceFile(CLOSED, TYPES, FIELDS('id', 'name')));
    await cli.project.write('removed.js', dataSourceFile(CLOSED, TYPES, FIELDS('id', 'customerId')));
    await cli.project.write('added.js', dataSourceFile(CLOSED, TYPES, FIELDS('id', 'name', 'customerId')));
  });
  afterAll(() => cli.remove());

  const types = (...args: string[]) => cli.run(['types', '-d', 'data-source.js', ...args]);
  const read = (file: string) => readFile(join(cli.project.folder, file), 'utf8');
  const fine = (out: unknown): CommandResult => ({ code: 0, err: '', out: out as string });
  const refused = (err: RegExp) => ({ code: 2, out: '', err: expect.stringMatching(err) as string });

  it('prints TypeScript for receivers, without a connection and without internal types', async () => {
    const { out, ...rest } = await types();
    expect(rest).toEqual({ code: 0, err: '' });
    expect(out).toContain(
      "  'parcel.updated': WebhookBody<'parcel.updated', ParcelWebhookData, ParcelWebhookPrevious>;",
    );
    expect(out).toContain("  'invoice.overdue': ");
    expect(out).not.toContain('stock.low');
    expect((await types('--internal')).out).toContain("  'stock.low': ");
    expect(await types('--out', 'types/webhooks.d.ts')).toEqual(fine('wrote types/webhooks.d.ts\n'));
    expect(await read('types/webhooks.d.ts')).toBe(out);
  });

  it('lists the types as JSON', async () => {
    const listed = await cli.json<{ type: string; schema: object }[]>('types', '-d', 'data-source.js');
    expect(listed.map(({ type }) => type)).toEqual([
      'invoice.overdue',
      ...['created', 'deleted', 'restored', 'updated'].map((action) => `parcel.${action}`),
    ]);
    expect(listed[1]?.schema).toMatchObject({ title: 'Parcel created' });
  });

  it.each([
    ['--openapi', { openapi: '3.1.0', webhooks: { 'parcel.created': {} } }],
    ['--asyncapi', { asyncapi: '3.1.0', operations: { 'send.parcel.created': {} } }],
  ])('prints a document with %s, or writes it', async (option, document) => {
    const { out } = await types(option);
    expect(JSON.parse(out)).toMatchObject(document);
    expect(out).not.toContain('stock.low');
    expect(await types(option, 'document.json', '--json')).toEqual(
      fine(`${JSON.stringify({ written: ['document.json'] }, null, 2)}\n`),
    );
    expect(await read('document.json')).toBe(out);
  });

  it('writes a schema for each type', async () => {
    expect(await types('--schemas', 'schemas')).toMatchObject({ code: 0, err: '' });
    const files = await readdir(join(cli.project.folder, 'schemas'));
    expect(files).toHaveLength(5);
    expect(files).toContain('invoice.overdue.json');
    expect(JSON.parse(await read('schemas/parcel.created.json'))).toMatchObject({ title: 'Parcel created' });
  });

  it('fails if a change breaks receivers, and not if it only adds something', async () => {
    expect(await types('--write', 'catalog.json')).toEqual(fine('wrote catalog.json\n'));
    expect(await types('--check', 'catalog.json')).toEqual(fine('No changes since catalog.json.\n'));
    const check = (file: string, ...args: string[]) =>
      cli.run(['types', '-d', file, '--check', 'catalog.json', ...args]);

    const breaking = await check('removed.js');
    expect(breaking).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^Receivers may fail\. .*--write catalog/) as string,
    });
    expect(breaking.out).toMatch(/^parcel\.created {2,}data\.name +was removed +BREAKING$/m);
    expect(breaking.out).toMatch(/^parcel\.created {2,}data\.customerId +is new +compatible$/m);

    const compatible = await check('added.js', '--json');
    expect(compatible).toMatchObject({ code: 0, err: 'Record these changes with --write catalog.json.\n' });
    expect(JSON.parse(compatible.out)).toContainEqual({
      type: 'parcel.created',
      path: 'data.customerId',
      breaking: false,
      change: 'is new',
    });
  });

  it('refuses what it cannot do, and says what to do', async () => {
    await cli.project.write('text.json', 'no record');
    await cli.project.write('other.json', '{"catalog":2}');
    const empty =
      "import { DataSource } from 'typeorm'; export default new DataSource({ type: 'better-sqlite3', database: ':memory:' });";
    await cli.project.write('empty.js', empty);
    await cli.project.write(
      'published.js',
      `${empty}\nexport const webhooks = { publishedTypes: ['invoice.overdue'] };`,
    );
    expect(await types('--out', 'a.ts', '--check', 'b.json')).toEqual(
      refused(/^INVALID_ARGUMENT: Give at most one of --out, --openapi, --asyncapi, --schemas, --check, --write\.\n$/),
    );
    expect(await types('--check', 'none.json')).toEqual(
      refused(/^INVALID_CATALOG: The record none\.json cannot be read: ENOENT.* Write it with --write none\.json\.\n$/),
    );
    expect(await types('--check', 'text.json')).toEqual(
      refused(/^INVALID_CATALOG: The record text\.json cannot be read/),
    );
    expect(await types('--check', 'other.json')).toEqual(refused(/^INVALID_CATALOG: Invalid value \{"catalog":2\}/));
    expect(await types('--out', 'text.json/a.ts')).toEqual(
      refused(/^INVALID_ARGUMENT: The file of --out cannot be written: /),
    );
    expect(await cli.run(['types', '-d', 'empty.js', '--write', 'empty.json'])).toEqual(
      refused(/^NO_ENTITIES: The DataSource of empty\.js has no entity with webhooks\. .*entities: \[Order\]/),
    );
    expect(await cli.run(['types', '-d', 'published.js'])).toMatchObject({
      code: 0,
      err: expect.stringMatching(/^warning: The DataSource of published\.js has no entity with webhooks\./) as string,
    });
  });
});
