import { Logger } from '@nestjs/common';
import { setImmediate } from 'node:timers/promises';
import type { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import {
  EventService,
  RetrySchedule,
  TaskService,
  WebhookArchive,
  type ArchiveFile,
  type WebhooksModuleOptions,
} from 'nestjs-entity-webhooks';
import type { ArchiveLine } from '../../libs/webhooks/src/archive/archive-lines.js';
import { runtimeToken } from '../../libs/webhooks/src/instance.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { countRows } from '../deliveries/outbox.js';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases, describeOn, type FreshDatabase } from '../support/databases.js';
import { arePartitioned, createPartitioned } from '../support/partitioned.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const MINUTE = 60_000;
const DAY = 86_400_000;
const TYPES = ['note.sent', 'note.read'];
/** Retention of one day, so that each day is archived two days after its end at the latest. */
const ONE_DAY = { succeededMs: DAY, failedMs: DAY };
/** With partitions, the first chore of each test makes those of thirty days: on a busy machine, each takes a second. */
const SLOW = { timeout: 180_000 };

class Once extends RetrySchedule {
  delayMs(): null {
    return null;
  }
}

/** Keeps the files in memory. A test may replace what it does with a file. */
class MemoryArchive extends WebhookArchive {
  /** The text of each file, by name. */
  readonly files = new Map<string, string>();
  /** The names of all files that were begun, in order. */
  readonly begun: string[] = [];
  read: (lines: Readable, file: ArchiveFile) => Promise<string> = textOf;

  override async store(file: ArchiveFile, lines: Readable): Promise<void> {
    this.begun.push(file.name);
    const text = await this.read(lines, file);
    this.files.set(file.name, text);
  }

  lines(name: string): ArchiveLine[] {
    const text = this.files.get(name);
    if (text === undefined) throw new Error(`there is no file ${name}, but ${[...this.files.keys()].join()}`);
    return text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as ArchiveLine);
  }

  ofKind<K extends ArchiveLine['kind']>(name: string, kind: K): Extract<ArchiveLine, { kind: K }>[] {
    return this.lines(name).filter((line): line is Extract<ArchiveLine, { kind: K }> => line.kind === kind);
  }
}

async function textOf(lines: Readable): Promise<string> {
  let text = '';
  for await (const piece of lines) text += String(piece);
  return text;
}

const nameOf = (at: number) => `${new Date(at).toISOString().slice(0, 10)}.ndjson`;

