import type { ServerResponse } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import { messageOf } from '../foreign-text.js';
import { MINUTE, SECOND } from '../time.js';
import type { WebhooksLogger } from '../webhooks-logger.js';
import type { Principal } from './access.js';
import { ApiError } from './api-error.js';
import { writeCursor, type Positions, type StreamCursor } from './stream-cursor.js';
import { StreamReader, type StreamFilter } from './stream-reader.js';
import type { StreamChange, StreamRange, StreamSource } from './stream-source.js';

const POLL_MS = 2 * SECOND;
const OVERLAP_MS = 10 * SECOND;
const HEARTBEAT_MS = 15 * SECOND;
/** The longest duration of a stream. When the reader reconnects, the application's login is checked again. */
const LONGEST_MS = 15 * MINUTE;
const SENT_AT_ONCE = 50;
const COMES_BACK_AFTER_MS = 2 * SECOND;
/** The maximum number of open streams of all principals together. */
const MOST_STREAMS = 1_000;

/** A stream that is allowed but not open yet. The caller must call `open()` or `cancel()`. */
export interface ReservedStream {
  readonly open: (response: ServerResponse) => void;
  readonly cancel: () => void;
}

/**
 * The open streams of one module. While any stream is open, one poll for all streams runs every 2 s. Each poll reads the changes of the
 * last 10 s again, because transactions do not commit in the order in which they began.
 */
export class Streams {
  private readonly readers = new Set<StreamReader>();
  private readonly reserved = new Map<string, number>();
  private isClosed = false;
  private timer: NodeJS.Timeout | undefined;
  private polling: Promise<void> = Promise.resolve();
  /** The last positions of earlier polls, the oldest first. */
  private history: { readonly polledAt: number; readonly last: Positions }[] = [];
  /** When polling began. Older changes are not sent as new. */
  private newsFrom = 0;
  private readonly seen = new Map<string, { readonly key: string; readonly position: number }>();
  private isPolling = false;
  private isFailing = false;

  constructor(
    private readonly sources: readonly StreamSource[],
    private readonly parts: {
      readonly now: () => number;
      readonly logger: Pick<WebhooksLogger, 'warn'>;
      readonly perPrincipal: number;
    },
  ) {}

  /** @throws ApiError `CAPABILITY_MISSING`, `TOO_MANY_STREAMS`, `SHUTTING_DOWN` */
  reserve(filter: StreamFilter, missedSince: StreamCursor | null): ReservedStream {
    const { principal } = filter;
    const capabilities = [...new Set(this.sources.map(({ capability }) => capability))];
    if (!capabilities.some((one) => principal.can.includes(one))) {
      throw new ApiError(
        'CAPABILITY_MISSING',
        403,
        `This call needs one of the capabilities ${capabilities.join(', ')}.`,
      );
    }
    if (this.isClosed) throw shuttingDown();
    const release = this.take(principal);
    return { cancel: release, open: (response) => this.open(filter, missedSince, response, release) };
  }

  /** Ends every stream, and refuses new streams. */
  async close(): Promise<void> {
    this.isClosed = true;
    for (const reader of this.readers) reader.end();
    await this.polling;
  }

  private take({ kind, owner, actor }: Principal): () => void {
    const name = JSON.stringify([kind, owner, actor]);
    const count = this.reserved.get(name) ?? 0;
    const total = [...this.reserved.values()].reduce((sum, one) => sum + one, 0);
    if (count >= this.parts.perPrincipal || total >= MOST_STREAMS) throw tooManyStreams(count);
    this.reserved.set(name, count + 1);
    return () => {
      const left = (this.reserved.get(name) ?? 1) - 1;
      if (left > 0) this.reserved.set(name, left);
      else this.reserved.delete(name);
    };
  }

  private open(
    filter: StreamFilter,
    missedSince: StreamCursor | null,
    response: ServerResponse,
    release: () => void,
  ): void {
    const reader = new StreamReader(filter, response, missedSince ? 0 : this.parts.now());
    const timers = this.timersOf(reader);
    response.once('close', () => {
      release();
      for (const timer of timers) clearTimeout(timer);
      this.readers.delete(reader);
      if (this.readers.size === 0) this.stop();
    });
    if (this.isClosed) return reader.end();
    this.readers.add(reader);
    this.begin(reader, missedSince).catch((error: unknown) => {
      this.warn(error);
      reader.cutOff();
    });
  }

  private timersOf(reader: StreamReader): NodeJS.Timeout[] {
    const { expiresAt } = reader.filter.principal;
    const lastsMs = Math.min(LONGEST_MS, Number(expiresAt ?? Infinity) - this.parts.now());
    const heartbeat = setInterval(() => this.heartbeat(reader), HEARTBEAT_MS);
    return [heartbeat.unref(), setTimeout(() => reader.end(), Math.max(0, lastsMs)).unref()];
  }

