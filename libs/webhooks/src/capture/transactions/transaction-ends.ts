import type { QueryRunner } from 'typeorm';
import { calledTooLate, transactionEnded } from './transaction-errors.js';
import type { Transaction, TransactionLog } from './transaction-log.js';
import { refuseEnded, Work, worksOn } from './work.js';

/** What is asked of a statement that ends or divides a transaction. */
export interface EndOptions {
  /** It takes back what was written: all of it, or what came after a savepoint. */
  readonly isRollback: boolean;
  /** What it calls is told from what others call by its chain of calls. */
  readonly entersChain: boolean;
  /** What to do where writes do not finish; for a rollback, they are of no interest any more. */
  refuse?(stuck: readonly Work[]): Promise<never>;
}

/** A statement that ends or divides a transaction, from the time when it was asked for. */
interface End extends EndOptions {
  readonly work: Work;
  /** The write or `transaction()` that it was asked for in. */
  readonly scope: Work | undefined;
  /** What was under way then, and what that has called since. */
  readonly waitFor: Set<Work>;
  /** When its wait was over. */
  sentAt: number | undefined;
}

/**
 * What is under way on one query runner, and the statements that end or divide its transaction: COMMIT, ROLLBACK, SAVEPOINT, RELEASE,
 * ROLLBACK TO, and `release()` of the runner. An end waits for the writes that others have begun before it. What is called after it waits
 * for it in turn, unless the end waits for that: as part of a write that it waits for.
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

  /** Something has begun. @param transaction that it belongs to */
  add(work: Work, transaction: Transaction | null): void {
    work.transaction = transaction;
    this.works.add(work);
    for (const end of this.ends) if (this.delays(work, end)) end.waitFor.add(work);
  }

  /** It is over, one way or the other. */
  remove(work: Work): void {
    work.isOver = true;
    this.works.delete(work);
    this.changed();
  }

  /** It waits for a turn again, and nobody waits for it. */
  putBack(work: Work): void {
    this.works.delete(work);
  }

  /** A statement of a write is done. */
  moved(): void {
    if (this.ends.size) this.changed();
  }

  /** A transaction is over. What was called in it, and is still under way, sends nothing more. */
  over(transaction: Transaction | null): void {
    if (!transaction?.end) return;
    const isByServer = transaction.end === 'rolled back by the server';
    for (const work of this.works) {
      if (work.transaction !== transaction && !(isByServer && work.begun === transaction)) continue;
      work.ended ??= transactionEnded(work, transaction);
    }
    this.changed();
  }

  /** An end that `work` has to wait for: it waits for nothing that `work` belongs to. */
  endBefore(work: Work): End | undefined {
    for (const end of this.ends) if (!work.isInside(end.work) && !this.delays(work, end)) return end;
    return undefined;
  }

  /** Whether an end waits for `work`, or for what has called it. */
  private delays(work: Work, end: End): boolean {
    for (const one of end.waitFor) if ((one === work || work.isInside(one)) && this.blocks(one, end)) return true;
    return false;
  }

  /** Runs an end when the writes are done that others began before it. */
  async run<T>(options: EndOptions, send: () => Promise<T>): Promise<T> {
    const work = new Work('end', this.runner, () => 'an end of the transaction');
    refuseEnded(this.runner, options.isRollback);
    for (let end = this.endBefore(work); end; end = this.endBefore(work)) await this.change(this.timeLeftOf(end, work));
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
      this.changed();
    }
  }

  /** In another end, which has waited for the others, only what that has called itself. */
  private begunBefore(work: Work): Set<Work> {
    const around = [...this.ends].find((end) => work.isInside(end.work));
    return new Set(around ? [...this.works].filter((one) => one.isInside(around.work)) : this.works);
  }

  private async settle<T>(end: End, stuck: readonly Work[], send: () => Promise<T>): Promise<T> {
    if (stuck.length && end.refuse) return end.refuse(stuck);
    for (const work of stuck) work.ended ??= transactionEnded(work, { end: 'rolled back' });
    return send();
  }

  /** Waits. Returns the writes that have had no statement under way for too long. */
  private async stuckBefore(end: End): Promise<readonly Work[]> {
    const since = performance.now();
    for (;;) {
      const blockers = [...end.waitFor].filter((work) => this.blocks(work, end));
      const isAtWork = blockers.some(({ statements }) => statements > 0);
      const last = Math.max(since, ...blockers.map(({ lastStatementAt }) => lastStatementAt));
      const left = isAtWork ? Infinity : last + this.timeoutMs - performance.now();
      if (!blockers.length || left <= 0) {
        // At once: of two that wait for each other only one goes.
        end.sentAt = performance.now();
        this.changed();
        return blockers;
      }
      await this.change(left);
    }
  }

  private blocks(work: Work, { work: end, scope }: End): boolean {
    if (work.isOver || work.ended || work.kind === 'other' || end.isInside(work)) return false;
    const isWithin = !scope || work.isInside(scope);
    // One that has not begun yet waits for its turn.
    if (work.kind === 'transaction') return isWithin && (work.transaction ?? work.begun) !== null;
    if (isWithin) return true;
    return ![...this.ends].some((other) => other.sentAt === undefined && other.work.isInside(work));
  }

  /** The innermost write or `transaction()` around an end; none where it ends the whole transaction that this has begun. */
  private scopeOf(end: Work): Work | undefined {
    for (const work of worksOn(this.runner, end.outer)) {
      if (work.kind !== 'end') return work.begun && work.begun === this.log.current ? undefined : work;
    }
    return undefined;
  }

  /** Waits until something has changed, or for a time. */
  private change(ms: number): Promise<void> {
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

  private changed(): void {
    for (const watcher of [...this.watchers]) watcher();
  }

  /** @throws CaptureError `TRANSACTION_ENDED`: what `work` was called in is over by then */
  async pass(work: Work): Promise<void> {
    const { current } = this.log;
    for (let end = this.endBefore(work); end; end = this.endBefore(work)) {
      await this.change(this.timeLeftOf(end, work));
      if (current?.end) throw transactionEnded(work, current);
      const isTakenBack = end.isRollback && !this.ends.has(end) && end.scope && work.isInside(end.scope);
      if (isTakenBack) throw transactionEnded(work, { end: 'rolled back' });
    }
    // Before an end that has waited for the same one looks.
    this.works.add(work);
  }

  /** @throws CaptureError `TRANSACTION_ENDED`: `work` is perhaps of a hook of the end itself, which its chain of calls does not show */
  private timeLeftOf({ sentAt }: End, work: Work): number {
    if (sentAt === undefined) return Infinity;
    const { timeoutMs } = this;
    const left = sentAt + timeoutMs - performance.now();
    if (left <= 0) throw calledTooLate(work, timeoutMs);
    return left;
  }
}
