import type { DeliveryState } from './delivery.js';
import type { TaskKind } from './task-kind.js';

export type { TaskKind } from './task-kind.js';

/**
 * - `queued`: no process has started the task
 * - `running`: a process works on it, or will continue after another process died
 * - `done`: all work is finished
 * - `cancelled`: `cancel()` was called. Finished batches are not undone
 * - `failed`: it cannot continue. `error` says why
 */
export type TaskState = 'queued' | 'running' | 'done' | 'cancelled' | 'failed';

/** Selects the deliveries or events of a task. Each kind of task rejects properties that do not apply to it. */
export interface TaskFilter {
  /** Only this listener. Required for `replay`. */
  listenerId?: string;
  /**
   * Only deliveries that were created at this time or later; for `replay`, events that happened then. Required for `recover` and `replay`.
   */
  since?: Date;
  /** Only deliveries or events from before this time. @defaultValue now */
  until?: Date;
  /**
   * `recover`: `exhausted`, `discarded`. `discard`: `due`, `held`.
   *
   * @defaultValue `['exhausted']` for `recover`, and `['due', 'held']` for `discard`
   */
  states?: readonly DeliveryState[];
  /** Only these event types. */
  types?: readonly string[];
  /** Only deliveries whose last attempt ended with this error code. Not for `replay`. */
  errorCode?: string;
  /** Only events of one row: the name of its entity. Needs `entityId`. */
  entity?: string;
  /** The primary key of the row. A key of several columns is an object. */
  entityId?: string | number | Readonly<Record<string, unknown>>;
  /** Only listeners of this owner. For `erase`: the events of this owner's rows. */
  owner?: string;
  /** `erase`: only this event. */
  eventId?: string;
}

/** The input of `tasks.create()`. */
export interface NewTask extends TaskFilter {
  kind: TaskKind;
  /** The maximum number of deliveries, or events to erase, per second: 1 to 10,000. @defaultValue as fast as possible */
  ratePerSecond?: number;
}

/** Bulk work that processes with a running dispatcher do in the background. */
export interface Task {
  /** `tsk_` and a UUIDv7. */
  readonly id: string;
  readonly kind: TaskKind;
  readonly state: TaskState;
  readonly filter: TaskFilter;
  readonly ratePerSecond: number | null;
  /** The number of deliveries, events or listeners that are finished so far. */
  readonly done: number;
  /** The expected total of `done`, counted when the task was created; `null` if there were too many to count. */
  readonly estimate: number | null;
  /** All deliveries and events from before this time are finished; `null` before the first batch. */
  readonly position: Date | null;
  /** The owner whose service created the task; `null` for a service without an owner. */
  readonly owner: string | null;
  readonly actor: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly createdAt: Date;
  readonly startedAt: Date | null;
  readonly endedAt: Date | null;
  /** When its state changed last, or a process finished a part of its work. A running task whose time stands still is stuck, or its process died. */
  readonly updatedAt: Date;
}

/** The amount of work that a task would do now. */
export interface TaskCount {
  /** At most 10,000. */
  readonly count: number;
  /** Whether the count stopped at its maximum, so that there may be more. */
  readonly capped: boolean;
  /** The time of the oldest delivery or event that was counted; `null` if there is none. */
  readonly oldest: Date | null;
  readonly newest: Date | null;
}