  /** Keeps the connection open, and moves the cursor of a reader without changes. */
  private heartbeat(reader: StreamReader): void {
    reader.sendLive(`: hb\nid: ${this.liveCursor}\n\n`);
    reader.filter.check?.().catch((error: unknown) => {
      // Other errors, such as an unavailable database, leave the stream open: they do not prove that the session is invalid.
      if (error instanceof ApiError) reader.end();
    });
  }

  /** Starts polling, sends the changes that the reader missed, and then new changes. */
  private async begin(reader: StreamReader, missedSince: StreamCursor | null): Promise<void> {
    await this.start();
    await reader.sendMissed(`: open\nretry: ${COMES_BACK_AFTER_MS}\nid: ${this.liveCursor}\n\n`);
    if (missedSince) await this.sendMissed(reader, missedSince);
    await reader.sendMissed(': current\n\n');
    reader.begin();
  }

  private async sendMissed(reader: StreamReader, since: StreamCursor): Promise<void> {
    const last = await this.lastPositions();
    for (const source of this.sources) {
      const upTo = last[source.key] as number;
      const range = { after: since.positions[source.key] ?? upTo, upTo };
      // The position is from another state of the database, for example from before a restore.
      const isForeign = range.after > upTo;
      const canSend = !isForeign && !isTooFar(source, range);
      if (!canSend || !(await this.sendMissedOf(reader, source, { range, since }))) {
        await reader.sendMissed(resetText(since, this.liveCursor));
      }
    }
  }

  /** @returns whether the changes could be read */
  private async sendMissedOf(
    reader: StreamReader,
    source: StreamSource,
    { range, since }: { range: StreamRange; since: StreamCursor },
  ): Promise<boolean> {
    for (const part of rangesOf(source, range)) {
      const changes = await source.read([reader.scope], part);
      if (!changes) return false;
      let passed = part.after;
      for (const change of changes) {
        const cursor = { ...since, positions: { ...since.positions, [source.key]: passed } };
        const text = writer(source, cursor)(change)(reader.filter.principal.kind);
        if (reader.accepts(source, change)) await reader.sendMissed(text);
        // No transaction can still add older changes. So a reader that is cut off here does not need them again.
        if (change.at < this.parts.now() - OVERLAP_MS) passed = change.position;
      }
    }
    return true;
  }

  /** Starts polling for the first reader. Later readers share the polls. */
  private async start(): Promise<void> {
    if (!this.history.length) {
      const last = await this.lastPositions();
      // The only reader may have disconnected in the meantime.
      if (!this.readers.size) return;
      this.newsFrom = this.parts.now() - OVERLAP_MS;
      const first = this.sources.map(({ key, beginsBefore }) => [key, (last[key] as number) - beginsBefore] as const);
      // Another reader may have started polling in the meantime.
      if (!this.history.length) {
        this.history = [
          { polledAt: -Infinity, last: Object.fromEntries(first) },
          { polledAt: performance.now(), last },
        ];
      }
    }
    this.timer ??= setInterval(() => this.poll(), POLL_MS).unref();
  }

