import { setTimeout as sleep } from 'node:timers/promises';
import type { EntityManager } from 'typeorm';
import type { WebhookClock } from '../clock.js';
import { BadRequestError } from '../errors.js';
import { textOf } from '../foreign-text.js';
import { newId } from '../ids.js';
import type { JsonObject } from '../json.js';
import { INVALID_OWNER_MESSAGE, OTHER_OWNER_MESSAGE, ownerText } from '../owner.js';
import type { Quotas } from '../quotas.js';
import { invalidValue } from '../show.js';
import type { CallerTransactions } from '../store/database/caller-transactions.js';
import type { Database } from '../store/database/database.js';
import { numberOrNull } from '../store/database/number-or-null.js';
import { page, readPage, type WebhookPage, type WebhookPageOptions } from '../store/database/page.js';
import type { Script } from '../store/database/script.js';
import type { OwnerScope } from '../store/listeners/listener-rows.js';
import {
  cancelTask,
  countUnfinished,
  insertTask,
  listTasks,
  readTask,
  type TaskRow,
} from '../store/queue/task-rows.js';
import { auditText, writeAudit } from '../store/system/audit.js';
import { TASK_TRANSITIONS } from '../health/transitions.js';
import type { BulkWork, Work, WorkCount, WorkPosition } from './bulk-work.js';
import { TaskNotFoundError } from './errors.js';
import { checkTask, TASK_KINDS, type CheckedTask, type TaskChecks } from './task-input.js';
import type { TaskWorker } from './task-worker.js';
import type { NewTask, Task, TaskCount, TaskFilter, TaskKind, TaskState } from './task.js';

/** The maximum of a count. */
const MAX_COUNTED = 10_000;
/** A count reads at most this many batches. Nearly all counts end earlier. */
const MAX_PARTS = 1_000;
/** The estimate of a new task reads at most this many batches, so that `create()` stays fast. */
const ESTIMATE_PARTS = 20;
/** How often `run()` looks at a task on which another process works. */
const LOOK_EVERY_MS = 250;

const STATES = Object.keys(TASK_TRANSITIONS).filter((state) => state !== 'new') as TaskState[];

/** @internal */
export interface TaskServiceParts {
  readonly database: Database;
  readonly transactions: CallerTransactions;
  readonly clock: WebhookClock;
  readonly quotas: Quotas;
  readonly work: BulkWork;
  readonly worker: TaskWorker;
  readonly rowKey: TaskChecks['rowKey'];
  /** Called when there is a new task. */
  readonly wake: () => void;
}

/**
 * Bulk work in the background: `recover`, `replay`, `discard`, `erase` and `reseal`. Processes with a running dispatcher work on tasks, each
 * task in one process at a time. If this process dies, another process continues. `forOwner(id)` returns a service for the tasks of one
 * owner.
 */
export class TaskService {
  /** @internal */
  constructor(
    private readonly parts: TaskServiceParts,
    private readonly boundTo?: OwnerScope,
    private readonly actor: string | null = null,
  ) {}

  /**
   * Returns this service bound to one owner (a string). Its tasks affect only listeners of this owner, and it finds only tasks that this
   * owner has created. @throws BadRequestError `INVALID_OWNER`
   */
  forOwner(owner: string): TaskService {
    const bound = typeof owner === 'string' ? ownerText(owner) : undefined;
    if (bound === undefined) throw new BadRequestError('INVALID_OWNER', INVALID_OWNER_MESSAGE);
    if (this.boundTo !== undefined && bound !== this.boundTo) {
      throw new BadRequestError('INVALID_OWNER', OTHER_OWNER_MESSAGE);
    }
    return new TaskService(this.parts, bound, this.actor);
  }

  /**
   * Returns this service inside a transaction. A new task exists only if this transaction commits. {@link run} cannot join a transaction.
   *
   * @param manager the argument of `dataSource.transaction()`, or `queryRunner.manager`
   * @throws TransactionError `WRONG_DATA_SOURCE`
   */
  withManager(manager: EntityManager): TaskService {
    return new TaskService(
      { ...this.parts, transactions: this.parts.transactions.withManager(manager) },
      this.boundTo,
      this.actor,
    );
  }

  /**
   * Returns this service with the name of a person or program, which tasks and the audit log store. `null` stands for the application
   * itself.
   */
  withActor(actor: string | null): TaskService {
    return new TaskService(this.parts, this.boundTo, actor);
  }

