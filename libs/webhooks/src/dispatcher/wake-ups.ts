import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { LoggerService } from '@nestjs/common';
import sql from 'sql-template-tag';
import { tupleHash } from '../hash.js';
import type { ServerDatabase } from '../store/database/server-database.js';
import { TroubleLog } from './troubles.js';
import { SECOND, MINUTE } from '../time.js';
import { messageOf } from '../foreign-text.js';

/** The parts of `pg` that are used here; the driver is the one that TypeORM has loaded, and never imported. */
interface PgDriver {
  readonly postgres: { Client: new (options: object) => PgClient };
  readonly master: { readonly options: { readonly password?: unknown; readonly connectionTimeoutMillis?: number } };
  readonly schema: string | undefined;
}

interface PgClient {
  connect(): Promise<unknown>;
  query(text: string): Promise<unknown>;
  end(): Promise<void>;
  on(event: 'notification', heard: (message: { payload?: string }) => void): void;
  on(event: 'error', failed: (error: Error) => void): void;
  on(event: 'end', ended: () => void): void;
}

/** No process notifies more often. What comes within it is one notification: those who hear it look for all there is. */
const AT_MOST_EVERY_MS = 20;
/** A connection on which this process has not heard its own notification by then passes none on. */
const HEARD_WITHIN_MS = 5 * SECOND;
const CONNECTED_WITHIN_MS = 10 * SECOND;
/** A connection that its server does not let go of is left to itself. */
const ENDED_WITHIN_MS = SECOND;
/** A connection that heard nothing for so long is asked whether it is there: a server that vanished tells nobody. */
const ASKED_EVERY_MS = 30 * SECOND;
const ANSWERED_WITHIN_MS = 3 * SECOND;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30 * SECOND;
/** A pooler will not change its ways; a server that was slow will. */
const PAUSE_WHEN_DEAF_MS = 10 * MINUTE;

/**
 * What processes on one PostgreSQL database say to each other: there may be work.
 *
 * Said after the commit and over the module's own pool: a NOTIFY within a user's transaction makes all commits of the server
 * queue up for one lock (13,500 transactions/s became 4,600). It carries nothing, so it may be lost: the poll finds what it
 * would have told of.
 *
 * Heard over a connection of its own, only while this process dispatches. A connection counts when it has heard this process'
 * own notification, as a pooler in transaction mode accepts LISTEN and then passes nothing on. When one is lost it is
 * replaced, after a pause that doubles, and as soon as the new one hears there may be work: what was said meanwhile is lost.
 */
export class WakeUps {
  /** What this process says, so that it knows its own voice. */
  private readonly id = randomUUID();
  private readonly channel: string;
  private readonly driver: PgDriver;
  private nextAt = 0;
  private willAnnounce = false;
  private announced: Promise<void> = Promise.resolve();
  private isClosed = false;
  private listening: { readonly stop: AbortController; readonly ended: Promise<void> } | null = null;
  private readonly lost = new TroubleLog();
  /** The log has been told that nothing can be heard. */
  private isKnownDeaf = false;

  /** @param url of a direct connection to listen on, where the data source goes through a pooler */
  constructor(
    private readonly database: ServerDatabase,
    private readonly url: string | undefined,
    private readonly logger: LoggerService,
  ) {
    this.driver = database.dataSource.driver as unknown as PgDriver;
    const { schema, tableName } = database.tables.events.metadata;
    // PostgreSQL itself keeps the databases of a server apart.
    this.channel = `webhooks_${tupleHash(schema ?? this.driver.schema ?? '', tableName).toString('hex')}`;
  }

  /** Tells the other processes that there may be work: at once, or with what else there is to tell within 20 ms. */
  announce(): void {
    if (this.willAnnounce || this.isClosed) return;
    this.willAnnounce = true;
    this.announced = this.announced.then(() => this.announceInTurn());
  }

  /** Hears from now on, and keeps hearing; does nothing when it does. @param heard called when there may be work */
  listen(heard: () => void): void {
    if (this.listening || this.isClosed) return;
    const stop = new AbortController();
    this.listening = { stop, ended: this.keepListening(heard, stop.signal) };
  }

  /** Ends {@link listen}. */
  async unlisten(): Promise<void> {
    const { listening } = this;
    listening?.stop.abort();
    await listening?.ended;
    if (this.listening === listening) this.listening = null;
  }

