/** A transaction mark: values for triggers. The values apply to the triggers that later writes fire. */
export interface TriggerMark {
  /** `true` if triggers must not capture the write. */
  readonly skip: boolean;
  /** The context that triggers store with each image: the text of `contextText()`. */
  readonly context: string | null;
  /** The id of the transaction. `null` if no trigger needs the id, or if the database provides an id itself. */
  readonly transaction: string | null;
}

export const NO_MARK: TriggerMark = { skip: false, context: null, transaction: null };

/** Returns the key of a mark. Equal marks have equal keys. */
export const keyOf = ({ skip, context, transaction }: TriggerMark): string =>
  JSON.stringify([skip, context, transaction]);

export const NO_KEY = keyOf(NO_MARK);

/**
 * The longest wait of a write for writes with another mark. Usually the wait ends with those writes. The limit is for a write whose end is
 * never reported, and for hooks of the application that wait for each other.
 */
const MAX_WAIT_MS = 10_000;

/** A write that waits until it may run. */
interface MarkedWrite {
  readonly query: string;
  readonly key: string;
  /** `true` if this write must run alone, because its mark is removed at the end of the write. */
  readonly isAlone: boolean;
  /** Sets the mark in the database. */
  readonly mark: () => Promise<void>;
}

/**
 * The current mark of the connection of one query runner, and the unfinished writes with that mark.
 *
 * A mark applies to every later statement of the connection, and concurrent writes may have different marks. So only writes with the same
 * mark run concurrently. A write with another mark waits until these writes have ended. Waiting writes keep the order of the calls.
 */
export class MarkedWrites {
  /**
   * The key of the mark that is set, or is being set, in the database. After a rollback to a savepoint the mark is unknown, and the key is
   * `null`.
   */
  key: string | null = NO_KEY;
  /** Whether a mark was set in this transaction. */
  isMarked = false;
  /** Whether the transaction was opened for this one statement. */
  isOwnTransaction = false;

  private readonly underWay = new Map<string, number>();
  private readonly waiting: { readonly write: MarkedWrite; readonly start: () => void }[] = [];
  private count = 0;
  private isAlone = false;
  private marking: Promise<void> | null = null;

  /** Whether a statement has called {@link enter} and not yet {@link leave}. */
  isUnderWay(query: string): boolean {
    return this.underWay.has(query);
  }

  /**
   * Resolves when the write may run: immediately, or when writes with another mark have ended. Every write must call {@link leave}
   * afterwards.
   */
  enter(write: MarkedWrite): Promise<void> | undefined {
    return !this.waiting.length && this.admits(write) ? this.begin(write) : this.wait(write);
  }

  leave(query: string): void {
    const same = this.underWay.get(query);
    if (same === undefined) return;
    if (same > 1) this.underWay.set(query, same - 1);
    else this.underWay.delete(query);
    this.count--;
    this.admitNext();
  }

  /** Must be called when the mark was removed, either by the end of its transaction or by a statement. */
  forget(): void {
    this.key = NO_KEY;
    this.isMarked = false;
    this.isOwnTransaction = false;
  }

  /** Waits until the current mark is set in the database. */
  async marked(): Promise<void> {
    await this.marking?.catch(() => undefined);
  }

  /** Must be called when the transaction and its statements have ended. @returns whether a mark was set since the transaction began */
  async end(): Promise<boolean> {
    await this.marked();
    const { isMarked } = this;
    this.forget();
    this.underWay.clear();
    this.count = 0;
    this.admitNext();
    return isMarked;
  }

  private admits({ key, isAlone }: MarkedWrite): boolean {
    return this.count === 0 || (!isAlone && !this.isAlone && this.key === key);
  }

  private begin({ query, key, isAlone, mark }: MarkedWrite): Promise<void> | undefined {
    this.underWay.set(query, (this.underWay.get(query) ?? 0) + 1);
    this.count++;
    this.isAlone = isAlone;
    // A statement whose mark could not be set is never sent, so the statement must leave here.
    const failed = (error: unknown) => {
      this.leave(query);
      throw error;
    };
    if (this.key === key) return this.marking?.catch(failed);
    // Set the key before the mark is set. Writes that begin in the meantime then wait for this mark, or for the end of the writes with this
    // mark.
    this.key = key;
    this.isMarked = true;
    const marking: Promise<void> = mark().then(
      () => this.hasMarked(marking),
      (error: unknown) => {
        this.hasMarked(marking);
        this.key = null;
        return failed(error);
      },
    );
    this.marking = marking;
    return marking;
  }

  private hasMarked(marking: Promise<void>): void {
    if (this.marking === marking) this.marking = null;
  }

  private wait(write: MarkedWrite): Promise<void> {
    return new Promise((resolve) => {
      const start = () => {
        clearTimeout(timer);
        resolve(this.begin(write));
      };
      const entry = { write, start };
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(entry), 1);
        start();
      }, MAX_WAIT_MS);
      this.waiting.push(entry);
    });
  }

  private admitNext(): void {
    for (let next = this.waiting[0]; next && this.admits(next.write); next = this.waiting[0]) {
      this.waiting.shift();
      next.start();
    }
  }
}
