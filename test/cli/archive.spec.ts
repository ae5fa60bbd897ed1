import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Readable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { WebhookArchive, type ArchiveFile } from 'nestjs-entity-webhooks';
import { countRows } from '../deliveries/outbox.js';
import type { FreshDatabase } from '../support/databases.js';
import { createSqlite } from '../support/fresh-database.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { createCommandLine, dataSourceFile, type CommandLine } from './command-line.js';

const DAY = 86_400_000;

class OneFile extends WebhookArchive {
  text = '';

  override async store(_file: ArchiveFile, lines: Readable): Promise<void> {
    for await (const piece of lines) this.text += String(piece);
  }
}

describe('replay --archive', () => {
  let cli: CommandLine;
  let fresh: FreshDatabase;
  let app: TestApp;
  let file: string;
  let text: string;
  beforeAll(async () => {
    cli = await createCommandLine();
    fresh = await createSqlite(cli.project.folder);
    const archive = new OneFile();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: ['invoice.overdue', 'invoice.paid'],
        retention: { succeededMs: DAY, failedMs: DAY },
        parts: { archive: { useValue: archive } },
      },
    });
    app.clock.set(Math.floor(app.clock.now() / DAY) * DAY + DAY / 2 - 3 * DAY);
    for (let n = 0; n < 3; n++) await app.webhooks.publish('invoice.overdue', { n });
    await app.webhooks.publish('invoice.paid', { n: 3 });
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    await app.dispatcher.runChores();
    ({ text } = archive);
    file = join(cli.project.folder, 'day.ndjson');
    await writeFile(file, text);
    await writeFile(`${file}.gz`, gzipSync(text));
    await writeFile(`${file}.bad`, text.replace('"kind":"end"', '"kind":"order"'));
    await cli.project.write('data-source.js', dataSourceFile(fresh.options));
  });
  afterAll(async () => {
    await app.close();
    await cli.remove();
  });
  beforeEach(async () => {
    for (const table of ['events', 'deliveries']) await app.dataSource.query(`delete from webhook_${table}`);
  });
  const run = (...args: string[]) => cli.run(['replay', '-d', 'data-source.js', ...args]);
  const rows = () => countRows(app.dataSource, 'events', 'deliveries');

  it('says what it would do, restores the events, and sends those of a type to the listener', async () => {
    const { id } = await app.listeners.create({ events: ['invoice.*'], url: app.receiver.url });
    const args = ['--archive', `${file}.gz`, '--listener', id, '--type', 'invoice.overdue'];
    expect(await run(...args, '--dry-run')).toEqual({ code: 0, out: '3 of 3 events would be restored.\n', err: '' });
    expect(await rows()).toEqual({ events: 0, deliveries: 0 });
    expect(await run(...args, '--yes')).toEqual({
      ...{ code: 0, err: '' },
      out: '3 of 3 events were restored. 3 deliveries were made.\n',
    });
    // The command line has made the deliveries due by the real clock. The clock of the application stands at noon.
    app.clock.set(Date.now());
    await app.dispatcher.drain();
    expect(app.receiver.requests.map(({ json }) => (json as { data: { n: number } }).data.n).toSorted()).toEqual([
      0, 1, 2,
    ]);
    expect(JSON.parse((await run(...args, '--yes', '--json')).out)).toEqual({
      ...{ events: 3, restored: 0, deliveries: 0, dryRun: false },
    });
  });

  it('restores the events of a period without a listener, from a file that is not compressed', async () => {
    expect(await run('--archive', file, '--until', '2d', '--yes')).toMatchObject({
      ...{ code: 0, out: '4 of 4 events were restored. 0 deliveries were made.\n' },
    });
    expect(await run('--archive', file, '--since', '2d', '--dry-run')).toMatchObject({
      out: '0 of 0 events would be restored.\n',
    });
  });

  it('writes nothing if a line is invalid, and names the line', async () => {
    expect(await run('--archive', `${file}.bad`, '--yes')).toMatchObject({
      code: 2,
      err: expect.stringMatching(
        /^INVALID_ARCHIVE: Line 6 of the archive is invalid: Invalid value "order" for `kind`/,
      ) as string,
    });
    expect(await rows()).toEqual({ events: 0, deliveries: 0 });
  });

  it.each([
    {
      what: 'a file that does not exist',
      args: ['--archive', 'gone.ndjson', '--yes'],
      error: /^ARCHIVE_UNREADABLE: The file 'gone\.ndjson' cannot be read: ENOENT/,
    },
    {
      what: 'neither a file nor a listener',
      args: ['--since', '1d'],
      error: /INVALID_ARGUMENT: Give --since <time> and --listener <id>, or --archive <file>/,
    },
    {
      what: 'an owner',
      args: ['--archive', 'day.ndjson', '--owner', 'acme'],
      error: /INVALID_ARGUMENT: Give no --owner/,
    },
    { what: 'a rate', args: ['--archive', 'day.ndjson', '--rate', '5'], error: /INVALID_ARGUMENT: Give no --rate/ },
    {
      what: 'nobody who can confirm',
      args: ['--archive', 'day.ndjson'],
      error: /INVALID_ARGUMENT: Nobody can confirm/,
    },
  ])('refuses $what', async ({ args, error }) => {
    expect(await run(...args)).toMatchObject({ code: 2, err: expect.stringMatching(error) as string });
  });

  it('refuses an API', async () => {
    const args = ['replay', '--archive', 'day.ndjson', '--api', 'http://127.0.0.1:1/webhooks', '--yes'];
    expect(await cli.run(args)).toMatchObject({
      code: 2,
      err: expect.stringMatching(/INVALID_ARGUMENT: Give no --api with --archive/) as string,
    });
  });
});