  /**
   * Counts what a task would do now, and writes nothing. The count ends at 10,000.
   *
   * @throws BadRequestError as {@link create}; ListenerNotFoundError for a `replay`
   */
  async count(input: NewTask): Promise<TaskCount> {
    const checked = this.check(input);
    const counted = await this.counted(checked, MAX_PARTS);
    return {
      count: Math.min(counted.count, MAX_COUNTED),
      capped: counted.isCapped,
      oldest: dateOf(counted.oldest),
      newest: dateOf(counted.newest),
    };
  }

  /**
   * Creates a task. A process with a running dispatcher works on the task. {@link run} works on it in this process.
   *
   * @throws BadRequestError `INVALID_TASK`, `INVALID_STATE`, `INVALID_TIME`, `UNKNOWN_ENTITY`; ListenerNotFoundError for a `replay`
   * @throws QuotaError `TOO_MANY_TASKS`: 2 unfinished tasks for a listener, or 10 of an owner; `TOO_MANY_RESENDS` from a service that is
   * bound to an owner, which cannot create the kinds `erase` and `reseal` (BadRequestError `NOT_FOR_OWNERS`)
   * @example await tasks.create({ kind: 'recover', since: outage.start, until: outage.end, ratePerSecond: 50 });
   */
  async create(input: NewTask): Promise<Task> {
    const { database, clock, quotas } = this.parts;
    const { actor } = this;
    const checked = this.check(input);
    quotas.countResend(this.boundTo);
    const transaction = this.parts.transactions.here();
    const { count, isCapped } = await this.counted(checked, ESTIMATE_PARTS);
    const id = newId('tsk');
    const task = { ...rowOf(checked, this.boundTo), actor: auditText(actor), id, estimate: isCapped ? null : count };
    const row = await transaction.run(function* () {
      const unfinished = yield* countUnfinished(database, task);
      quotas.assertMayStartTask(unfinished);
      yield* insertTask(database, task, clock.now());
      const details = auditDetails(checked);
      yield* writeAudit(database, { actor, action: 'task.created', target: id, details }, clock.now());
      return yield* readTask(database, id, undefined);
    });
    transaction.afterCommit(this.parts.wake);
    return toTask(found(row, id));
  }

  /** Newest first. @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`, `INVALID_STATE`, `INVALID_TASK` */
  async list(options: { state?: TaskState; kind?: TaskKind } & WebhookPageOptions = {}): Promise<WebhookPage<Task>> {
    const { limit, after } = readPage(options);
    const { database } = this.parts;
    const { state, kind } = options;
    if (state !== undefined && !STATES.includes(state)) {
      throw new BadRequestError('INVALID_STATE', invalidValue('state', state, STATES.join(', ')));
    }
    if (kind !== undefined && !TASK_KINDS.includes(kind)) {
      throw new BadRequestError('INVALID_TASK', invalidValue('kind', kind, TASK_KINDS.join(', ')));
    }
    const filter = {
      scope: this.boundTo,
      ...(state === undefined ? {} : { state }),
      ...(kind === undefined ? {} : { kind }),
    };
    const rows = await this.parts.transactions.here().run(() => listTasks(database, filter, after, limit + 1));
    return page(rows, limit, ({ createdAt, seq }) => ({ at: Number(createdAt), seq: String(seq) }), toTask);
  }

  /** @throws TaskNotFoundError */
  async get(id: string): Promise<Task> {
    const { database } = this.parts;
    const read = (): Script<TaskRow | undefined> => readTask(database, textOf(id), this.boundTo);
    return toTask(found(await this.parts.transactions.here().run(read), id));
  }

  /**
   * Cancels a task. The method waits until the current batch is committed. After this call no further batch runs, and finished batches are
   * not undone.
   *
   * @throws TaskNotFoundError, BadRequestError `TASK_ENDED`
   */
  async cancel(id: string): Promise<Task> {
    const { database, clock } = this.parts;
    const { actor, boundTo } = this;
    const result = await this.parts.transactions.here().run(function* () {
      const now = clock.now();
      const cancelled = yield* cancelTask(database, textOf(id), boundTo, now);
      if (cancelled?.isCancelled) {
        const { kind } = cancelled.row;
        yield* writeAudit(database, { actor, action: 'task.cancelled', target: textOf(id), details: { kind } }, now);
      }
      return cancelled;
    });
    const row = found(result?.row, id);
    if (!result?.isCancelled) {
      throw new BadRequestError('TASK_ENDED', `The task has ended: it is ${row.state}.`, { httpStatus: 409 });
    }
    return toTask(row);
  }

