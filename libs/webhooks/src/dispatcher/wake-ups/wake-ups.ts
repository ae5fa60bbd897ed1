import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { LoggerService } from '@nestjs/common';
import { TroubleLog } from '../../webhooks-logger.js';
import { SECOND, MINUTE } from '../../time.js';
import { messageOf } from '../../foreign-text.js';
import type { ListeningConnection, WakeUpChannel } from './wake-up-channel.js';

/**
 * If a connection has not received the notification of its own process within this time, the connection passes no
 * notifications on.
 */
const OWN_NOTIFICATION_WITHIN_MS = 5 * SECOND;
const CONNECTED_WITHIN_MS = 10 * SECOND;
/** End of the payload if sending was paused or resumed. Then the receiver reads the switch. */
const SWITCHED = ' switched';
/** If the last notification takes longer, the process ends without it. */
const ANNOUNCED_WITHIN_MS = SECOND;
/** A connection that was silent for this time is checked with a query, because a server that is gone sends nothing. */
const CHECK_EVERY_MS = 30 * SECOND;
const ANSWERED_WITHIN_MS = 3 * SECOND;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30 * SECOND;
/**
 * Pause after a connection that passed no notifications on. A retry helps if the server was slow. A retry does not help if a pooler is
 * between this process and the server.
 */
const PAUSE_WHEN_SILENT_MS = 10 * MINUTE;

type Notified = (isSwitched: boolean) => void;

/**
 * Wakes the other processes on one database when there may be work.
 *
 * A process sends a notification after the commit. A notification contains no data that a receiver needs. So a lost notification does no
 * harm: the poll finds the same work.
 *
 * A running dispatcher listens on a separate connection. The connection counts as working when it has received a notification of the same
 * process. This check is needed because a pooler in transaction mode accepts LISTEN and then passes no notifications on. A lost connection
 * is replaced after a pause. The pause doubles with each failure. Notifications during the pause are lost, so the new connection starts
 * with a wake-up.
 */
export class WakeUps {
  /** Payload of the notifications that this process sends. By this payload, the process recognizes its own notifications. */
  private readonly id = randomUUID();
  private nextAt = 0;
  private willAnnounce = false;
  private isSwitched = false;
  private announced: Promise<void> = Promise.resolve();
  private isClosed = false;
  private listening: { readonly stop: AbortController; readonly ended: Promise<void> } | null = null;
  private readonly lost = new TroubleLog();
  /** Whether the log already says that no notifications arrive. */
  private isSilentLogged = false;

  constructor(
    private readonly channel: WakeUpChannel,
    private readonly logger: LoggerService,
  ) {}

  /**
   * Notifies the other processes that there may be work. The notification is sent now, or after
   * {@link WakeUpChannel.pauseMs}. Calls within this time share one notification.
   *
   * @param isSwitched whether sending was paused or resumed
   */
  announce(isSwitched = false): void {
    this.isSwitched ||= isSwitched;
    if (this.willAnnounce || this.isClosed) return;
    this.willAnnounce = true;
    this.announced = this.announced.then(() => this.announceInTurn());
  }

  /**
   * Listens until {@link unlisten} is called, and reconnects when needed. Does nothing if this object already listens.
   * @param notified called when there may be work, and with `true` when sending was paused or resumed
   */
  listen(notified: Notified): void {
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

  /** Sends a notification that is still pending. After this call, no more notifications are sent. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.unlisten();
    // If the server does not answer, other processes find the work by their poll.
    await Promise.race([this.announced, pause(ANNOUNCED_WITHIN_MS, undefined, { ref: false })]);
    this.channel.close();
  }

  private async announceInTurn(): Promise<void> {
    const waitMs = this.nextAt - performance.now();
    if (waitMs > 0) await pause(waitMs);
    // Later commits may be too late for this notification, so they need another notification.
    this.willAnnounce = false;
    try {
      await this.notify();
    } catch (error) {
      this.logger.debug?.(`Other processes could not be notified and find the work by their poll: ${messageOf(error)}`);
    }
    this.nextAt = performance.now() + this.channel.pauseMs;
  }

  private async notify(): Promise<void> {
    const { id } = this;
    const payload = this.isSwitched ? id + SWITCHED : id;
    this.isSwitched = false;
    const answered = new AbortController();
    try {
      await within(ANSWERED_WITHIN_MS, this.channel.notify(payload), answered.signal, () => this.channel.close());
    } finally {
      answered.abort();
    }
  }

  private async keepListening(notified: Notified, stopped: AbortSignal): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    while (!stopped.aborted) {
      let nextMs = pauseMs;
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
      try {
        const isWorking = await this.listenOnce(stopped, notified, () => {
          nextMs = FIRST_PAUSE_MS;
          pauseMs = 2 * FIRST_PAUSE_MS;
          this.logWorks();
          // Notifications before this moment are lost, so search for work now.
          notified(false);
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
   * @returns `false` if the connection passes no notifications on
   */
  private async listenOnce(stopped: AbortSignal, notified: Notified, works: () => void): Promise<false> {
    let lose: (error: Error) => void = () => undefined;
    const lost = new Promise<never>((_, reject) => (lose = reject));
    const stop = () => lose(new Error('listening was stopped'));
    let receiveOwn: (is: true) => void = () => undefined;
    const own = new Promise<true>((resolve) => (receiveOwn = resolve));
    const connection = this.channel.listen({
      lost: lose,
      received: (payload) => {
        if (payload.startsWith(this.id)) receiveOwn(true);
        else notified(payload.endsWith(SWITCHED));
      },
    });
    stopped.addEventListener('abort', stop);
    const timeout = new AbortController();
    try {
      const check = async () => {
        await within(CONNECTED_WITHIN_MS, connection.subscribe(), timeout.signal);
        await this.notify();
        return Promise.race([own, pause(OWN_NOTIFICATION_WITHIN_MS, false, { signal: timeout.signal })]);
      };
      const isWorking = await Promise.race([check(), lost]);
      if (!isWorking) return false;
      works();
      return await Promise.race([this.keepChecking(connection, timeout.signal), lost]);
    } finally {
      stopped.removeEventListener('abort', stop);
      await connection.close();
      timeout.abort();
    }
  }

  /** Checks a silent connection again and again. The promise rejects when the server does not answer. */
  private async keepChecking(connection: ListeningConnection, ended: AbortSignal): Promise<never> {
    for (;;) {
      await pause(CHECK_EVERY_MS, undefined, { signal: ended, ref: false });
      await within(ANSWERED_WITHIN_MS, connection.check(), ended);
    }
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
      `This process receives no notifications. Only the poll finds commits of other processes. ${this.channel.adviceIfSilent}`,
    );
  }
}

/**
 * @param expired called when the answer takes longer than the limit
 * @throws Error when the answer takes longer than the limit
 */
async function within<T>(
  limitMs: number,
  answer: Promise<T>,
  ended: AbortSignal,
  expired: () => void = () => undefined,
): Promise<T> {
  const late = pause(limitMs, undefined, { signal: ended, ref: false }).then(() => {
    expired();
    throw new Error(`the server did not answer within ${limitMs / SECOND} s`);
  });
  return Promise.race([answer, late]);
}
