import type { Queue } from 'bullmq';
import { setTimeout as pause } from 'node:timers/promises';
import { messageOf } from '../foreign-text.js';
import type { DispatcherEngine, Engine, EngineHost, ReadyListener, WaitingListener } from '../engine.js';
import { SECOND } from '../time.js';
import { TroubleLog } from '../webhooks-logger.js';
import { BatchedReads } from './batched-reads.js';
import { resolveEngineOptions, type BullmqEngineOptions, type ResolvedEngineOptions } from './bullmq-engine-options.js';
import { ListenerJobs } from './listener-jobs.js';
import { ListenerWorker } from './listener-worker.js';
import { RedisWatch } from './redis-watch.js';

/** A listener that is late by this time has probably lost its job. */
const LATE_MS = 5 * SECOND;
/** Number of listeners that one query reads. */
const PAGE = 1_000;
/** Number of late listeners whose jobs are checked one by one. A lost job is at the front: other late listeners go to the back. */
const HEALED_AT_ONCE = 100;
/** Number of listeners that {@link BullmqEngine.search} reads, those that became ready last first. */
const SEARCHED = 500;

/**
 * Lets BullMQ say which listener is due, and when. A job names a listener and has no data: the database has the deliveries, and decides what
 * is sent. A job that comes twice, late or for nothing claims nothing. A job that is lost delays its listener until the next reconciliation.
 *
 * A process that does not dispatch only adds jobs. It connects when it adds the first one.
 */
class BullmqEngine implements Engine {
  private jobs: ListenerJobs | null = null;
  private worker: ListenerWorker | null = null;
  private reconciling: { readonly stop: AbortController; readonly ended: Promise<void> } | null = null;
  private searching: Promise<void> | null = null;
  private mustSearch = false;
  private isClosed = false;
  /** Of the reconciliation. */
  private readonly troubles = new TroubleLog();
  private readonly watch: RedisWatch;
  private readonly readyAt: BatchedReads<string, number>;

  constructor(
    private readonly host: EngineHost,
    private readonly options: ResolvedEngineOptions,
  ) {
    this.readyAt = new BatchedReads((ids) => host.readyAt(ids));
    this.watch = new RedisWatch({
      awayAfterMs: options.fallbackAfterMs,
      ask: () => this.open().touch(),
      lost: () => this.addAll(),
      away: (error) => this.away(error),
      back: () => this.back(),
    });
  }

  /** The queue, for tools such as Bull Board. Connects. */
  get queue(): Queue {
    return this.open().queue;
  }

  get isAvailable(): boolean {
    return this.worker !== null && !this.watch.isAway;
  }

  get hasWaiting(): boolean {
    return this.worker?.hasWaiting ?? false;
  }

  start(): void {
    if (this.worker || this.isClosed) return;
    const { host, options, readyAt } = this;
    this.worker = new ListenerWorker({
      host,
      options,
      readyAt,
      jobs: this.open(),
      ended: (listenerId) => this.changed([listenerId]),
      failed: (error) => this.failed('A job of BullMQ failed', error),
    });
    const stop = new AbortController();
    this.reconciling = { stop, ended: this.keepReconciling(stop.signal) };
  }

  async stop(): Promise<void> {
    const { reconciling, worker } = this;
    this.worker = null;
    reconciling?.stop.abort();
    await reconciling?.ended;
    await worker?.close();
  }

  take(limit: number): WaitingListener[] {
    return this.worker?.take(limit) ?? [];
  }

  changed(listenerIds: readonly string[]): void {
    if (this.isClosed || this.watch.isSilent) return;
    for (const id of listenerIds) if (!this.worker?.runs(id)) void this.schedule(id);
  }

  search(): void {
    if (this.isClosed) return;
    this.mustSearch = true;
    this.searching ??= this.searchAll();
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await this.stop();
    await this.watch.stop();
    await this.searching;
    await this.jobs?.close();
  }

  private open(): ListenerJobs {
    if (this.jobs) return this.jobs;
    const { host, options, watch } = this;
    this.jobs = new ListenerJobs(`webhooks-${host.tablesKey.slice(0, 16)}`, options, () => host.now());
    this.jobs.queue.on('error', (error) => this.failed('The queue of BullMQ has a problem', error));
    watch.start();
    return this.jobs;
  }