describeDatabases('an archive', SLOW, (database) => {
  const apps = appsOn(database);
  let archive: MemoryArchive;
  let app: TestApp;
  const start = async (webhooks: WebhooksModuleOptions = {}) => {
    const one = await apps.start({
      entities: [],
      webhooks: {
        publishedTypes: TYPES,
        retention: ONE_DAY,
        parts: { retrySchedule: Once, archive: { useValue: archive } },
        ...webhooks,
      },
    });
    // The middle of a day, so that the events of one moment of a test have the same day.
    one.clock.set(Math.floor(one.clock.now() / DAY) * DAY + DAY / 2);
    return one;
  };
  beforeEach(async () => {
    archive = new MemoryArchive();
    app = await start();
  });

  const listen = (input = {}) => app.listeners.create({ events: ['note.sent'], url: app.receiver.url, ...input });
  const publish = async (count = 1, type = 'note.sent') => {
    // One transaction: some tests publish more than a thousand.
    return app.dataSource.transaction(async (manager) => {
      const events = [];
      for (let n = 0; n < count; n++) {
        events.push(await app.webhooks.publish(type, { n, big: 12345678901234567890n }, { manager }));
      }
      return events;
    });
  };
  const rows = () => countRows(app.dataSource, 'events', 'deliveries', 'attempts');

  it('gets each day as one file with every event, delivery and attempt, and only then are the rows deleted', async () => {
    const listener = await listen();
    const first = app.clock.now();
    const [event] = await publish();
    await publish(1, 'note.read');
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    app.receiver.respond({ status: 500, body: 'it is broken' });
    await app.deliveries.resend(delivery?.id ?? '');
    await app.dispatcher.drain();
    app.clock.advance(DAY);
    const second = app.clock.now();
    await publish();
    await app.dispatcher.drain();
    expect(await app.dispatcher.runChores()).toEqual({ discarded: 0, deliveries: 0, events: 0 });
    expect(archive.begun).toEqual([]);
    app.clock.advance(2 * DAY);
    await publish();
    await app.dispatcher.drain();

    // The rows are still there when the archive has read them.
    archive.read = async (lines) => {
      const text = await textOf(lines);
      expect(await rows()).toMatchObject({ events: 4 - 2 * archive.files.size });
      return text;
    };
    const isByDay = database.name === 'postgres' && arePartitioned;
    const deleted = { discarded: 0, deliveries: 2, events: 3 };
    expect(await app.dispatcher.runChores()).toEqual(isByDay ? { ...deleted, deliveries: 0, events: 0 } : deleted);
    expect(archive.begun).toEqual([nameOf(first), nameOf(second)]);
    expect(await rows()).toMatchObject({ events: 1, deliveries: 1 });

    const name = nameOf(first);
    expect(archive.lines(name)[0]).toEqual({ kind: 'archive', version: 1, name });
    expect(archive.lines(name).at(-1)).toEqual({ kind: 'end', events: 2, deliveries: 1, attempts: 2 });
    expect(archive.ofKind(name, 'event').map(({ type }) => type)).toEqual(['note.sent', 'note.read']);
    const [archived] = archive.ofKind(name, 'event');
    expect(archived).toMatchObject({ id: event?.id, timestamp: event?.timestamp, owner: null, erasedAt: null });
    // The stored text, digit by digit.
    expect(archived?.payload).toContain('12345678901234567890');
    expect(archive.ofKind(name, 'delivery')).toMatchObject([
      {
        id: delivery?.id,
        eventId: event?.id,
        listenerId: listener.id,
        state: 'exhausted',
        attemptCount: 2,
        lastStatus: 500,
      },
    ]);
    expect(archive.ofKind(name, 'attempt')).toMatchObject([
      { deliveryId: delivery?.id, number: 1, outcome: 'accepted', status: 204 },
      { deliveryId: delivery?.id, number: 2, outcome: 'rejected', status: 500, response: 'it is broken' },
    ]);
    expect(archive.ofKind(nameOf(second), 'end')).toEqual([{ kind: 'end', events: 1, deliveries: 1, attempts: 1 }]);
  });

  it('never gets a secret of a listener, and no content that was erased', async () => {
    const { secret } = await listen({ auth: { type: 'bearer', token: 'token-of-the-listener' } });
    const at = app.clock.now();
    const [erased] = await publish();
    await app.dispatcher.drain();
    await app.app.get(EventService).erase(erased?.id ?? '');
    app.clock.advance(3 * DAY);
    await app.dispatcher.runChores();
    const text = archive.files.get(nameOf(at)) ?? '';
    expect(archive.ofKind(nameOf(at), 'event')).toMatchObject([
      { id: erased?.id, payload: null, erasedAt: expect.any(String) as string },
    ]);
    for (const hidden of [secret, 'token-of-the-listener', '12345678901234567890']) expect(text).not.toContain(hidden);
  });

  it('that fails keeps every row and gets the same file again, while deliveries go on', async () => {
    await listen();
    const at = app.clock.now();
    await publish(3);
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    const before = await rows();
    let half = '';
    archive.read = async (lines) => {
      for await (const piece of lines) half += String(piece);
      throw new Error('the disk is full');
    };
    await expect(app.dispatcher.runChores()).rejects.toThrow('the disk is full');
    expect(await rows()).toEqual(before);
    await publish();
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(4);
    archive.read = textOf;
    app.clock.advance(5 * MINUTE);
    await app.dispatcher.runChores();
    expect(archive.begun).toEqual([nameOf(at), nameOf(at)]);
    expect(archive.files.get(nameOf(at))).toBe(half);
    expect(await rows()).toMatchObject({ events: 1 });
  });

  it('whose store() ends before it has read every line is an error, and keeps the rows', async () => {
    const at = app.clock.now();
    await publish(500);
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    archive.read = async (lines) => {
      for await (const piece of lines) return String(piece);
      return '';
    };
    await expect(app.dispatcher.runChores()).rejects.toThrow(
      `store() of MemoryArchive ended before it had read every line of ${nameOf(at)}`,
    );
    expect(await rows()).toMatchObject({ events: 500 });
  });

  it('that reads slowly slows the reading of the rows down', async () => {
    await publish(1_200);
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    const { database: own } = app.app.get<{ database: Database }>(runtimeToken('default'));
    const transactions = vi.spyOn(own, 'transaction');
    let whileWaiting = 0;
    archive.read = async (lines) => {
      let text = '';
      for await (const piece of lines) {
        if (text === '') {
          const begun = transactions.mock.calls.length;
          // Enough for each page, if nothing held them back.
          for (let n = 0; n < 50; n++) {
            await app.dataSource.query('SELECT 1');
            await setImmediate();
          }
          whileWaiting = transactions.mock.calls.length - begun;
        }
        text += String(piece);
      }
      return text;
    };
    await app.dispatcher.runChores();
    const [name] = archive.begun;
    expect(archive.ofKind(name ?? '', 'event')).toHaveLength(1_200);
    // A stream reads 64 KB ahead: two pages of these events.
    expect(whileWaiting).toBeLessThanOrEqual(2);
    transactions.mockRestore();
  });

  it('gets the same file from another process when the first one stopped half-way', async () => {
    const other = await start();
    await listen();
    const at = app.clock.now();
    await publish(300);
    await app.dispatcher.drain();
    for (const one of [app, other]) one.clock.set(at + 3 * DAY);
    let started: () => void = () => undefined;
    const hasStarted = new Promise<void>((resolve) => (started = resolve));
    let aborted: unknown;
    archive.read = async (lines, { signal }) => {
      for await (const piece of lines) {
        expect(String(piece)).not.toBe('');
        started();
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        aborted = signal.reason;
      }
      return 'half';
    };
    const running = app.dispatcher.runChores();
    running.catch(() => undefined);
    await hasStarted;
    // Meanwhile nobody else makes a file.
    expect(await other.dispatcher.runChores()).toMatchObject({ events: 0 });
    await app.dispatcher.stop();
    await expect(running).rejects.toThrow('the process stops');
    expect(aborted).toEqual(new Error('the process stops'));
    expect(archive.files.size).toBe(0);
    expect(await countRows(other.dataSource, 'events')).toEqual({ events: 300 });
    archive.read = textOf;
    other.clock.advance(5 * MINUTE);
    await other.dispatcher.runChores();
    expect(archive.begun).toEqual([nameOf(at), nameOf(at)]);
    expect(archive.ofKind(nameOf(at), 'end')).toEqual([{ kind: 'end', events: 300, deliveries: 300, attempts: 300 }]);
    expect(await countRows(other.dataSource, 'events')).toEqual({ events: 0 });
  });

  it('gets no complete file from a process that has lost its lease, even if the lease is free again', async () => {
    await publish(1_200);
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    archive.read = async (lines) => {
      let text = '';
      for await (const piece of lines) {
        if (text === '') {
          // The state after another process has taken over and has ended its work.
          await app.dataSource.query(
            `UPDATE webhook_chores SET lease_token = NULL, lease_until = 0 WHERE name = 'archive'`,
          );
        }
        text += String(piece);
      }
      return text;
    };
    await expect(app.dispatcher.runChores()).rejects.toThrow('another process has taken over');
    expect(archive.files.size).toBe(0);
    expect(await countRows(app.dataSource, 'events')).toEqual({ events: 1_200 });
  });

  it('gets what ended after the file was begun in a further file, and no attempt is lost', async () => {
    await listen();
    const at = app.clock.now();
    await publish(2);
    await app.dispatcher.drain();
    const [sentAgain] = (await app.deliveries.list()).items;
    app.clock.advance(3 * DAY);
    archive.read = async (lines) => {
      const text = await textOf(lines);
      // After the file was read, and before the rows are deleted.
      await app.deliveries.resend(sentAgain?.id ?? '');
      await app.dispatcher.drain();
      return text;
    };
    await app.dispatcher.runChores();
    archive.read = textOf;
    expect(archive.ofKind(nameOf(at), 'end')).toEqual([{ kind: 'end', events: 2, deliveries: 2, attempts: 2 }]);
    expect((await app.deliveries.list()).items).toMatchObject([{ id: sentAgain?.id, attemptCount: 2 }]);
    app.clock.advance(DAY);
    await app.dispatcher.runChores();
    const part = nameOf(at).replace('.ndjson', '.part-1.ndjson');
    expect(archive.begun).toEqual([nameOf(at), part]);
    expect(archive.ofKind(part, 'delivery')).toMatchObject([{ id: sentAgain?.id, attemptCount: 2 }]);
    expect(archive.ofKind(part, 'attempt')).toHaveLength(2);
    expect(await rows()).toEqual({ events: 0, deliveries: 0, attempts: 0 });
  });

  it('waits for events of the day that are in the outbox, and leaves pending deliveries and their events in the tables', async () => {
    const { id } = await listen();
    const at = app.clock.now();
    await publish(1);
    app.clock.advance(3 * DAY);
    await app.dispatcher.runChores();
    expect(archive.begun).toEqual([]);
    await app.listeners.disable(id);
    await app.dispatcher.drain();
    await publish(1, 'note.read');
    app.clock.advance(5 * MINUTE);
    await app.dispatcher.runChores();
    // The only event of the day has a held delivery.
    expect(archive.begun).toEqual([]);
    expect(await app.deliveries.counts()).toMatchObject({ held: 1 });
    await app.listeners.enable(id);
    await app.dispatcher.drain();
    app.clock.advance(DAY);
    await app.dispatcher.runChores();
    expect(archive.begun).toEqual([expect.stringContaining(nameOf(at).slice(0, 10))]);
    expect(await rows()).toMatchObject({ events: 1, deliveries: 0 });
  });

  it('gets damaged events with the reason', async () => {
    await listen();
    const at = app.clock.now();
    await publish();
    await app.dataSource.query(`UPDATE webhook_events SET payload = 'no JSON'`);
    vi.spyOn(console, 'error').mockImplementation(() => undefined);
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    await app.dispatcher.runChores();
    expect(archive.ofKind(nameOf(at), 'event')).toMatchObject([
      { payload: 'no JSON', damaged: expect.stringContaining('JSON') as string },
    ]);
    expect(await countRows(app.dataSource, 'events', 'damaged')).toEqual({ events: 0, damaged: 0 });
  });

  it('works in the background while the dispatcher runs, and logs one error until it works again', async () => {
    const logged = vi.fn();
    app.app.useLogger({ log: logged, error: logged, warn: logged });
    const errors = () =>
      logged.mock.calls.map(([text]) => String(text)).filter((text) => text.includes('archive failed'));
    await publish();
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    const failed = new Promise<void>((resolve) => {
      archive.read = () => {
        resolve();
        return Promise.reject(new Error('the bucket is gone'));
      };
    });
    app.dispatcher.start();
    app.dispatcher.wakeChores();
    await failed;
    await vi.waitFor(() => expect(errors()).toHaveLength(1), 10_000);
    archive.read = textOf;
    await app.dispatcher.stop();
    app.clock.advance(5 * MINUTE);
    await app.dispatcher.runChores();
    expect(archive.files.size).toBe(1);
    expect(errors()).toEqual(['The archive failed and is retried. The rows stay until it works: the bucket is gone']);
  });

  it('has of a failed attempt why it was made, by whom, its headers and its phases', async () => {
    const { id } = await listen({ headers: { 'x-tenant': 'acme' } });
    const at = app.clock.now();
    await publish();
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    app.receiver.respond({ status: 503, headers: { 'x-request-id': 'r1' } });
    await app.deliveries.withActor('ann@example.com').resend(delivery?.id ?? '');
    await app.dispatcher.drain();
    app.receiver.respond({ status: 204 });
    const { deliveryId } = await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    const { attempts } = await app.deliveries.get(delivery?.id ?? '');
    app.clock.advance(3 * DAY);
    await app.dispatcher.runChores();
    const lines = archive.ofKind(nameOf(at), 'attempt');
    const none = { url: null, requestHeaders: null, responseHeaders: null, omittedHeaders: 0, phases: null };
    expect(lines.filter((line) => line.deliveryId === delivery?.id)).toMatchObject([
      { number: 1, trigger: 'schedule', triggeredBy: null, ...none },
      {
        ...{ number: 2, trigger: 'resend', triggeredBy: 'ann@example.com', url: app.receiver.url, omittedHeaders: 0 },
        ...{ requestHeaders: { 'x-tenant': 'acme' }, responseHeaders: { 'x-request-id': 'r1' } },
        phases: attempts[1]?.phases,
      },
    ]);
    expect(attempts[1]?.phases).not.toBeNull();
    expect(lines.filter((line) => line.deliveryId === deliveryId)).toMatchObject([{ trigger: 'test' }]);
  });

  it('has the older version in which a delivery was rendered', async () => {
    const note = { type: 'note.sent', version: 2, versions: { 1: ({ n }: Record<string, unknown>) => ({ n }) } };
    const versioned = await start({ publishedTypes: [note as never] });
    const at = versioned.clock.now();
    const old = await versioned.listeners.create({
      ...{ events: ['note.sent'], url: versioned.receiver.url },
      versions: { 'note.sent': 1 },
    });
    await versioned.listeners.create({ events: ['note.sent'], url: versioned.receiver.url });
    await versioned.webhooks.publish('note.sent', { n: 1, more: 2 });
    await versioned.dispatcher.drain();
    versioned.clock.advance(3 * DAY);
    await versioned.dispatcher.runChores();
    const versionOf = archive.ofKind(nameOf(at), 'delivery').map((line) => [line.listenerId === old.id, line.version]);
    expect(versionOf).toEqual(
      expect.arrayContaining([
        [true, 1],
        [false, null],
      ]),
    );
  });

  it('keeps its rows from a process without an archive, until a week after the last process with one', async () => {
    const other = await start({ parts: { retrySchedule: Once } });
    const warnings: string[] = [];
    vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warnings.push(String(text)));
    await listen();
    const at = app.clock.now();
    await publish(3);
    await app.dispatcher.drain();
    app.clock.set(at + 3 * DAY);
    const before = await rows();
    archive.read = () => Promise.reject(new Error('the bucket is away'));
    await expect(app.dispatcher.runChores()).rejects.toThrow('the bucket is away');
    for (const days of [3, 5, 9]) {
      other.clock.set(at + days * DAY);
      expect(await other.dispatcher.runChores()).toMatchObject({ events: 0, deliveries: 0 });
    }
    expect(await rows()).toEqual(before);
    expect(warnings).toEqual([expect.stringContaining('this process has no `parts.archive`')]);
    // The file has every row that the process without an archive has left.
    archive.read = textOf;
    app.clock.set(at + 9 * DAY);
    await app.dispatcher.runChores();
    expect(archive.ofKind(nameOf(at), 'end')).toMatchObject([{ events: 3, deliveries: 3 }]);
    // The application has removed its archive.
    app.clock.set(at + 10 * DAY);
    await publish(2);
    await app.dispatcher.drain();
    other.clock.set(at + 15 * DAY);
    expect(await other.dispatcher.runChores()).toMatchObject({ events: 0 });
    other.clock.set(at + 17 * DAY);
    await other.dispatcher.runChores();
    expect(await rows()).toMatchObject({ events: 0, deliveries: 0 });
  });

  it('keeps its rows from other processes from its start, before it looks for old rows', async () => {
    const other = await start({ parts: { retrySchedule: Once } });
    const starting = await apps.start({
      entities: [],
      webhooks: {
        publishedTypes: TYPES,
        retention: ONE_DAY,
        parts: { retrySchedule: Once, archive: { useValue: archive } },
      },
    });
    starting.clock.set(other.clock.now());
    await publish();
    await app.dispatcher.drain();
    starting.dispatcher.start();
    await vi.waitFor(async () => {
      const [mark] = await app.dataSource.query<unknown[]>("SELECT 1 FROM webhook_settings WHERE name = 'archiving'");
      expect(mark).toBeDefined();
    });
    other.clock.advance(3 * DAY);
    expect(await other.dispatcher.runChores()).toMatchObject({ events: 0 });
    expect(await rows()).toMatchObject({ events: 1 });
    expect(archive.begun).toEqual([]);
  });

  it('needs retention', async () => {
    await expect(start({ retention: false })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('`parts.archive`') as string,
    });
  });
});