  /**
   * Works on a task in this process until the task ends, or waits for its end if another process works on it. For scripts and commands,
   * which have no running dispatcher.
   *
   * @param options `signal`: ends the work after the current batch. The task stays unfinished, and another process continues it;
   * `onProgress`: called after each batch
   * @throws TaskNotFoundError, TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   */
  async run(id: string, options: { signal?: AbortSignal; onProgress?: (task: Task) => void } = {}): Promise<Task> {
    const { worker, transactions } = this.parts;
    transactions.here().refuse('run()');
    const { signal = new AbortController().signal, onProgress } = options;
    let task = await this.get(id);
    const report = async () => {
      task = await this.get(id);
      onProgress?.(task);
    };
    while (isUnfinished(task) && !signal.aborted) {
      const claimed = await worker.claim({ id: task.id });
      if (claimed) {
        let reports = Promise.resolve();
        await worker.run(claimed, signal, () => {
          reports = reports.then(report);
        });
        await reports;
      } else {
        await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
      }
      await report();
    }
    return task;
  }

  private check(input: NewTask): CheckedTask {
    const { clock, rowKey } = this.parts;
    return checkTask(input, { scope: this.boundTo, now: clock.now(), rowKey });
  }

  private async counted({ kind, filter }: CheckedTask, maxParts: number): Promise<Counted> {
    const { transactions, work: bulk } = this.parts;
    const transaction = transactions.here();
    const work: Work = { kind, scope: this.boundTo, filter };
    const total: Counted = { count: 0, oldest: null, newest: null, isCapped: false };
    let after: WorkPosition | null = null;
    for (let part = 0; part < maxParts; part++) {
      const from: WorkPosition | null = after;
      const limit = MAX_COUNTED + 1 - total.count;
      const counted: WorkCount = await transaction.run(() => bulk.count(work, from, limit));
      const { count, oldest, newest, next } = counted;
      total.count += count;
      total.oldest ??= oldest;
      total.newest = newest ?? total.newest;
      if (total.count > MAX_COUNTED) return { ...total, isCapped: true };
      if (next === null) return total;
      after = next;
    }
    return { ...total, isCapped: true };
  }
}

interface Counted {
  count: number;
  oldest: number | null;
  newest: number | null;
  isCapped: boolean;
}

function isUnfinished({ state }: Task): boolean {
  return TASK_TRANSITIONS[state].length > 0;
}

function found(row: TaskRow | undefined, id: string): TaskRow {
  if (!row) throw new TaskNotFoundError(textOf(id));
  return row;
}

/** The kind and the ids that the filter names. The primary key of a row may identify a person, so it is left out. */
function auditDetails({ kind, shown: { listenerId, eventId, owner, entity } }: CheckedTask): JsonObject {
  return withoutUndefined({ kind, listenerId, eventId, owner, entity });
}

function withoutUndefined(given: Readonly<Record<string, string | undefined>>): JsonObject {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as JsonObject;
}

function rowOf({ kind, filter, shown, ratePerSecond }: CheckedTask, scope: OwnerScope) {
  return {
    kind,
    owner: scope ?? null,
    listenerId: filter.listenerId ?? null,
    filter: JSON.stringify({ work: filter, shown }),
    ratePerSecond,
  };
}

/** @internal */
export function toTask(row: TaskRow): Task {
  const { shown } = JSON.parse(row.filter) as { shown: TaskFilter & { since?: string; until?: string } };
  const { since, until, ...rest } = shown;
  const position = row.position === null ? null : (JSON.parse(row.position) as WorkPosition);
  return {
    id: row.id,
    kind: row.kind as TaskKind,
    state: row.state as TaskState,
    filter: {
      ...rest,
      ...(since === undefined ? {} : { since: new Date(since) }),
      ...(until === undefined ? {} : { until: new Date(until) }),
    },
    ratePerSecond: numberOrNull(row.ratePerSecond),
    done: Number(row.done),
    estimate: numberOrNull(row.estimate),
    // The position is a listener, which has no time.
    position: dateOf(position?.at || null),
    owner: row.owner,
    actor: row.actor,
    error: row.error === null ? null : (JSON.parse(row.error) as Task['error']),
    createdAt: new Date(Number(row.createdAt)),
    startedAt: dateOf(numberOrNull(row.startedAt)),
    endedAt: dateOf(numberOrNull(row.endedAt)),
    updatedAt: new Date(Number(row.updatedAt)),
  };
}

function dateOf(ms: number | null): Date | null {
  return ms === null ? null : new Date(ms);
}
