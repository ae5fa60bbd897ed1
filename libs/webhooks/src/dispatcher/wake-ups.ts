import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { LoggerService } from '@nestjs/common';
import sql from 'sql-template-tag';
import { tupleHash } from '../hash.js';
import type { ServerDatabase } from '../store/database/server-database.js';
import { TroubleLog } from '../webhooks-logger.js';
import { SECOND, MINUTE } from '../time.js';
import { messageOf } from '../foreign-text.js';

/**
 * The parts of `pg` that are used here. The driver is the one that TypeORM has loaded; this module never imports
 * `pg`.
 */
interface PgDriver {
  readonly postgres: { Client: new (options: object) => PgClient };
  readonly master: { readonly options: { readonly password?: unknown; readonly connectionTimeoutMillis?: number } };
  readonly schema: string | undefined;
}

interface PgClient {
  connect(): Promise<unknown>;
  query(text: string): Promise<unknown>;
  end(): Promise<void>;
  on(event: 'notification', notified: (message: { payload?: string }) => void): void;
  on(event: 'error', failed: (error: Error) => void): void;
  on(event: 'end', ended: () => void): void;
}

/**
 * Minimum time between two notifications of a process. Commits within it share one notification: the receiver looks
 * for all pending work.
 */
const AT_MOST_EVERY_MS = 20;
/** A connection that has not received this process's own notification within this time passes no notifications on. */
const OWN_NOTIFICATION_WITHIN_MS = 5 * SECOND;
const CONNECTED_WITHIN_MS = 10 * SECOND;
/** If the server does not close the connection within this time, the process stops waiting for it. */
const ENDED_WITHIN_MS = SECOND;
/** A connection that was silent for this long is checked with a query, because a server that vanished sends nothing. */
const CHECK_EVERY_MS = 30 * SECOND;
const ANSWERED_WITHIN_MS = 3 * SECOND;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30 * SECOND;
/** Pause after a connection without notifications. A retry helps only if the server was slow, not if a pooler is in between. */
const PAUSE_WHEN_SILENT_MS = 10 * MINUTE;

/**
 * Wakes the other processes on one PostgreSQL database when there may be work.
 *
 * A process notifies after the commit and over the module's own pool. A NOTIFY inside the user's transaction makes
 * all commits of the server queue for one lock (13,500 transactions/s became 4,600). A notification carries no data,
 * so it may be lost: the poll finds the same work.
 *
 * A dispatcher listens on a separate connection, and only while it runs. The connection counts as working once it has
 * received this process's own notification, because a pooler in transaction mode accepts LISTEN and then passes
 * nothing on. A lost connection is replaced after a pause that doubles. Notifications in between are lost, so the new
 * connection starts with a wake-up.
 */
export class WakeUps {
  /** Payload of the notifications of this process, to recognize its own. */
  private readonly id = randomUUID();
  private readonly channel: string;
  private readonly driver: PgDriver;
  private nextAt = 0;
  private willAnnounce = false;
  private announced: Promise<void> = Promise.resolve();
  private isClosed = false;
  private listening: { readonly stop: AbortController; readonly ended: Promise<void> } | null = null;
  private readonly lost = new TroubleLog();
  /** The log says already that no notifications arrive. */
  private isSilentLogged = false;

  /** @param url of a direct connection for LISTEN, if the data source connects through a pooler */
  constructor(
    private readonly database: ServerDatabase,
    private readonly url: string | undefined,
    private readonly logger: LoggerService,
  ) {
    this.driver = database.dataSource.driver as unknown as PgDriver;
    const { schema, tableName } = database.tables.events.metadata;
    // Channels are separate for each database of a PostgreSQL server.
    this.channel = `webhooks_${tupleHash(schema ?? this.driver.schema ?? '', tableName).toString('hex')}`;
  }

  /** Notifies the other processes that there may be work, now or within 20 ms, together with later calls. */
  announce(): void {
    if (this.willAnnounce || this.isClosed) return;
    this.willAnnounce = true;
    this.announced = this.announced.then(() => this.announceInTurn());
  }

  /**
   * Listens until {@link unlisten}, and reconnects when needed. Does nothing if it listens already.
   * @param notified called when there may be work
   */
  listen(notified: () => void): void {
    if (this.listening || this.isClosed) return;
    const stop = new AbortController();
    this.listening = { stop, ended: this.keepListening(notified, stop.signal) };
  }

  /** Ends {@link listen}. */
  async unlisten(): Promise<void> {
    const { listening } = this;
    listening?.stop.abort();
    await listening?.ended;
    if (this.listening === listening) this.listening = null;
  }

