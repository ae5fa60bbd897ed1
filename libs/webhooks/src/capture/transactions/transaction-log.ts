import type { EventRow } from '../../store/outbox/event-rows.js';
import type { DialectName } from '../../dialect.js';
import type { TransactionStatement } from './transaction-statement.js';
import { PendingChanges, type Pending } from './pending-changes.js';

/** One transaction of a query runner, from its BEGIN on. */
export interface Transaction {
  /** Set when it is over. */
  end?: 'committed' | 'rolled back' | 'rolled back by the server';
}

/** The result of a statement that committed. */
export interface Committed {
  readonly events: EventRow[];
  /** Some of these events may have been rolled back: only the database knows which. */
  readonly isUncertain: boolean;
  /** Changes that were committed before their events were written. */
  readonly lost: readonly Pending[];
  /** Callbacks to run after the commit. */
  readonly callbacks: readonly (() => void)[];
}

const NOTHING: Committed = { events: [], isUncertain: false, lost: [], callbacks: [] };

/**
 * The changes of one query runner since its transaction began, and which of them are in the outbox already.
 *
 * It follows the statements that pass and the state that the driver reports after them, not TypeORM's flags. A hand-written COMMIT or
 * ROLLBACK TO changes no flag, and neither does an error after which the server rolled back. Changes are `pending` until the next COMMIT,
 * SAVEPOINT or RELEASE, and are written before it. So a ROLLBACK TO removes the event rows from after its savepoint. Changes that are
 * pending then also came after the savepoint, and are dropped. Outside a transaction no change stays pending.
 */
export class TransactionLog {
  readonly pending = new PendingChanges();
  /** Events that this transaction has written to the outbox. Savepoints keep its length, so it only grows. */
  readonly written: EventRow[] = [];
  /** The open transaction. */
  current: Transaction | null = null;
  /** A statement of this transaction has failed. If the transaction then ends without a statement, it was rolled back. */
  hasFailed = false;
  /** Settled when the server has answered whether the transaction survived an error. */
  asking: Promise<void> | undefined;
  /** The id of this transaction in transaction marks. Set when a trigger needs it. */
  id: string | null = null;
  /** A table with triggers was written to, so triggers may have written images. */
  wroteImages = false;
  /** Callbacks to run after the commit. */
  afterCommit: (() => void)[] = [];
  /** A savepoint of an unknown name was rolled back, so only the database knows which events of `written` still exist. */
  private isUncertain = false;
  /** MySQL's `autocommit` is off: each end of a transaction opens the next one. */
  private isManual = false;
  private savepoints: { name: string; written: number; callbacks: number }[] = [];
  private last: Promise<unknown> = Promise.resolve();

  get isOpen(): boolean {
    return this.current !== null;
  }

  /** Whether a rollback would remove an event. */
  get hasEvents(): boolean {
    return this.pending.items.length > 0 || this.written.length > 0;
  }

  /** Runs works one after the other: several writes may run at the same time, but the connection runs one statement at a time. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }

  /** Follows a statement that succeeded. @param dialect decides the effect of a BEGIN in a transaction */
  follow(statement: TransactionStatement, dialect: DialectName): Committed {
    switch (statement.kind) {
      case 'begin':
        return this.begin(dialect);
      case 'commit':
        return this.committed(statement.chain);
      case 'autocommit':
        return this.setAutocommit(statement.isOn);
      case 'prepare': // committed later, perhaps by another connection: the dispatcher finds the events when it polls
        this.end('committed', false);
        return NOTHING;
      case 'rollback':
        this.rolledBack(statement.chain);
        return NOTHING;
      case 'savepoint':
        this.savepoints.push({
          name: statement.name,
          written: this.written.length,
          callbacks: this.afterCommit.length,
        });
        return NOTHING;
      case 'release':
        this.savepoints.length = this.indexOf(statement.name) ?? this.savepoints.length;
        return NOTHING;
      case 'rollback_to':
        this.rolledBackTo(statement.name);
        return NOTHING;
      case 'unknown':
        return NOTHING;
    }
  }

  /** The driver reports that a transaction is open, although no statement has begun it. */
  begunByServer(): void {
    this.current = {};
  }

  /** The driver reports that the transaction is over, although no statement has ended it. */
  endedByServer(): Committed {
    if (this.hasFailed) {
      this.rolledBackByServer();
      return NOTHING;
    }
    this.isUncertain = true;
    return this.committed(false);
  }

  /** A text of several statements has failed: it is unknown which of them succeeded. */
  becomeUncertain(): void {
    this.isUncertain = true;
  }

  /** Removes and returns the events of `written`. */
  takeWritten(): EventRow[] {
    return this.written.splice(0);
  }

  rolledBack(chain: boolean): void {
    this.pending.clear();
    this.end('rolled back', chain || this.isManual);
  }

  /** The server has rolled back the transaction because of an error, without a ROLLBACK statement. */
  rolledBackByServer(): void {
    this.pending.clear();
    this.end('rolled back by the server', this.isManual);
  }

  private begin(dialect: DialectName): Committed {
    // In a transaction PostgreSQL ignores a BEGIN with a warning. MySQL commits the transaction.
    if (this.current && dialect === 'postgres') return NOTHING;
    const committed = this.current ? this.committed(false) : NOTHING;
    this.end('committed', true);
    return committed;
  }

  private committed(chain: boolean): Committed {
    const { isUncertain, afterCommit: callbacks } = this;
    const lost = this.pending.items;
    this.pending.clear();
    const events = this.takeWritten();
    this.end('committed', chain || this.isManual);
    return { events, isUncertain, lost, callbacks };
  }

  private setAutocommit(isOn: boolean): Committed {
    // `SET autocommit = 1` commits only if autocommit was off.
    if (isOn === !this.isManual) return NOTHING;
    this.isManual = !isOn;
    if (isOn) return this.committed(false);
    if (!this.current) this.end('committed', true);
    return NOTHING;
  }

  private rolledBackTo(name: string): void {
    this.pending.clear();
    const index = this.indexOf(name);
    const savepoint = index === undefined ? undefined : this.savepoints[index];
    if (index === undefined || !savepoint) return this.becomeUncertain();
    this.written.length = savepoint.written;
    this.afterCommit.length = savepoint.callbacks;
    this.savepoints.length = index + 1;
  }

  private end(how: NonNullable<Transaction['end']>, opensNext: boolean): void {
    if (this.current) this.current.end = how;
    this.current = opensNext ? {} : null;
    this.takeWritten();
    this.savepoints = [];
    this.hasFailed = false;
    this.isUncertain = false;
    this.id = null;
    this.wroteImages = false;
    this.afterCommit = [];
  }

  private indexOf(name: string): number | undefined {
    const index = this.savepoints.findLastIndex((savepoint) => savepoint.name === name);
    return index === -1 ? undefined : index;
  }
}
