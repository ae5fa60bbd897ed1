import type { EventRow } from '../../store/outbox/event-rows.js';
import type { RowHistory } from '../changes/coalesce.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { RowChange } from '../changes/row-change.js';

/** What was told of a row in this transaction, where its entity says `coalesce: true`. */
interface RecordedRow {
  /** The row, by one of its changes. */
  readonly change: RowChange;
  readonly history: RowHistory | undefined;
  /** Ids of the events that tell of it; none where it came to nothing. */
  readonly events: readonly string[];
}

/** A moment of a transaction, to return to. */
export interface WrittenMark {
  readonly events: number;
  readonly withdrawn: number;
  readonly recorded: number;
}

/**
 * What a transaction has in the outbox, not yet committed: a list of what was done, that a savepoint cuts off.
 *
 * An event that tells of a row which changes again is withdrawn, and one of both changes takes its place. The database takes both back
 * with the savepoint in which that was done, and so does this.
 */
export class WrittenEvents {
  private events: EventRow[] = [];
  private withdrawn: string[] = [];
  private recorded: RecordedRow[] = [];
  private readonly byRow = new Map<EntityDefinition, Map<string, RecordedRow[]>>();

  get mark(): WrittenMark {
    return { events: this.events.length, withdrawn: this.withdrawn.length, recorded: this.recorded.length };
  }

  returnTo({ events, withdrawn, recorded }: WrittenMark): void {
    this.events.length = events;
    this.withdrawn.length = withdrawn;
    while (this.recorded.length > recorded) {
      const { definition, key } = (this.recorded.pop() as RecordedRow).change;
      this.byRow.get(definition)?.get(key)?.pop();
    }
  }

  add(row: EventRow): void {
    this.events.push(row);
  }

  /** @param events ids of those that tell of it */
  record(history: RowHistory, events: readonly string[]): void {
    this.push({ change: history.last, history, events });
  }

  /** What was told of a row is withdrawn, and what takes its place waits, with all that led to it. */
  withdrawRow({ last }: RowHistory): void {
    this.push({ change: last, history: undefined, events: [] });
  }

  private push(row: RecordedRow): void {
    const { definition, key } = row.change;
    this.recorded.push(row);
    let rows = this.byRow.get(definition);
    if (!rows) this.byRow.set(definition, (rows = new Map()));
    const before = rows.get(key);
    if (before) before.push(row);
    else rows.set(key, [row]);
  }

  lastRecorded(definition: EntityDefinition, key: string): RecordedRow | undefined {
    return this.byRow.get(definition)?.get(key)?.at(-1);
  }

  withdraw(events: readonly string[]): void {
    for (const id of events) this.withdrawn.push(id);
  }

  /** From here on nothing that was told is told again: what of it stands is not known any more. */
  forgetRows(): void {
    this.recorded = [];
    this.byRow.clear();
  }

  /** Takes all events out, in their order. @param isUncertain also those that were withdrawn, which may stand again */
  take(isUncertain: boolean): EventRow[] {
    const withdrawn = new Set(isUncertain ? [] : this.withdrawn);
    const { events } = this;
    this.events = [];
    this.withdrawn = [];
    this.forgetRows();
    return withdrawn.size ? events.filter(({ source }) => !withdrawn.has(source.event.id)) : events;
  }
}
