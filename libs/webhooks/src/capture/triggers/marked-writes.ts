/** What triggers are told of the writes that follow. */
export interface TriggerMark {
  /** They write nothing down. */
  readonly skip: boolean;
  /** What they write down beside each image: the text of `contextText()`. */
  readonly context: string | null;
  /** In which transaction; `null` where nobody wants to know, or the database knows by itself. */
  readonly transaction: string | null;
}

export const NO_MARK: TriggerMark = { skip: false, context: null, transaction: null };

/** Equal marks have equal keys. */
export const keyOf = ({ skip, context, transaction }: TriggerMark): string =>
  JSON.stringify([skip, context, transaction]);

export const NO_KEY = keyOf(NO_MARK);

/** How long a write waits for one with another mark that does not come back: another subscriber's hook failed before it was sent. */
const MAX_WAIT_MS = 10_000;

/** A write that wants to pass. */
interface MarkedWrite {
  readonly query: string;
  readonly key: string;
  /** No other one may join it: its mark ends with it. */
  readonly isAlone: boolean;
  /** Sets its mark. */
  readonly mark: () => Promise<void>;
}

/**
 * The mark that one query runner's connection has, and the writes that are under way with it.
 *
 * A mark holds for all that the connection runs after it, and writes that are called at once may have different ones. So writes with one
 * mark run together, and a write with another waits until they are over: first come, first served.
 */
export class MarkedWrites {
  /** The mark that the database has, or is about to have; `null`: a savepoint was rolled back, and only the database knows. */
  key: string | null = NO_KEY;
  /** Whether a mark was set in this transaction. */
  isMarked = false;
  /** The transaction was opened for one statement. */
  isOwnTransaction = false;

  private readonly underWay = new Map<string, number>();
  private readonly waiting: { readonly write: MarkedWrite; readonly start: () => void }[] = [];
  private count = 0;
  private isAlone = false;
  private marking: Promise<void> | null = null;

  /** Whether a statement was let through and has not come back. */
  isUnderWay(query: string): boolean {
    return this.underWay.has(query);
  }

  /** Lets a write through: at once, or when those with another mark are over. Every one that came through has to {@link leave}. */
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

  /** The mark is gone, with its transaction or by a statement. */
  forget(): void {
    this.key = NO_KEY;
    this.isMarked = false;
    this.isOwnTransaction = false;
  }

  /** Waits for a mark that is being set. */
  async marked(): Promise<void> {
    await this.marking?.catch(() => undefined);
  }

  /** The transaction is over, and all that was under way in it. @returns whether a mark may have been set in it, or since */
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
    // A statement that is not sent does not come back.
    const failed = (error: unknown) => {
      this.leave(query);
      throw error;
    };
    if (this.key === key) return this.marking?.catch(failed);
    // At once: what comes meanwhile waits for this mark, or for its end.
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