  private async schedule(listenerId: string): Promise<void> {
    try {
      const readyAt = await this.readyAt.read(listenerId);
      if (readyAt !== undefined && !this.isClosed) await this.open().schedule(listenerId, readyAt);
    } catch (error) {
      this.failed(`Listener ${listenerId} waits for the next reconciliation`, error);
    }
  }

  private async searchAll(): Promise<void> {
    while (this.mustSearch) {
      this.mustSearch = false;
      try {
        const { host } = this;
        const ready = await host.readyListeners({ until: host.now(), limit: SEARCHED, isNewestFirst: true });
        // The job of a listener may exist, and be delayed for longer.
        this.changed(ready.map(({ id }) => id));
      } catch (error) {
        this.failed('Listeners that became ready wait for the next reconciliation', error);
      }
    }
    this.searching = null;
  }

  private async keepReconciling(signal: AbortSignal): Promise<void> {
    const { host, options, troubles } = this;
    const thirdMs = Math.floor(options.reconcileEveryMs / 3);
    while (!signal.aborted) {
      // Processes ask at different times, so a turn is taken soon after it is due.
      await pause(thirdMs * (0.5 + Math.random() / 2), undefined, { signal, ref: false }).catch(() => undefined);
      if (signal.aborted || this.watch.isSilent) continue;
      try {
        if (await host.takeTurn(2 * thirdMs)) await this.reconcile();
        if (troubles.recovered()) host.logger.log('The queue of BullMQ is compared with the database again.');
      } catch (error) {
        if (!troubles.failed()) continue;
        host.logger.warn(`The queue of BullMQ could not be compared with the database: ${messageOf(error)}`);
      }
    }
  }

  /** Adds the jobs of listeners that are late. */
  private async reconcile(): Promise<void> {
    const { host } = this;
    const late = await this.addAll(host.now() - LATE_MS);
    for (const one of late.slice(0, HEALED_AT_ONCE)) await this.open().heal(one);
  }

  /**
   * Adds the missing jobs of all listeners with pending work, page by page.
   *
   * @param until only of listeners that are ready by this time
   * @returns the first page
   */
  private async addAll(until?: number): Promise<readonly ReadyListener[]> {
    const { host } = this;
    let first: readonly ReadyListener[] | undefined;
    let after: ReadyListener | undefined;
    do {
      const page: readonly ReadyListener[] = await host.readyListeners({ until, after, limit: PAGE });
      await this.open().addAll(page);
      first ??= page;
      after = page.length < PAGE ? undefined : page.at(-1);
    } while (after && !this.isClosed);
    return first;
  }

  private away(error: string): void {
    if (!this.worker) return;
    this.host.logger.warn(
      `Redis has not answered for ${this.options.fallbackAfterMs / SECOND} s, so this process searches the database for due deliveries. It uses Redis again by itself. Last error: ${error}`,
    );
    this.worker.giveBack();
    this.host.wake();
  }

  private back(): void {
    if (this.worker) this.host.logger.log('Redis answers again, and says which deliveries are due.');
    this.host.wake();
  }

  private failed(what: string, error: unknown): void {
    this.host.logger.debug?.(`${what}: ${messageOf(error)}`);
  }
}

/** What `bullmqEngine()` returns: the value of `dispatcher.engine`. */
export interface BullmqDispatcherEngine extends DispatcherEngine {
  /** The queues, one for each instance of the module with this engine, for tools such as Bull Board. Connects. */
  queues(): Queue[];
}

/**
 * Lets BullMQ, on Redis or Valkey, say which listener has something due, and when. See `docs/bullmq.md`.
 *
 * @throws ConfigurationError `INVALID_OPTION`
 * @example WebhooksModule.forRoot({ dispatcher: { engine: bullmqEngine({ connection: { url: process.env.REDIS_URL } }) } })
 */
export function bullmqEngine(options: BullmqEngineOptions): BullmqDispatcherEngine {
  const resolved = resolveEngineOptions(options);
  const engines: BullmqEngine[] = [];
  return {
    open: (host) => {
      const engine = new BullmqEngine(host, resolved);
      engines.push(engine);
      return engine;
    },
    queues: () => engines.map(({ queue }) => queue),
  };
}
