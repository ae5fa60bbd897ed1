import type { QueryRunner } from 'typeorm';
import { calledTooLate, transactionEnded } from './transaction-errors.js';
import type { Transaction, TransactionLog } from './transaction-log.js';
import { refuseEnded, Work, worksOn } from './work.js';

/** Options for a statement that ends or divides a transaction. */
export interface EndOptions {
  /** Whether the end rolls back the transaction, or the part after a savepoint. */
  readonly isRollback: boolean;
  /** Whether the end enters the AsyncLocalStorage, so that calls inside the end can be identified. */
  readonly entersChain: boolean;
  /** Called with the writes that do not finish in time. A rollback has no such function: a rollback ends these writes, and is then sent. */
  refuse?(stuck: readonly Work[]): Promise<never>;
}

/** An end of a transaction, or a statement that divides a transaction. The object is created when the end is called. */
interface End extends EndOptions {
  readonly work: Work;
  /** The write or `transaction()` that has called this end. */
  readonly scope: Work | undefined;
  /** The works that were unfinished when the end was called, and works that these works have called since. */
  readonly waitFor: Set<Work>;
  /** The time at which the wait of this end was over, as a value of `performance.now()`. */
  sentAt: number | undefined;
}

/**
 * The unfinished works on one query runner, and the ends of its transaction: COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK TO, and
 * `release()` of the runner. An end waits for the writes that began before the end was called. A work that is called after the end waits
 * for that end. There is one exception: if the end itself waits for a write, the works inside that write do not wait for the end. Otherwise
 * both would wait forever.
 */
export class TransactionEnds {
  private readonly works = new Set<Work>();
  private readonly ends = new Set<End>();
  private readonly watchers = new Set<() => void>();

  constructor(
    private readonly runner: QueryRunner,
    private readonly log: TransactionLog,
    private readonly timeoutMs: number,
  ) {}

  /** Registers a work that begins. @param transaction the transaction to which the work belongs */
  add(work: Work, transaction: Transaction | null): void {
    work.transaction = transaction;
    this.works.add(work);
    for (const end of this.ends) if (this.delays(work, end)) end.waitFor.add(work);
  }

  /** Unregisters a work that has finished or failed. */
  remove(work: Work): void {
    work.isOver = true;
    this.works.delete(work);
    this.notifyWatchers();
  }

  /** Unregisters a work that waits for a turn again. From this call on, no end waits for that work. */
  suspend(work: Work): void {
    this.works.delete(work);
  }

  /** Called when a statement of a write is done. */
  statementDone(): void {
    if (this.ends.size) this.notifyWatchers();
  }

  /** Called when a transaction is over. Unfinished works of this transaction may send no more statements. */
  transactionOver(transaction: Transaction | null): void {
    if (!transaction?.end) return;
    const isByServer = transaction.end === 'rolled back by the server';
    for (const work of this.works) {
      if (work.transaction !== transaction && !(isByServer && work.begun === transaction)) continue;
      work.ended ??= transactionEnded(work, transaction);
    }
    this.notifyWatchers();
  }

  /** Returns an end that `work` has to wait for. An end does not count if the end itself waits for `work` or for a caller of `work`. */
  endBefore(work: Work): End | undefined {
    for (const end of this.ends) if (!work.isInside(end.work) && !this.delays(work, end)) return end;
    return undefined;
  }

  /** Whether an end waits for `work`, or for one of its callers. */
  private delays(work: Work, end: End): boolean {
    for (const one of end.waitFor) if ((one === work || work.isInside(one)) && this.blocks(one, end)) return true;
    return false;
  }

  /** Runs an end after the writes that began before it are done. */
  async run<T>(options: EndOptions, send: () => Promise<T>): Promise<T> {
    const work = new Work('end', this.runner, () => 'an end of the transaction');
    refuseEnded(this.runner, options.isRollback);
    for (let end = this.endBefore(work); end; end = this.endBefore(work))
      await this.waitForChange(this.timeLeftOf(end, work));
    const end: End = {
      ...options,
      work,
      scope: this.scopeOf(work),
      waitFor: this.begunBefore(work),
      sentAt: undefined,
    };
    this.ends.add(end);
    try {
      const stuck = await this.stuckBefore(end);
      refuseEnded(this.runner, options.isRollback);
      return await (options.entersChain ? work.run(() => this.settle(end, stuck, send)) : send());
    } finally {
      work.isOver = true;
      this.ends.delete(end);
      this.notifyWatchers();
    }
  }

