import { ErrorCode, Queue, type ConnectionOptions, type Job } from 'bullmq';
import { setTimeout as pause } from 'node:timers/promises';
import type { ReadyListener } from '../engine.js';
import { SECOND } from '../time.js';
import type { ResolvedEngineOptions } from './bullmq-engine-options.js';

/** Shown by tools such as Bull Board. */
const JOB_NAME = 'listener';
/** A field of a hash that only the engine writes. The hash is missing after FLUSHALL, after an eviction, and in a new Redis. */
const SENTINEL = 'sentinel';
/** Number of jobs that one command adds. */
const JOBS_PER_COMMAND = 500;
/** BullMQ logs events of jobs in a stream, whose default length is 10,000. */
const EVENTS_KEPT = 100;
const ANSWERED_WITHIN_MS = 3 * SECOND;
const LONGEST_RETRY_MS = 2 * SECOND;

/** The queue of BullMQ. A job says that a listener has something due, and has no data. */
export class ListenerJobs {
  readonly queue: Queue;

  /** Connects. @param now the time of the database */
  constructor(
    readonly name: string,
    { connection, prefix }: ResolvedEngineOptions,
    private readonly now: () => number,
  ) {
    this.queue = new Queue(name, {
      // While Redis is away, a command fails at once: the database has the work.
      connection: isClient(connection) ? connection : { ...reconnecting(connection), enableOfflineQueue: false },
      prefix,
      defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
      streams: { events: { maxLen: EVENTS_KEPT } },
    });
  }

  /**
   * Writes the sentinel.
   *
   * @returns whether the sentinel was missing. Of several processes, only one finds it missing
   * @throws Error if Redis does not answer, or refuses writes
   */
  async touch(): Promise<boolean> {
    const { queue } = this;
    const written = queue.backend.client.then((client) => client.hset(queue.toKey(SENTINEL), { at: Date.now() }));
    return (await within(ANSWERED_WITHIN_MS, written)) > 0;
  }

  /** Makes the job of this listener due at `readyAt`, if the job does not run or wait already. @throws errors of Redis */
  async schedule(listenerId: string, readyAt: number): Promise<void> {
    const jobId = jobIdOf({ listenerId, shard: 0 });
    const delay = this.delayUntil(readyAt);
    const job = await this.queue.getJob(jobId);
    if (!job) await this.queue.add(JOB_NAME, {}, { jobId, delay });
    else if (job.delay > 0) await changeDelay(job, delay);
  }

  /** Adds the jobs that do not exist. @throws errors of Redis */
  async addAll(listeners: readonly ReadyListener[]): Promise<void> {
    for (let at = 0; at < listeners.length; at += JOBS_PER_COMMAND) {
      await this.queue.addBulk(
        listeners.slice(at, at + JOBS_PER_COMMAND).map(({ id, readyAt }) => ({
          name: JOB_NAME,
          data: {},
          opts: { jobId: jobIdOf({ listenerId: id, shard: 0 }), delay: this.delayUntil(readyAt) },
        })),
      );
    }
  }

  /** Adds the job of another shard, which may exist. @throws errors of Redis */
  async addShard(of: ShardOfListener): Promise<void> {
    await this.queue.add(JOB_NAME, {}, { jobId: jobIdOf(of) });
  }

  /**
   * Makes sure that the job of a late listener waits or runs. The clock of another host may have delayed the job for too long. Redis may also
   * have evicted a part of the job. Then the job is in no list, and no other job with its id can be added.
   */
  async heal({ id, readyAt }: ReadyListener): Promise<void> {
    const jobId = jobIdOf({ listenerId: id, shard: 0 });
    const state = await this.queue.getJobState(jobId);
    if (state === 'unknown') await this.queue.remove(jobId);
    if (state === 'unknown' || state === 'delayed') await this.schedule(id, readyAt);
  }

  /** Never rejects. */
  async close(): Promise<void> {
    await within(ANSWERED_WITHIN_MS, this.queue.close()).catch(() => undefined);
  }

  private delayUntil(readyAt: number): number {
    return Math.max(0, readyAt - this.now());
  }
}

/** A listener, and which of its jobs. */
export interface ShardOfListener {
  readonly listenerId: string;
  readonly shard: number;
}

export function jobIdOf({ listenerId, shard }: ShardOfListener): string {
  return `${listenerId}-${shard}`;
}

export function listenerOf(jobId: string): ShardOfListener {
  const at = jobId.lastIndexOf('-');
  return { listenerId: jobId.slice(0, at), shard: Number(jobId.slice(at + 1)) };
}

/** Settings of connections that the engine makes. BullMQ's own pause between two tries grows to 20 seconds. */
export function reconnecting(connection: ConnectionOptions): ConnectionOptions {
  if (isClient(connection)) return connection;
  return {
    retryStrategy: (times: number) => Math.min(100 * 2 ** Math.min(times, 10), LONGEST_RETRY_MS),
    ...connection,
  };
}

function isClient(connection: ConnectionOptions): boolean {
  return typeof (connection as { connect?: unknown }).connect === 'function';
}

/** The job may have begun meanwhile. Then its end reads when the listener is ready. */
async function changeDelay(job: Job, delay: number): Promise<void> {
  try {
    await job.changeDelay(delay);
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code !== ErrorCode.JobNotInState && code !== ErrorCode.JobNotExist) throw error;
  }
}

/** @throws Error if the answer takes longer */
export async function within<T>(limitMs: number, answer: Promise<T>): Promise<T> {
  const ended = new AbortController();
  const late = pause(limitMs, undefined, { signal: ended.signal, ref: false }).then(() => {
    throw new Error(`Redis did not answer within ${limitMs / SECOND} s`);
  });
  // Of the two promises, the one that loses rejects later, or is aborted.
  for (const one of [answer, late]) one.catch(() => undefined);
  try {
    return await Promise.race([answer, late]);
  } finally {
    ended.abort();
  }
}
