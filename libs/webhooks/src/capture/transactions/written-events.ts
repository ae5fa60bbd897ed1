import type { EventRow } from '../../store/outbox/event-rows.js';
import type { RowHistory } from '../changes/coalesce.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import type { RowChange } from '../changes/row-change.js';

/** The events of a row in this transaction, for an entity with `coalesce: true`. */
interface RecordedRow {
  /** One change of the row, which identifies it. */
  readonly change: RowChange;
  readonly history: RowHistory | undefined;
  /** Ids of the events of this row. Empty if the net effect of its changes is no difference. */
  readonly events: readonly string[];
}

/** The lengths of the lists at a savepoint. */
export interface WrittenMark {
  readonly events: number;
  readonly withdrawn: number;
  readonly recorded: number;
}

/**
 * The events that a transaction has written to the outbox. The lists only grow, so that a rollback to a savepoint
 * can cut them back to their lengths at the savepoint.
 *
 * If a row changes again, its event is withdrawn, and one event of both changes replaces it. A rollback to an earlier savepoint undoes both
 * steps, in the database and here.
 */
export class WrittenEvents {
  private events: EventRow[] = [];
  private withdrawn: string[] = [];
  private recorded: RecordedRow[] = [];
  private readonly byRow = new Map<EntityPlan, Map<string, RecordedRow[]>>();

  get mark(): WrittenMark {
    return { events: this.events.length, withdrawn: this.withdrawn.length, recorded: this.recorded.length };
  }

  returnTo({ events, withdrawn, recorded }: WrittenMark): void {
    this.events.length = events;
    this.withdrawn.length = withdrawn;
    while (this.recorded.length > recorded) {
      const { plan, key } = (this.recorded.pop() as RecordedRow).change;
      this.byRow.get(plan)?.get(key)?.pop();
    }
  }

  add(row: EventRow): void {
    this.events.push(row);
  }

  /** @param events ids of the events of this row */
  record(history: RowHistory, events: readonly string[]): void {
    this.push({ change: history.last, history, events });
  }

  /** Records that the events of a row are withdrawn, and that the merged change which replaces them is still pending. */
  withdrawRow({ last }: RowHistory): void {
    this.push({ change: last, history: undefined, events: [] });
  }

  private push(row: RecordedRow): void {
    const { plan, key } = row.change;
    this.recorded.push(row);
    let rows = this.byRow.get(plan);
    if (!rows) this.byRow.set(plan, (rows = new Map()));
    const before = rows.get(key);
    if (before) before.push(row);
    else rows.set(key, [row]);
  }

  lastRecorded(plan: EntityPlan, key: string): RecordedRow | undefined {
    return this.byRow.get(plan)?.get(key)?.at(-1);
  }

  withdraw(events: readonly string[]): void {
    for (const id of events) this.withdrawn.push(id);
  }

  /** Forgets which rows have events: after a rollback to an unknown savepoint we cannot know which events still exist. */
  forgetRows(): void {
    this.recorded = [];
    this.byRow.clear();
  }

  /** Removes and returns all events, in their order. @param isUncertain includes withdrawn events, because a rollback may have restored them */
  takeAll(isUncertain: boolean): EventRow[] {
    const withdrawn = new Set(isUncertain ? [] : this.withdrawn);
    const { events } = this;
    this.events = [];
    this.withdrawn = [];
    this.forgetRows();
    return withdrawn.size ? events.filter(({ source }) => !withdrawn.has(source.event.id)) : events;
  }
}
