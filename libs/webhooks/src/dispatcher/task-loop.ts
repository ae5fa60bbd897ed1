import type { LoggerService } from '@nestjs/common';
import type { ClaimedTask, TaskWorker } from '../deliveries/task-worker.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import { messageOf } from '../foreign-text.js';
import { SECOND } from '../time.js';
import { TroubleLog } from '../webhooks-logger.js';
import { Signal } from './signal.js';

/** Dependencies of {@link TaskLoop}. @internal */
export interface TaskLoopParts {
  readonly worker: TaskWorker;
  readonly logger: LoggerService;
  readonly diagnostics: Diagnostics;
}

/** How often to search for tasks of other processes. A search is one cheap query over unfinished tasks. */
const LOOK_EVERY_MS = 5 * SECOND;
/** A task with a low rate mostly waits, so other tasks run beside it. */
const TASKS_AT_ONCE = 4;

/** Works on tasks while the dispatcher of this process runs. */
export class TaskLoop {
  private readonly signal = new Signal();
  private readonly trouble = new TroubleLog();
  private readonly working = new Map<string, Promise<void>>();
  private stopping = new AbortController();
  private loop: Promise<void> | null = null;

  /** @internal */
  constructor(private readonly parts: TaskLoopParts) {}

  /** Starts the loop. Does nothing if the loop already runs. */
  start(): void {
    if (this.loop) return;
    this.stopping = new AbortController();
    this.loop = this.run(this.stopping.signal);
  }

  /** Ends the work after the current batches. Other processes continue. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.signal.raise();
    await this.loop;
    await Promise.all(this.working.values());
    this.loop = null;
  }

  /** Call this method when there is a new task. */
  wake(): void {
    this.signal.raise();
  }

  private async run(stopping: AbortSignal): Promise<void> {
    while (!stopping.aborted) {
      try {
        await this.claim(stopping);
        if (this.trouble.recovered()) this.parts.logger.log('Tasks can be read again.');
      } catch (error) {
        this.failed(error);
      }
      // The pause is random. Otherwise processes that started together would all search at the same time.
      await this.signal.wait(LOOK_EVERY_MS * (0.5 + Math.random()));
    }
  }

  private async claim(stopping: AbortSignal): Promise<void> {
    while (this.working.size < TASKS_AT_ONCE && !stopping.aborted) {
      const task = await this.parts.worker.claim({ except: [...this.working.keys()] });
      if (!task) return;
      this.working.set(task.id, this.workOn(task, stopping));
    }
  }

  private async workOn(task: ClaimedTask, stopping: AbortSignal): Promise<void> {
    try {
      await this.parts.worker.run(task, stopping);
    } catch (error) {
      this.failed(error);
    } finally {
      this.working.delete(task.id);
      this.signal.raise();
    }
  }

  private failed(error: unknown): void {
    const { logger, diagnostics } = this.parts;
    if (diagnostics.listens('trouble')) diagnostics.publish('trouble', { work: 'upkeep' });
    if (this.trouble.failed()) logger.error(`Tasks cannot be read, and are retried: ${messageOf(error)}`);
  }
}
