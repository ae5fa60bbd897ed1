import type { QueryRunner } from 'typeorm';
import { calledTooLate, transactionEnded } from './transaction-errors.js';
import type { Transaction, TransactionLog } from './transaction-log.js';
import { refuseEnded, Work, worksOn } from './work.js';

/** How a statement that ends or divides a transaction is run. */
export interface EndOptions {
  /** It rolls back the transaction, or the part after a savepoint. */
  readonly isRollback: boolean;
  /** It enters the AsyncLocalStorage, so that calls inside it can be identified. */
  readonly entersChain: boolean;
  /** Called with the writes that do not finish in time. A rollback has no such function: it ends these writes and is sent. */
  refuse?(stuck: readonly Work[]): Promise<never>;
}

/** A call that ends or divides a transaction, from the call on. */
interface End extends EndOptions {
  readonly work: Work;
  /** The write or `transaction()` that has called it. */
  readonly scope: Work | undefined;
  /** The works that were not finished at the time of the call, and works that these have called since. */
  readonly waitFor: Set<Work>;
  /** When its wait was over, by `performance.now()`. */
  sentAt: number | undefined;
}

/**
 * The unfinished works on one query runner, and the ends of its transaction: COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK TO, and
 * `release()` of the runner. An end waits for the writes that began before it. A work that is called after the end waits for it. Not so
 * a work inside a write that the end itself waits for: both would wait forever.
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

  /** Registers a work that begins. @param transaction the transaction that it belongs to */
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

  /** Unregisters a work that waits for a turn again: no end waits for it then. */
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

  /** Returns an end that `work` has to wait for: an end that does not itself wait for `work` or its callers. */
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

  /** The works that an end waits for. Inside another end, which has waited already, these are only the works of that outer end. */
  private begunBefore(work: Work): Set<Work> {
    const around = [...this.ends].find((end) => work.isInside(end.work));
    return new Set(around ? [...this.works].filter((one) => one.isInside(around.work)) : this.works);
  }

  private async settle<T>(end: End, stuck: readonly Work[], send: () => Promise<T>): Promise<T> {
    if (stuck.length && end.refuse) return end.refuse(stuck);
    for (const work of stuck) work.ended ??= transactionEnded(work, { end: 'rolled back' });
    return send();
  }

  /** Waits for the writes before an end. Returns the unfinished writes after none of them has run a statement for `timeoutMs`. */
  private async stuckBefore(end: End): Promise<readonly Work[]> {
    const since = performance.now();
    for (;;) {
      const blockers = [...end.waitFor].filter((work) => this.blocks(work, end));
      const isAtWork = blockers.some(({ statements }) => statements > 0);
      const last = Math.max(since, ...blockers.map(({ lastStatementAt }) => lastStatementAt));
      const left = isAtWork ? Infinity : last + this.timeoutMs - performance.now();
      if (!blockers.length || left <= 0) {
        // No `await` between the check above and this line: two ends that wait for each other would otherwise both be sent.
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
    // A `transaction()` that has not begun its transaction still waits for its turn.
    if (work.kind === 'transaction') return isWithin && (work.transaction ?? work.begun) !== null;
    if (isWithin) return true;
    return ![...this.ends].some((other) => other.sentAt === undefined && other.work.isInside(work));
  }

  /** The innermost write or `transaction()` around an end. `undefined` if the end is that of the transaction which this work has begun. */
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

  /** Waits for the ends before `work`. @throws CaptureError `TRANSACTION_ENDED`: the transaction of `work` is over by then */
  async waitForEnds(work: Work): Promise<void> {
    const { current } = this.log;
    for (let end = this.endBefore(work); end; end = this.endBefore(work)) {
      await this.waitForChange(this.timeLeftOf(end, work));
      if (current?.end) throw transactionEnded(work, current);
      const isTakenBack = end.isRollback && !this.ends.has(end) && end.scope && work.isInside(end.scope);
      if (isTakenBack) throw transactionEnded(work, { end: 'rolled back' });
    }
    // Registered before another end that has waited for the same end checks the works.
    this.works.add(work);
  }

  /** @throws CaptureError `TRANSACTION_ENDED`: `work` may belong to a hook of this very end, which the AsyncLocalStorage does not show */
  private timeLeftOf({ sentAt }: End, work: Work): number {
    if (sentAt === undefined) return Infinity;
    const { timeoutMs } = this;
    const left = sentAt + timeoutMs - performance.now();
    if (left <= 0) throw calledTooLate(work, timeoutMs);
    return left;
  }
}