describeOn('postgres', 'an archive of tables with partitions', (target) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let archive: MemoryArchive;
  beforeEach(async () => {
    fresh = await target.create();
    await createPartitioned(fresh.options);
    archive = new MemoryArchive();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: TYPES,
        retention: ONE_DAY,
        parts: { retrySchedule: Once, archive: { useValue: archive } },
      },
    });
    app.clock.set(Math.floor(app.clock.now() / DAY) * DAY + DAY / 2);
  });
  afterEach(async () => {
    await app?.close();
    await fresh.drop();
  });
  const hasPartition = async (at: number) => {
    const name = `webhook_events_p${new Date(at).toISOString().slice(0, 10).replaceAll('-', '')}`;
    const [row] = await app.dataSource.query<{ name: string | null }[]>(`select to_regclass('${name}') as name`);
    return row?.name !== null;
  };

  it('drops the partitions of a day when its file is stored, and not before; also those of days without rows', async () => {
    const at = app.clock.now();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.webhooks.publish('note.sent', {});
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    archive.read = () => Promise.reject(new Error('not now'));
    await expect(app.dispatcher.runChores()).rejects.toThrow('not now');
    expect(await hasPartition(at)).toBe(true);
    expect(await hasPartition(at - DAY)).toBe(false);
    archive.read = textOf;
    app.clock.advance(5 * MINUTE);
    expect(await app.dispatcher.runChores()).toEqual({ discarded: 0, deliveries: 0, events: 0 });
    expect(await hasPartition(at)).toBe(false);
    expect(archive.ofKind(nameOf(at), 'end')).toEqual([{ kind: 'end', events: 1, deliveries: 1, attempts: 1 }]);
    expect(await countRows(app.dataSource, 'events', 'deliveries')).toEqual({ events: 0, deliveries: 0 });
  }, 180_000);

  it('keeps its partitions from a process without an archive, which drops only days without rows', async () => {
    const other = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: TYPES, retention: ONE_DAY, parts: { retrySchedule: Once } },
    });
    try {
      other.clock.set(app.clock.now());
      await app.dispatcher.runChores();
      const at = app.clock.now();
      await app.webhooks.publish('note.sent', {});
      await app.dispatcher.drain();
      for (const days of [3, 4]) {
        other.clock.set(at + days * DAY);
        await other.dispatcher.runChores();
        expect([days, await hasPartition(at)]).toEqual([days, true]);
      }
      expect(await hasPartition(at + DAY)).toBe(false);
      expect(await countRows(app.dataSource, 'events')).toEqual({ events: 1 });
      other.clock.set(at + 9 * DAY);
      await other.dispatcher.runChores();
      expect(await hasPartition(at)).toBe(false);
    } finally {
      await other.close();
    }
  }, 180_000);

  it('keeps the partition of a day in which a delivery was attempted after the file was read', async () => {
    const at = app.clock.now();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.webhooks.publish('note.sent', {});
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    app.clock.advance(3 * DAY);
    archive.read = async (lines) => {
      const text = await textOf(lines);
      await app.deliveries.resend(delivery?.id ?? '');
      await app.dispatcher.drain();
      return text;
    };
    await app.dispatcher.runChores();
    archive.read = textOf;
    expect(await hasPartition(at)).toBe(true);
    expect(await app.deliveries.get(delivery?.id ?? '')).toMatchObject({ attemptCount: 2 });
    app.clock.advance(DAY);
    await app.dispatcher.runChores();
    expect(archive.ofKind(nameOf(at).replace('.ndjson', '.part-1.ndjson'), 'attempt')).toHaveLength(2);
    expect(await hasPartition(at)).toBe(false);
  }, 180_000);

  it('waits for a task, and keeps events that were restored lately when the rest of their day is archived', async () => {
    const at = app.clock.now();
    const events = app.app.get(EventService);
    const tasks = app.app.get(TaskService);
    for (let n = 0; n < 2; n++) await app.webhooks.publish('note.sent', { n });
    await app.dispatcher.drain();
    app.clock.advance(3 * DAY);
    const { id } = await app.listeners.create({ events: ['note.sent'], url: app.receiver.url });
    const task = await tasks.create({ kind: 'replay', listenerId: id, since: new Date(at), until: new Date(at) });
    await app.dispatcher.runChores();
    const text = archive.files.get(nameOf(at)) ?? '';
    expect(await countRows(app.dataSource, 'events')).toEqual({ events: 2 });
    expect(await hasPartition(at)).toBe(true);
    // One of the two is restored into the partition, which still has the other.
    await app.dataSource.query('delete from webhook_events where seq = (select min(seq) from webhook_events)');
    expect(await events.restore([text])).toMatchObject({ restored: 1 });
    await tasks.cancel(task.id);
    app.clock.advance(5 * MINUTE);
    await app.dispatcher.runChores();
    expect(await countRows(app.dataSource, 'events')).toEqual({ events: 1 });
    expect(await hasPartition(at)).toBe(true);
    app.clock.advance(2 * DAY);
    await app.dispatcher.runChores();
    expect(archive.ofKind(nameOf(at).replace('.ndjson', '.part-1.ndjson'), 'event')).toHaveLength(1);
    expect(await hasPartition(at)).toBe(false);
  }, 180_000);
});
