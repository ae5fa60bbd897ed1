import type { RowImage } from '../../entities/entity-definition.js';
import type { EventRow } from '../../store/outbox/event-rows.js';
import type { RowChange } from '../changes/row-change.js';

/** A change whose event is not in the outbox yet, or a published event. */
export type Pending = RowChange | EventRow;

/** The changes and events that a transaction has not yet written to the outbox, in the order of the application's calls. */
export class PendingChanges {
  private list: Pending[] = [];
  /** Changes whose after image is not read yet. The keys are the path of the table and the key of the row. */
  private readonly unread = new Map<string, Map<string, Set<RowChange>>>();

  /** The pending changes and events. {@link push} adds to this list, and {@link clear} replaces this list by a new list. */
  get items(): readonly Pending[] {
    return this.list;
  }

  push(item: Pending): void {
    this.list.push(item);
    if ('values' in item || item.image) return;
    const { tablePath } = item.plan.definition.metadata;
    let rows = this.unread.get(tablePath);
    if (!rows) this.unread.set(tablePath, (rows = new Map()));
    const changes = rows.get(item.key);
    if (changes) changes.add(item);
    else rows.set(item.key, new Set([item]));
  }

  clear(): void {
    this.list = [];
    this.unread.clear();
  }

  /** Replaces `items` by `rest`. Does nothing if a rollback has dropped these items in the meantime. */
  replace(items: readonly Pending[], rest: readonly Pending[]): void {
    if (this.list === items) this.list = [...rest];
  }

  /**
   * Changes without an after image. @param tablePath if given, only changes of this table @param keys if given, only changes of these rows
   */
  withoutImage(tablePath?: string, keys?: Iterable<string>): RowChange[] {
    if (tablePath === undefined) return [...this.unread.keys()].flatMap((path) => this.withoutImage(path));
    const rows = this.unread.get(tablePath);
    if (!rows) return [];
    return [...(keys ?? rows.keys())].flatMap((key) => [...(rows.get(key) ?? [])]);
  }

  setImage(change: RowChange, image: RowImage | 'gone'): void {
    change.image = image;
    const rows = this.unread.get(change.plan.definition.metadata.tablePath);
    const changes = rows?.get(change.key);
    changes?.delete(change);
    if (!changes?.size) rows?.delete(change.key);
  }
}