  /** Says what was still to be said, and nothing more. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.unlisten();
    // What a server that does not answer is not told, others find by their poll.
    await Promise.race([this.announced, pause(ENDED_WITHIN_MS, undefined, { ref: false })]);
  }

  private async announceInTurn(): Promise<void> {
    const waitMs = this.nextAt - performance.now();
    if (waitMs > 0) await pause(waitMs);
    // What happens from here on may not be seen by those who hear this one.
    this.willAnnounce = false;
    try {
      await this.notify();
    } catch (error) {
      this.logger.debug?.(`Other processes were not woken, and find what there is by their poll: ${messageOf(error)}`);
    }
    this.nextAt = performance.now() + AT_MOST_EVERY_MS;
  }

  private async notify(): Promise<void> {
    const { channel, id } = this;
    await this.database.single(function* () {
      yield sql`select pg_notify(${channel}, ${id})`;
    }, 'work');
  }

  private async keepListening(heard: () => void, stopped: AbortSignal): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    while (!stopped.aborted) {
      let nextMs = pauseMs;
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
      try {
        const isHeard = await this.hear(stopped, heard, () => {
          nextMs = FIRST_PAUSE_MS;
          pauseMs = 2 * FIRST_PAUSE_MS;
          this.works();
          // What was said before is lost.
          heard();
        });
        if (!isHeard) {
          nextMs = PAUSE_WHEN_DEAF_MS;
          this.isDeaf();
        }
      } catch (error) {
        if (!stopped.aborted) this.isLost(error);
      }
      await pause(nextMs * (0.5 + Math.random() / 2), undefined, { signal: stopped, ref: false }).catch(
        () => undefined,
      );
    }
  }

  /**
   * Hears on a new connection, until it is lost, which makes it reject.
   *
   * @param works called when it has heard itself
   * @returns `false` when it does not
   */
  private async hear(stopped: AbortSignal, heard: () => void, works: () => void): Promise<false> {
    const client = this.newClient();
    let lose: (error: Error) => void = () => undefined;
    const lost = new Promise<never>((_, reject) => (lose = reject));
    const stop = () => lose(new Error('it was stopped'));
    let hearItself: (is: true) => void = () => undefined;
    const itself = new Promise<true>((resolve) => (hearItself = resolve));
    // Without a listener an error of a connection ends the process.
    client.on('error', lose);
    client.on('end', () => lose(new Error('the connection was closed')));
    client.on('notification', ({ payload }) => (payload === this.id ? hearItself(true) : heard()));
    stopped.addEventListener('abort', stop);
    const timeout = new AbortController();
    try {
      const check = async () => {
        await client.connect();
        await client.query(`LISTEN ${this.channel}`);
        await this.notify();
        return Promise.race([itself, pause(HEARD_WITHIN_MS, false, { signal: timeout.signal })]);
      };
      const isHeard = await Promise.race([within(2 * CONNECTED_WITHIN_MS, check(), timeout.signal), lost]);
      if (!isHeard) return false;
      works();
      return await Promise.race([this.keepAsking(client, timeout.signal), lost]);
    } finally {
      stopped.removeEventListener('abort', stop);
      const ended = client.end().catch(() => undefined);
      await Promise.race([ended, pause(ENDED_WITHIN_MS, undefined, { signal: timeout.signal }).catch(() => undefined)]);
      timeout.abort();
    }
  }

  /** Rejects when the server does not answer. */
  private async keepAsking(client: PgClient, ended: AbortSignal): Promise<never> {
    for (;;) {
      await pause(ASKED_EVERY_MS, undefined, { signal: ended, ref: false });
      await within(ANSWERED_WITHIN_MS, client.query('SELECT 1'), ended);
    }
  }

  private newClient(): PgClient {
    const { postgres, master } = this.driver;
    // The pool hides its password from copies.
    const {
      options,
      options: { password },
    } = master;
    return new postgres.Client({
      connectionTimeoutMillis: CONNECTED_WITHIN_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: CONNECTED_WITHIN_MS,
      ...options,
      // Otherwise its goodbye waits for the answer to a statement that has none.
      pipeline: false,
      ...(this.url === undefined ? { password } : { connectionString: this.url }),
    });
  }

  private works(): void {
    if (this.lost.mended() || this.isKnownDeaf)
      this.logger.log('This process receives wake-ups of other processes again.');
    this.isKnownDeaf = false;
  }

  private isLost(error: unknown): void {
    if (this.isKnownDeaf || !this.lost.failed()) return;
    this.logger.warn(
      `The connection that hears of other processes' commits is lost, and made again; until then they are found by the poll: ${messageOf(error)}`,
    );
  }

  private isDeaf(): void {
    if (this.isKnownDeaf) return;
    this.isKnownDeaf = true;
    this.logger.warn(
      "LISTEN hears nothing, as behind a pooler in transaction mode: other processes' commits are found by the poll only. Give wakeUp.url, a direct connection to the server, or say so with wakeUp: false.",
    );
  }
}

/** @throws when it takes longer */
async function within<T>(limitMs: number, answer: Promise<T>, ended: AbortSignal): Promise<T> {
  const late = pause(limitMs, undefined, { signal: ended, ref: false }).then(() => {
    throw new Error(`the server did not answer within ${limitMs / SECOND} s`);
  });
  return Promise.race([answer, late]);
}
