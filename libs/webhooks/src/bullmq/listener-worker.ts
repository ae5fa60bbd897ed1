import { DelayedError, Worker, type Job } from 'bullmq';
import type { EngineHost, WaitingListener } from '../engine.js';
import { SECOND } from '../time.js';
import type { BatchedReads } from './batched-reads.js';
import type { ResolvedEngineOptions } from './bullmq-engine-options.js';
import { jobIdOf, listenerOf, reconnecting, within, type ListenerJobs, type ShardOfListener } from './listener-jobs.js';

export interface ListenerWorkerParts {
  readonly host: EngineHost;
  readonly options: ResolvedEngineOptions;
  readonly jobs: ListenerJobs;
  /** Reads when a listener must be checked. */
  readonly readyAt: BatchedReads<string, number>;
  /** Called when the job of a listener has ended. */
  readonly ended: (listenerId: string) => void;
  readonly failed: (error: unknown) => void;
}

/** The jobs of a process that died run again after twice this time. A process renews the lock of its jobs in half of this time. */
const LOCK_MS = 10 * SECOND;
/** Pause before the next try to fetch a job, after an error of Redis. BullMQ's default is 15 seconds. */
const RETRY_MS = SECOND;
/**
 * Pause before the next try for a listener of which nothing could be claimed: the slots of the listener or of its owner are in use, or
 * another process holds its row.
 */
const RECHECK_MS = 250;
/** A job may start again on any number of processes that die: a job that BullMQ stops would be lost. */
const UNLIMITED = Number.MAX_SAFE_INTEGER;
/** If Redis does not answer within this time, the job runs again when its lock expires. */
const MOVED_WITHIN_MS = 5 * SECOND;
/** If Redis does not answer within this time, the connections are cut. */
const CLOSED_WITHIN_MS = 3 * SECOND;

/** Takes jobs from the queue, lets the dispatcher claim their listeners, and decides when each job runs again. */
export class ListenerWorker {
  /** Jobs that wait for a claim. */
  private waiting: WaitingListener[] = [];
  /** The jobs that this process runs, by their ids. The end of such a job reads when its listener is ready. */
  private readonly running = new Map<string, Promise<unknown>>();
  private readonly worker: Worker;
  private isStopping = false;

  /** Connects, and begins to take jobs. */
  constructor(private readonly parts: ListenerWorkerParts) {
    const { host, options, jobs, ended, failed } = parts;
    this.worker = new Worker(jobs.name, (job, token) => this.run(job, token), {
      connection: reconnecting(options.connection),
      prefix: options.prefix,
      concurrency: host.concurrency,
      lockDuration: LOCK_MS,
      stalledInterval: LOCK_MS,
      maxStalledCount: UNLIMITED,
      runRetryDelay: RETRY_MS,
      // A job whose own options were evicted is removed, too.
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    });
    // Between the end of the job and this event, another process may have made the listener ready. It found the job, and added none.
    this.worker.on('completed', ({ id }) => ended(listenerOf(String(id)).listenerId));
    this.worker.on('failed', (_job, error) => failed(error));
    this.worker.on('error', failed);
  }

  get hasWaiting(): boolean {
    return this.waiting.length > 0;
  }

  take(limit: number): WaitingListener[] {
    return this.waiting.splice(0, limit);
  }

  /** Whether the end of a running job will read when this listener is ready. */
  runs(listenerId: string): boolean {
    return this.running.has(jobIdOf({ listenerId, shard: 0 }));
  }

  /** Ends the jobs that wait for a claim. They run again soon. */
  giveBack(): void {
    for (const one of this.waiting.splice(0)) one.end(0);
  }

  /** Takes no more jobs, and waits for those that run. Never rejects. */
  async close(): Promise<void> {
    this.isStopping = true;
    this.giveBack();
    const closing = this.worker.close();
    await Promise.allSettled(this.running.values());
    try {
      await within(CLOSED_WITHIN_MS, closing);
    } catch {
      // Redis does not answer. Other processes run the jobs when their locks expire.
      await within(CLOSED_WITHIN_MS, this.worker.backend.close(true)).catch(() => undefined);
    }
  }

  private async run(job: Job, token?: string): Promise<void> {
    const id = String(job.id);
    const running = this.runJob(job, { ...listenerOf(id), token });
    this.running.set(id, running);
    let nextAt: number | null;
    try {
      nextAt = await running;
    } finally {
      // Before the next read: a change that was committed before the read is seen by the read, and later changes see no running job.
      this.running.delete(id);
    }
    if (nextAt === null) return;
    this.parts.ended(listenerOf(id).listenerId);
    throw new DelayedError();
  }

  /** @returns when the job runs again; `null` if the job has ended */
  private async runJob(job: Job, { listenerId, shard, token }: ShardOfListener & { token: string | undefined }) {
    const { host, jobs, options, readyAt } = this.parts;
    const claimed = await this.claimed(listenerId);
    // If the database does not answer, the job runs again: it would be lost if it failed.
    const nextAt = await readyAt.read(listenerId).catch(() => host.now() + RETRY_MS);
    if (nextAt === undefined) return null;
    const waitMs = Math.max(nextAt - host.now(), 0);
    const isBusy = claimed > 0 && waitMs === 0;
    // Only the first shard waits for what is due later.
    if (shard > 0 && !isBusy) return null;
    if (isBusy && shard + 1 < options.shards)
      await within(MOVED_WITHIN_MS, jobs.addShard({ listenerId, shard: shard + 1 }));
    const at = Date.now() + (claimed > 0 ? waitMs : Math.max(waitMs, RECHECK_MS));
    await within(MOVED_WITHIN_MS, job.moveToDelayed(at, token));
    return nextAt;
  }

  /** Waits until the dispatcher has claimed a listener, and the listener has room again. @returns the number of deliveries */
  private claimed(listenerId: string): Promise<number> {
    if (this.isStopping) return Promise.resolve(0);
    return new Promise((end) => {
      this.waiting.push({ listenerId, end });
      this.parts.host.wake();
    });
  }
}
