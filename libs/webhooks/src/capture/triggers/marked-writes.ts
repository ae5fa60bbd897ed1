/** A transaction mark: values for the triggers that the following writes fire. */
export interface TriggerMark {
  /** Whether triggers capture nothing. */
  readonly skip: boolean;
  /** The context that triggers store with each image: the text of `contextText()`. */
  readonly context: string | null;
  /** The id of the transaction; `null` if no trigger needs it, or if the database has an id itself. */
  readonly transaction: string | null;
}

export const NO_MARK: TriggerMark = { skip: false, context: null, transaction: null };

/** Equal marks have equal keys. */
export const keyOf = ({ skip, context, transaction }: TriggerMark): string =>
  JSON.stringify([skip, context, transaction]);

export const NO_KEY = keyOf(NO_MARK);

/**
 * How long a write waits for writes with another mark. The limit is needed because the end of a write is not reported if a hook of another
 * subscriber failed before the statement was sent.
 */
const MAX_WAIT_MS = 10_000;

/** A write that asks to run. */
interface MarkedWrite {
  readonly query: string;
  readonly key: string;
  /** `true` if this write must run alone: its mark is removed when it ends. */
  readonly isAlone: boolean;
  /** Sets the mark in the database. */
  readonly mark: () => Promise<void>;
}

/**
 * The current mark of the connection of one query runner, and the unfinished writes with that mark.
 *
 * A mark applies to every statement that the connection runs after it, and concurrent writes may have different marks. So writes with the
 * same mark run concurrently, and a write with another mark waits until they have ended, in the order of the calls.
 */
export class MarkedWrites {
  /** The key of the mark that is set or being set in the database; `null` if it is unknown, after a rollback to a savepoint. */
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

  /** Whether a statement has entered and not yet left. */
  isUnderWay(query: string): boolean {
    return this.underWay.has(query);
  }

  /** Resolves when the write may run: immediately, or when writes with another mark have ended. Every write must then {@link leave}. */
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

  /** Must be called when the mark was removed, by the end of its transaction or by a statement. */
  forget(): void {
    this.key = NO_KEY;
    this.isMarked = false;
    this.isOwnTransaction = false;
  }

  /** Waits until a mark that is being set is set. */
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
    // A statement whose mark failed is never sent, so it must leave here.
    const failed = (error: unknown) => {
      this.leave(query);
      throw error;
    };
    if (this.key === key) return this.marking?.catch(failed);
    // Set the key before the mark is set: writes that come meanwhile wait for this mark, or for the end of its writes.
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
