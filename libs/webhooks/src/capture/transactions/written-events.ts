import type { EventRow } from '../../store/outbox/event-rows.js';
import type { RowHistory } from '../changes/coalesce.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { RowChange } from '../changes/row-change.js';

/** What was told of a row in this transaction, where its entity says `coalesce: true`. */
interface ToldRow {
  /** The row, by one of its changes. */
  readonly of: RowChange;
  readonly history: RowHistory | undefined;
  /** Ids of the events that tell of it; none where it came to nothing. */
  readonly events: readonly string[];
}

/** A moment of a transaction, to return to. */
export interface WrittenMark {
  readonly events: number;
  readonly withdrawn: number;
  readonly told: number;
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
  private told: ToldRow[] = [];
  private readonly byRow = new Map<EntityDefinition, Map<string, ToldRow[]>>();

  get mark(): WrittenMark {
    return { events: this.events.length, withdrawn: this.withdrawn.length, told: this.told.length };
  }

  returnTo({ events, withdrawn, told }: WrittenMark): void {
    this.events.length = events;
    this.withdrawn.length = withdrawn;
    while (this.told.length > told) {
      const { definition, key } = (this.told.pop() as ToldRow).of;
      this.byRow.get(definition)?.get(key)?.pop();
    }
  }

  add(row: EventRow): void {
    this.events.push(row);
  }

  /** @param events ids of those that tell of it */
  tell(history: RowHistory, events: readonly string[]): void {
    this.push({ of: history.last, history, events });
  }

  /** What was told of a row is withdrawn, and what takes its place waits, with all that led to it. */
  untell({ last }: RowHistory): void {
    this.push({ of: last, history: undefined, events: [] });
  }

  private push(row: ToldRow): void {
    const { definition, key } = row.of;
    this.told.push(row);
    let rows = this.byRow.get(definition);
    if (!rows) this.byRow.set(definition, (rows = new Map()));
    const before = rows.get(key);
    if (before) before.push(row);
    else rows.set(key, [row]);
  }

  toldOf(definition: EntityDefinition, key: string): ToldRow | undefined {
    return this.byRow.get(definition)?.get(key)?.at(-1);
  }

  withdraw(events: readonly string[]): void {
    for (const id of events) this.withdrawn.push(id);
  }

  /** From here on nothing that was told is told again: what of it stands is not known any more. */
  forgetRows(): void {
    this.told = [];
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