  /** Sends a notification that is still pending, and no more after it. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.unlisten();
    // If the server does not answer, other processes find the work by their poll.
    await Promise.race([this.announced, pause(ENDED_WITHIN_MS, undefined, { ref: false })]);
  }

  private async announceInTurn(): Promise<void> {
    const waitMs = this.nextAt - performance.now();
    if (waitMs > 0) await pause(waitMs);
    // Commits from here on may come too late for this notification, so they need another one.
    this.willAnnounce = false;
    try {
      await this.notify();
    } catch (error) {
      this.logger.debug?.(`Other processes could not be notified and find the work by their poll: ${messageOf(error)}`);
    }
    this.nextAt = performance.now() + AT_MOST_EVERY_MS;
  }

  private async notify(): Promise<void> {
    const { channel, id } = this;
    await this.database.single(function* () {
      yield sql`select pg_notify(${channel}, ${id})`;
    }, 'work');
  }

  private async keepListening(notified: () => void, stopped: AbortSignal): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    while (!stopped.aborted) {
      let nextMs = pauseMs;
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
      try {
        const isWorking = await this.listenOnce(stopped, notified, () => {
          nextMs = FIRST_PAUSE_MS;
          pauseMs = 2 * FIRST_PAUSE_MS;
          this.logWorks();
          // Earlier notifications are lost.
          notified();
        });
        if (!isWorking) {
          nextMs = PAUSE_WHEN_SILENT_MS;
          this.logSilent();
        }
      } catch (error) {
        if (!stopped.aborted) this.logLost(error);
      }
      await pause(nextMs * (0.5 + Math.random() / 2), undefined, { signal: stopped, ref: false }).catch(
        () => undefined,
      );
    }
  }

  /**
   * Listens on a new connection. Rejects when the connection is lost.
   *
   * @param works called when the connection has received this process's own notification
   * @returns `false` when the connection passes no notifications on
   */
  private async listenOnce(stopped: AbortSignal, notified: () => void, works: () => void): Promise<false> {
    const client = this.newClient();
    let lose: (error: Error) => void = () => undefined;
    const lost = new Promise<never>((_, reject) => (lose = reject));
    const stop = () => lose(new Error('listening was stopped'));
    let receiveOwn: (is: true) => void = () => undefined;
    const own = new Promise<true>((resolve) => (receiveOwn = resolve));
    // Without this listener an error of the connection ends the process.
    client.on('error', lose);
    client.on('end', () => lose(new Error('the connection was closed')));
    client.on('notification', ({ payload }) => (payload === this.id ? receiveOwn(true) : notified()));
    stopped.addEventListener('abort', stop);
    const timeout = new AbortController();
    try {
      const check = async () => {
        await client.connect();
        await client.query(`LISTEN ${this.channel}`);
        await this.notify();
        return Promise.race([own, pause(OWN_NOTIFICATION_WITHIN_MS, false, { signal: timeout.signal })]);
      };
      const isWorking = await Promise.race([within(2 * CONNECTED_WITHIN_MS, check(), timeout.signal), lost]);
      if (!isWorking) return false;
      works();
      return await Promise.race([this.keepChecking(client, timeout.signal), lost]);
    } finally {
      stopped.removeEventListener('abort', stop);
      const ended = client.end().catch(() => undefined);
      await Promise.race([ended, pause(ENDED_WITHIN_MS, undefined, { signal: timeout.signal }).catch(() => undefined)]);
      timeout.abort();
    }
  }

  /** Rejects when the server does not answer. */
  private async keepChecking(client: PgClient, ended: AbortSignal): Promise<never> {
    for (;;) {
      await pause(CHECK_EVERY_MS, undefined, { signal: ended, ref: false });
      await within(ANSWERED_WITHIN_MS, client.query('SELECT 1'), ended);
    }
  }

  private newClient(): PgClient {
    const { postgres, master } = this.driver;
    // The pool makes its password non-enumerable, so a spread does not copy it.
    const {
      options,
      options: { password },
    } = master;
    return new postgres.Client({
      connectionTimeoutMillis: CONNECTED_WITHIN_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: CONNECTED_WITHIN_MS,
      ...options,
      // Otherwise `end()` waits for the answer to a statement that is never answered.
      pipeline: false,
      ...(this.url === undefined ? { password } : { connectionString: this.url }),
    });
  }

  private logWorks(): void {
    if (this.lost.recovered() || this.isSilentLogged)
      this.logger.log('This process receives wake-ups of other processes again.');
    this.isSilentLogged = false;
  }

  private logLost(error: unknown): void {
    if (this.isSilentLogged || !this.lost.failed()) return;
    this.logger.warn(
      `The connection that listens for commits of other processes was lost and is being replaced. Until then the poll finds these commits: ${messageOf(error)}`,
    );
  }

  private logSilent(): void {
    if (this.isSilentLogged) return;
    this.isSilentLogged = true;
    this.logger.warn(
      'LISTEN receives no notifications. The usual cause is a pooler in transaction mode. Only the poll finds commits of other processes. Set `wakeUp.url` to a direct connection to the server, or set `wakeUp: false`.',
    );
  }
}

/** @throws when the answer takes longer */
async function within<T>(limitMs: number, answer: Promise<T>, ended: AbortSignal): Promise<T> {
  const late = pause(limitMs, undefined, { signal: ended, ref: false }).then(() => {
    throw new Error(`the server did not answer within ${limitMs / SECOND} s`);
  });
  return Promise.race([answer, late]);
}