  private stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.history = [];
    this.seen.clear();
  }

  /** Only one poll runs at a time, so a slow database does not get more and more queries. */
  private poll(): void {
    if (this.isPolling) return;
    this.isPolling = true;
    this.polling = this.readNews()
      .then(
        () => (this.isFailing = false),
        (error: unknown) => this.warn(error),
      )
      .then(() => void (this.isPolling = false));
  }

  private async readNews(): Promise<void> {
    const last = await this.lastPositions();
    const from = this.rereadFrom(last);
    const cursor = { at: this.parts.now(), positions: from };
    for (const source of this.sources) {
      const interested = [...this.readers].filter(({ filter }) => filter.principal.can.includes(source.capability));
      if (!interested.length) continue;
      const range = { after: from[source.key] as number, upTo: last[source.key] as number };
      if (!(await this.sendNews(source, range, cursor))) this.reset(interested, cursor);
    }
    this.remember(last);
  }

  /** @returns whether the changes could be read */
  private async sendNews(source: StreamSource, range: StreamRange, cursor: StreamCursor): Promise<boolean> {
    if (isTooFar(source, range)) return false;
    for (const part of rangesOf(source, range)) {
      const changes = await source.read(
        [...this.readers].map(({ scope }) => scope),
        part,
      );
      if (!changes) return false;
      for (const [n, change] of changes.entries()) {
        if (this.isNews(source, change)) this.send(source, change, cursor);
        // Let the sockets send. Otherwise a burst of changes would make every reader look too slow.
        if (n % SENT_AT_ONCE === SENT_AT_ONCE - 1) await setImmediate();
      }
    }
    return true;
  }

  private send(source: StreamSource, change: StreamChange, cursor: StreamCursor): void {
    const textFor = writer(source, cursor)(change);
    for (const reader of this.readers) {
      if (reader.accepts(source, change)) reader.sendLive(textFor(reader.filter.principal.kind));
    }
  }

  private isNews({ key }: StreamSource, { id, position, at }: StreamChange): boolean {
    if (this.seen.has(id)) return false;
    this.seen.set(id, { key, position });
    return at >= this.newsFrom;
  }

  private reset(readers: readonly StreamReader[], cursor: StreamCursor): void {
    for (const reader of readers) reader.sendLive(resetText(cursor, writeCursor(cursor)));
  }

  private remember(last: Positions): void {
    // No reader is left.
    if (!this.history.length) return;
    const now = performance.now();
    this.history.push({ polledAt: now, last });
    const firstRecent = this.history.findIndex(({ polledAt }) => polledAt > now - OVERLAP_MS);
    this.history.splice(0, Math.max(0, firstRecent - 1));
    const from = this.rereadFrom(last);
    for (const [id, { key, position }] of this.seen) if (position <= (from[key] as number)) this.seen.delete(id);
  }

  /** The positions after which a poll reads: the poll covers the last 10 s, and everything since the last poll. */
  private rereadFrom(last: Positions): Positions {
    const earlier = this.history.findLast(({ polledAt }) => polledAt <= performance.now() - OVERLAP_MS);
    const before = (earlier ?? this.history[0])?.last ?? last;
    const polled = this.history.at(-1)?.last ?? last;
    const entries = this.sources.map(({ key, overlap: [least, most] }) => {
      const from = Math.max(before[key] as number, (polled[key] as number) - most);
      return [key, Math.min((last[key] as number) - least, from)] as const;
    });
    return Object.fromEntries(entries);
  }

  /** A reader that reconnects with this cursor misses nothing. */
  private get liveCursor(): string {
    const last = this.history.at(-1)?.last ?? {};
    return writeCursor({ at: this.parts.now(), positions: this.history.length ? this.rereadFrom(last) : {} });
  }

  /** The last position of each source. It never goes back while a stream is open, even if a table is emptied. */
  private async lastPositions(): Promise<Positions> {
    const known = this.history.at(-1)?.last ?? {};
    const entries = await Promise.all(
      this.sources.map(async ({ key, last }) => [key, Math.max(known[key] ?? 0, await last())] as const),
    );
    return Object.fromEntries(entries);
  }

  /** Logs once for each outage. The next poll runs 2 s later and reads the changes that this poll missed. */
  private warn(error: unknown): void {
    if (!this.isFailing) {
      this.parts.logger.warn(
        `The streams of the API could not read the latest changes and are retried: ${messageOf(error)}`,
      );
    }
    this.isFailing = true;
  }
}

function isTooFar({ farthest }: StreamSource, { after, upTo }: StreamRange): boolean {
  return upTo - after > farthest;
}

function* rangesOf({ step }: StreamSource, { after, upTo }: StreamRange): Generator<StreamRange> {
  for (let from = after; from < upTo; from += step) yield { after: from, upTo: Math.min(upTo, from + step) };
}

/** Writes a change as text: at most once for operators and once for owners, however many readers there are. */
function writer({ event }: StreamSource, cursor: StreamCursor) {
  const id = writeCursor(cursor);
  return (change: StreamChange) => {
    const texts = new Map<Principal['kind'], string>();
    return (kind: Principal['kind']): string => {
      const made = texts.get(kind) ?? eventText(event, id, { id: change.id, ...change.dataFor(kind) });
      texts.set(kind, made);
      return made;
    };
  };
}

/** A message of the event stream. JSON on one line contains no line break, because it escapes line breaks in strings. */
function eventText(event: string, id: string, data: object): string {
  return `event: ${event}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** Makes the reader read its lists again, because there were more changes than the stream can send. */
function resetText({ at }: StreamCursor, id: string): string {
  return eventText('reset', id, { id: `reset.${at}`, since: new Date(at) });
}

function tooManyStreams(count: number): ApiError {
  return new ApiError('TOO_MANY_STREAMS', 429, `There are ${count} open streams. Close one of them, and try again.`, {
    headers: { 'Retry-After': '10' },
  });
}

function shuttingDown(): ApiError {
  return new ApiError('SHUTTING_DOWN', 503, 'This process is stopping. Try again.', {
    headers: { 'Retry-After': '2' },
  });
}
