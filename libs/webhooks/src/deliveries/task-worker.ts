import { setTimeout as sleep } from 'node:timers/promises';
import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import { BadRequestError, WebhooksError } from '../errors.js';
import { messageOf } from '../foreign-text.js';
import { newLease } from '../ids.js';
import { isUnavailable } from '../store/database/database-errors.js';
import type { Database } from '../store/database/database.js';
import { advanceTask, claimTask, endTask, releaseTask, resumeTask, type TaskRow } from '../store/queue/task-rows.js';
import { MINUTE, SECOND } from '../time.js';
import type { BulkWork, Work, WorkBatch, WorkFilter, WorkPosition } from './bulk-work.js';
import type { TaskKind } from './task.js';

/** If the process of a task dies, another process continues after this time. */
const TASK_LEASE_MS = MINUTE;
/** The pause after a batch that failed, or that waits for requests in flight. */
const RETRY_MS = SECOND;
const IN_FLIGHT_MS = 100;
/** After this many failures of one batch, the task fails. Failures because of an unavailable database do not count. */
const MAX_FAILURES = 5;

/** Dependencies of {@link TaskWorker}. */
export interface TaskWorkerParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly work: BulkWork;
  readonly logger: Pick<LoggerService, 'error'>;
  /** Called when deliveries may be due. */
  readonly wake: () => void;
  /** Called when deliveries were discarded. */
  readonly discarded: (counts: ReadonlyMap<string, number>) => void;
}

/** A task under the lease of this process. */
export interface ClaimedTask {
  readonly id: string;
  readonly kind: TaskKind;
  readonly work: Work;
  readonly ratePerSecond: number | null;
  readonly token: string;
}

/**
 * Works on tasks, batch by batch. A batch and the new position of its task are one transaction. So another process that continues a task
 * repeats nothing and skips nothing.
 */
export class TaskWorker {
  constructor(private readonly parts: TaskWorkerParts) {}

  /** Takes the lease of a task. @param options `id`: only this task; `except`: not these tasks */
  async claim(options: { id?: string; except?: readonly string[] } = {}): Promise<ClaimedTask | undefined> {
    const { database, clock } = this.parts;
    const token = newLease();
    const now = clock.now();
    const lease = { token, now, until: now + TASK_LEASE_MS };
    const row = await database.transaction(() => claimTask(database, lease, options), 'work');
    return row && { id: row.id, kind: row.kind as TaskKind, work: workOf(row), ratePerSecond: rateOf(row), token };
  }

  /**
   * Works on a task until it ends, is cancelled, or `signal` is aborted. After an abort, another process may continue at once.
   *
   * @param progressed called after each batch
   */
  async run(task: ClaimedTask, signal: AbortSignal, progressed: () => void = () => undefined): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const startedAt = performance.now();
      let batch: WorkBatch | null;
      try {
        batch = await this.batch(task);
        failures = 0;
      } catch (error) {
        if (!isUnavailable(error)) failures++;
        if (await this.hasEnded(task, error, failures)) return;
        await pause(RETRY_MS, signal);
        continue;
      }
      if (!batch) return;
      if (batch.count) this.parts.wake();
      if (batch.discarded?.size) this.parts.discarded(batch.discarded);
      progressed();
      if (batch.next === null) return;
      await pause(pauseAfter(batch, task, performance.now() - startedAt), signal);
    }
    const { database } = this.parts;
    await database.transaction(() => releaseTask(database, task.id, task.token));
  }

  /** @returns `null` if the task has ended, or another process has the lease */
  private async batch({ id, token, work, ratePerSecond }: ClaimedTask): Promise<WorkBatch | null> {
    const { database, clock, work: bulk } = this.parts;
    return database.transaction(function* () {
      const row = yield* resumeTask(database, id, token);
      if (!row) return null;
      const after = row.position === null ? null : (JSON.parse(row.position) as WorkPosition);
      const batch = yield* bulk.batch(work, after, ratePerSecond ?? undefined);
      const { count: done, next } = batch;
      const now = clock.now();
      if (next === null) yield* endTask(database, id, { state: 'done', done, error: null, now });
      else {
        const leaseUntil = now + TASK_LEASE_MS;
        yield* advanceTask(database, id, { position: JSON.stringify(next), done, leaseUntil, now });
      }
      return batch;
    }, 'work');
  }

  /** Handles the failure of a batch, and ends a task that cannot continue. @returns whether the task has ended */
  private async hasEnded({ id, token, kind }: ClaimedTask, error: unknown, failures: number): Promise<boolean> {
    const { database, clock, logger } = this.parts;
    const isFinal = error instanceof BadRequestError || failures >= MAX_FAILURES;
    if (failures === 1 && !isFinal) {
      logger.error(`The task ${id} (${kind}) failed and is retried: ${messageOf(error)}`);
    }
    if (!isFinal) return false;
    if (!(error instanceof BadRequestError)) logger.error(`The task ${id} (${kind}) failed: ${messageOf(error)}`);
    const stored = JSON.stringify(shownError(error));
    await database
      .transaction(function* () {
        const row = yield* resumeTask(database, id, token);
        if (row) yield* endTask(database, id, { state: 'failed', done: 0, error: stored, now: clock.now() });
      }, 'work')
      .catch(() => undefined); // the lease expires, and the next process meets the same error
    return true;
  }
}

/** The error text for the task. Only errors that customers may see keep their text. */
function shownError(error: unknown): { code: string; message: string } {
  if (error instanceof BadRequestError) return { code: error.code, message: error.message };
  const code = error instanceof WebhooksError ? error.code : 'INTERNAL_ERROR';
  return { code, message: 'The task failed. The log of the application says why.' };
}

/** After a batch, a task pauses for the length of the batch. So a task uses at most half of one connection's time. */
function pauseAfter({ count, isWaiting }: WorkBatch, { ratePerSecond }: ClaimedTask, elapsedMs: number): number {
  const paced = ratePerSecond === null ? 0 : (count / ratePerSecond) * SECOND - elapsedMs;
  return Math.max(elapsedMs, paced, isWaiting ? IN_FLIGHT_MS : 0);
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}

function rateOf({ ratePerSecond }: TaskRow): number | null {
  return ratePerSecond === null ? null : Number(ratePerSecond);
}

function workOf({ kind, owner, filter, actor }: TaskRow): Work {
  const { work } = JSON.parse(filter) as { work: WorkFilter };
  return { kind: kind as TaskKind, scope: owner ?? undefined, filter: work, actor };
}
