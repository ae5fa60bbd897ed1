import type { Readable } from 'node:stream';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  EventService,
  SystemService,
  WebhookArchive,
  type ArchiveFile,
  type CreateListenerInput,
} from 'nestjs-entity-webhooks';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import type { TestApp } from '../support/webhooks-app.js';
import { countRows } from './outbox.js';

const MINUTE = 60_000;
const DAY = 86_400_000;
const ONE_DAY = { succeededMs: DAY, failedMs: DAY };
/** With partitions, the first chore of each test makes those of thirty days: on a busy machine, each takes a second. */
const SLOW = { timeout: 180_000 };

class OneFile extends WebhookArchive {
  text = '';

  override async store(_file: ArchiveFile, lines: Readable): Promise<void> {
    this.text = '';
    for await (const piece of lines) this.text += String(piece);
  }
}

describeDatabases('a file of the archive', SLOW, (database) => {
  const apps = appsOn(database);
  let app: TestApp;
  let events: EventService;
  let archive: OneFile;
  beforeEach(async () => {
    archive = new OneFile();
    app = await apps.start({
      entities: [],
      webhooks: {
        publishedTypes: ['note.sent', 'note.read'],
        retention: ONE_DAY,
        parts: { archive: { useValue: archive } },
      },
    });
    app.clock.set(Math.floor(app.clock.now() / DAY) * DAY + DAY / 2);
    events = app.app.get(EventService);
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['note.*'], url: app.receiver.url, ...input });
  const publish = (n: number, options = {}, type = 'note.sent') =>
    app.webhooks.publish(type, { n, big: 12345678901234567890n }, options);
  const archived = async () => {
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    await app.dispatcher.runChores();
    expect(await countRows(app.dataSource, 'events', 'deliveries')).toEqual({ events: 0, deliveries: 0 });
    app.receiver.clear();
  };
  const lines = () => archive.text.trimEnd().split('\n');
  const invalid = (line: number, text: string) => ({
    code: 'INVALID_ARCHIVE',
    details: { line },
    message: expect.stringMatching(new RegExp(`^Line ${line} of the archive is invalid: .*${text}`)) as string,
  });

  it('restores the events that do not exist, with id, time and content, and sends them to a listener under the same ids', async () => {
    const old = await listen();
    const published = [await publish(1), await publish(2), await publish(3, {}, 'note.read')];
    await app.dispatcher.drain();
    const bodies = app.receiver.requests.map(({ rawBody }) => rawBody.toString());
    await archived();
    const { id } = await listen();
    // In pieces that cut lines and characters.
    const bytes = Buffer.from(archive.text);
    const pieces = Array.from({ length: Math.ceil(bytes.length / 100) }, (_, n) =>
      bytes.subarray(n * 100, n * 100 + 100),
    );
    expect(await events.restore(pieces, { listenerId: id })).toEqual({ events: 3, restored: 3, deliveries: 3 });
    await app.dispatcher.drain();
    expect(app.receiver.requests.map(({ headers }) => headers['webhook-id']).toSorted()).toEqual(
      published.map((event) => event.id).toSorted(),
    );
    expect(app.receiver.requests.map(({ rawBody }) => rawBody.toString()).toSorted()).toEqual(bodies.toSorted());
    for (const event of published) {
      expect(await events.get(event.id)).toMatchObject({
        timestamp: new Date(event.timestamp),
        type: event.type,
        state: 'delivered',
      });
    }
    expect(await app.deliveries.counts({ listenerId: old.id })).toMatchObject({ succeeded: 0 });
    // Again: nothing is made twice.
    expect(await events.restore([archive.text], { listenerId: id })).toEqual({ events: 3, restored: 0, deliveries: 0 });
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(3);
    const { items } = await app.app.get(SystemService).audit();
    expect(items.filter(({ action }) => action === 'events.restored')).toMatchObject([{ target: id }, { target: id }]);
  });

  it('keeps the order of a row, and obeys the owner and the types of the listener', async () => {
    for (let n = 1; n <= 3; n++) await publish(n, { owner: 'acme', orderKey: 'note 7' });
    await publish(4, { owner: 'globex' });
    await publish(5, { owner: 'acme' }, 'note.read');
    await archived();
    const { id } = await listen({ owner: 'acme', events: ['note.sent'], ordering: 'entity' });
    expect(await events.restore([archive.text], { listenerId: id })).toMatchObject({ restored: 5, deliveries: 3 });
    await app.dispatcher.drain();
    expect(app.receiver.requests.map(({ json }) => (json as { data: { n: number } }).data.n)).toEqual([1, 2, 3]);
    expect((await events.forOwner('acme').list()).items).toHaveLength(4);
  });

  it('is restored in part with `types`, `since` and `until`', async () => {
    await publish(1);
    await publish(2, {}, 'note.read');
    app.clock.advance(MINUTE);
    const since = new Date(app.clock.now());
    await publish(3);
    app.clock.advance(MINUTE);
    const until = new Date(app.clock.now());
    await publish(4);
    await archived();
    expect(await events.restore([archive.text], { since, until })).toEqual({ events: 1, restored: 1, deliveries: 0 });
    expect(await events.restore([archive.text], { types: ['note.read'] })).toMatchObject({ events: 1, restored: 1 });
    expect(await countRows(app.dataSource, 'events')).toEqual({ events: 2 });
    await expect(events.restore([archive.text], { since: new Date('never') })).rejects.toMatchObject({
      code: 'INVALID_TIME',
    });
  });

  it('is kept as long as new events after it was restored, and then archived again in a further file', async () => {
    await publish(1);
    await archived();
    app.clock.advance(DAY / 2);
    await events.restore([archive.text]);
    archive.text = '';
    // Retention without an archive, and at once.
    const plain = await apps.start({ entities: [], webhooks: { publishedTypes: ['note.sent'], retention: ONE_DAY } });
    plain.clock.set(app.clock.now());
    await plain.dispatcher.runChores();
    expect(await countRows(app.dataSource, 'events')).toEqual({ events: 1 });
    // The days that have a file are searched once a day.
    app.clock.advance(DAY / 2 + MINUTE);
    await app.dispatcher.runChores();
    expect(await countRows(app.dataSource, 'events')).toEqual({ events: 1 });
    expect(archive.text).toBe('');
    app.clock.advance(DAY + MINUTE);
    await app.dispatcher.runChores();
    expect(await countRows(app.dataSource, 'events')).toEqual({ events: 0 });
    expect(JSON.parse(lines()[0] ?? '')).toMatchObject({ name: expect.stringMatching(/\.part-1\.ndjson$/) as string });
  });

  it('does not bring back what was erased, damaged, or a test', async () => {
    const { id } = await listen();
    const erased = await publish(1);
    await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    await events.erase(erased.id);
    await archived();
    expect(lines()).toHaveLength(2 + 2 + 2 + 2);
    expect(await events.restore([archive.text], { listenerId: id })).toEqual({ events: 0, restored: 0, deliveries: 0 });
    // Erased after it was archived: it exists, and stays erased.
    const kept = await publish(2);
    await app.dispatcher.drain();
    app.receiver.clear();
    await events.erase(kept.id);
    const line = JSON.stringify({
      ...(JSON.parse(lines()[1] ?? '') as object),
      id: kept.id,
      erasedAt: null,
      payload: '{"data":{}}',
    });
    const text = [lines()[0], line, '{"kind":"end","events":1,"deliveries":0,"attempts":0}'].join('\n');
    const other = await listen();
    expect(await events.restore([text], { listenerId: other.id })).toEqual({ events: 1, restored: 0, deliveries: 0 });
    expect(await events.get(kept.id)).toMatchObject({ data: null });
  });

  it('with `dryRun` is checked and counted, and nothing is written', async () => {
    await publish(1);
    await archived();
    const { id } = await listen();
    expect(await events.restore([archive.text], { listenerId: id, dryRun: true })).toEqual({
      ...{ events: 1, restored: 1, deliveries: 0 },
    });
    expect(await countRows(app.dataSource, 'events', 'deliveries')).toEqual({ events: 0, deliveries: 0 });
    const unknown = { listenerId: 'lst_00000000-0000-7000-8000-000000000000', dryRun: true };
    await expect(events.restore([archive.text], unknown)).rejects.toMatchObject({ code: 'LISTENER_NOT_FOUND' });
  });

  it('is refused for an owner and inside a transaction', async () => {
    await expect(events.forOwner('acme').restore([''])).rejects.toMatchObject({ code: 'NOT_FOR_OWNERS' });
    await app.dataSource.transaction(async (manager) => {
      await expect(events.withManager(manager).restore([''])).rejects.toMatchObject({ code: 'NOT_TRANSACTIONAL' });
    });
  });

  describe('with an invalid line', () => {
    beforeEach(async () => {
      for (let n = 0; n < 250; n++) await publish(n);
      await archived();
    });
    const changed = (line: number, text: string) =>
      lines()
        .with(line - 1, text)
        .join('\n');
    const changedEvent = (line: number, change: object) =>
      changed(line, JSON.stringify({ ...(JSON.parse(lines()[line - 1] ?? '') as object), ...change }));

    it('names the line, and does the rest when the repaired file is restored', async () => {
      const { id } = await listen();
      const options = { listenerId: id };
      await expect(events.restore([changed(200, '{"kind"')], options)).rejects.toMatchObject(
        invalid(200, 'it is not JSON'),
      );
      // One batch of a hundred events is complete.
      expect(await countRows(app.dataSource, 'events', 'deliveries')).toEqual({ events: 100, deliveries: 100 });
      expect(await events.restore([archive.text], options)).toEqual({ events: 250, restored: 150, deliveries: 150 });
    });

    it.each<{ what: string; text: () => string; line: number; message: string }>([
      {
        what: 'another kind',
        text: () => changedEvent(3, { kind: 'order' }),
        line: 3,
        message: 'Invalid value "order" for `kind`',
      },
      { what: 'no object', text: () => changed(4, '7'), line: 4, message: 'it is not a JSON object' },
      {
        what: 'an id in another form',
        text: () => changedEvent(5, { id: '7' }),
        line: 5,
        message: 'Invalid value "7" for `id`',
      },
      {
        what: 'no time',
        text: () => changedEvent(6, { timestamp: null }),
        line: 6,
        message: 'Invalid value null for `timestamp`',
      },
      {
        what: 'an unknown audience',
        text: () => changedEvent(7, { audience: 'all' }),
        line: 7,
        message: 'Invalid value "all" for `audience`',
      },
      {
        what: 'a newer version',
        text: () => changedEvent(1, { version: 2 }),
        line: 1,
        message: 'Invalid value 2 for `version`. Allowed: 1. Update',
      },
      {
        what: 'a missing first line',
        text: () => lines().slice(1).join('\n'),
        line: 1,
        message: "a file begins with a line of the kind 'archive'",
      },
      {
        what: 'a missing last line',
        text: () => lines().slice(0, -1).join('\n'),
        line: 252,
        message: 'the file ends here',
      },
      {
        what: 'a missing event',
        text: () => lines().toSpliced(3, 1).join('\n'),
        line: 251,
        message: 'should have 250 events, and has 249',
      },
      {
        what: 'another file in its middle',
        text: () => changed(9, lines()[0] ?? ''),
        line: 9,
        message: 'another file begins here',
      },
      { what: 'no line at all', text: () => '', line: 1, message: 'the file is empty' },
    ])('that has $what: the error says so, before anything is written', async ({ text, line, message }) => {
      await expect(events.restore([text()], { dryRun: true })).rejects.toMatchObject(
        invalid(line, message.replaceAll(/[.`]/g, '.')),
      );
      expect(await countRows(app.dataSource, 'events')).toEqual({ events: 0 });
    });
  });
});