  /**
   * The works that an end waits for. If the end is inside another end, that outer end has waited already. Then the inner end waits only for
   * works of the outer end.
   */
  private begunBefore(work: Work): Set<Work> {
    const around = [...this.ends].find((end) => work.isInside(end.work));
    return new Set(around ? [...this.works].filter((one) => one.isInside(around.work)) : this.works);
  }

  private async settle<T>(end: End, stuck: readonly Work[], send: () => Promise<T>): Promise<T> {
    if (stuck.length && end.refuse) return end.refuse(stuck);
    for (const work of stuck) work.ended ??= transactionEnded(work, { end: 'rolled back' });
    return send();
  }

  /**
   * Waits for the writes before an end. If none of these writes has run a statement for `timeoutMs`, the method returns the unfinished
   * writes.
   */
  private async stuckBefore(end: End): Promise<readonly Work[]> {
    const since = performance.now();
    for (;;) {
      const blockers = [...end.waitFor].filter((work) => this.blocks(work, end));
      const isAtWork = blockers.some(({ statements }) => statements > 0);
      const last = Math.max(since, ...blockers.map(({ lastStatementAt }) => lastStatementAt));
      const left = isAtWork ? Infinity : last + this.timeoutMs - performance.now();
      if (!blockers.length || left <= 0) {
        // There is no `await` between the check above and this line. Otherwise two ends that wait for each other could both be sent.
        end.sentAt = performance.now();
        this.notifyWatchers();
        return blockers;
      }
      await this.waitForChange(left);
    }
  }

  private blocks(work: Work, { work: end, scope }: End): boolean {
    if (work.isOver || work.ended || work.kind === 'other' || end.isInside(work)) return false;
    const isWithin = !scope || work.isInside(scope);
    // A `transaction()` that has not begun its transaction still waits for its turn. An end does not wait for such a call.
    if (work.kind === 'transaction') return isWithin && (work.transaction ?? work.begun) !== null;
    if (isWithin) return true;
    return ![...this.ends].some((other) => other.sentAt === undefined && other.work.isInside(work));
  }

  /**
   * The innermost write or `transaction()` around an end. `undefined` if this write or `transaction()` has itself begun the transaction
   * that ends.
   */
  private scopeOf(end: Work): Work | undefined {
    for (const work of worksOn(this.runner, end.outer)) {
      if (work.kind !== 'end') return work.begun && work.begun === this.log.current ? undefined : work;
    }
    return undefined;
  }

  /** Waits until a work or an end has changed, at most `ms` milliseconds. */
  private waitForChange(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === Infinity ? undefined : setTimeout(() => done(), ms);
      const done = () => {
        clearTimeout(timer);
        this.watchers.delete(done);
        resolve();
      };
      this.watchers.add(done);
    });
  }

  private notifyWatchers(): void {
    for (const watcher of [...this.watchers]) watcher();
  }

  /** Waits for the ends before `work`. @throws CaptureError `TRANSACTION_ENDED`: the transaction of `work` has ended during the wait */
  async waitForEnds(work: Work): Promise<void> {
    const { current } = this.log;
    for (let end = this.endBefore(work); end; end = this.endBefore(work)) {
      await this.waitForChange(this.timeLeftOf(end, work));
      if (current?.end) throw transactionEnded(work, current);
      const isTakenBack = end.isRollback && !this.ends.has(end) && end.scope && work.isInside(end.scope);
      if (isTakenBack) throw transactionEnded(work, { end: 'rolled back' });
    }
    // Register the work now: another end that has waited for the same end checks the registered works next.
    this.works.add(work);
  }

  /**
   * @throws CaptureError `TRANSACTION_ENDED`: `work` may belong to a hook of this end, although the AsyncLocalStorage does not show the
   * hook
   */
  private timeLeftOf({ sentAt }: End, work: Work): number {
    if (sentAt === undefined) return Infinity;
    const { timeoutMs } = this;
    const left = sentAt + timeoutMs - performance.now();
    if (left <= 0) throw calledTooLate(work, timeoutMs);
    return left;
  }
}
