import type { EventRow } from '../../store/outbox/event-rows.js';
import type { DialectName } from '../../dialect.js';
import type { TransactionStatement } from './transaction-statement.js';
import { PendingChanges, type Pending } from './pending-changes.js';

/** One transaction of a query runner, from its BEGIN on. */
export interface Transaction {
  /** Set when the transaction is over. */
  end?: 'committed' | 'rolled back' | 'rolled back by the server';
}

/** The result of a statement that committed. */
export interface Committed {
  readonly events: EventRow[];
  /** Whether some of these events may have been rolled back. Then only the database knows which events exist. */
  readonly isUncertain: boolean;
  /** Changes that were committed before their events were written. */
  readonly lost: readonly Pending[];
  /** Callbacks to run after the commit. */
  readonly callbacks: readonly (() => void)[];
}

const NOTHING: Committed = { events: [], isUncertain: false, lost: [], callbacks: [] };

/**
 * The changes of one query runner since its transaction began. The log also knows which of these changes are already in the outbox.
 *
 * The log follows the statements that are sent, and the state that the driver reports after each statement. The log does not use TypeORM's
 * flags. A hand-written COMMIT or ROLLBACK TO changes no flag. An error after which the server rolls back changes no flag either. Changes
 * are `pending` until the next COMMIT, SAVEPOINT or RELEASE, and are written before that statement. So a ROLLBACK TO removes the event rows
 * that were written after its savepoint. Changes that are pending at a ROLLBACK TO were also made after the savepoint, so these changes are
 * dropped. Outside a transaction no change stays pending.
 */
export class TransactionLog {
  readonly pending = new PendingChanges();
  /** Events that this transaction has written to the outbox. Savepoints store the length of this list, so the list only grows. */
  readonly written: EventRow[] = [];
  /** The open transaction. */
  current: Transaction | null = null;
  /**
   * Whether a statement of this transaction has failed. If the transaction then ends without a statement, the transaction was rolled back.
   */
  hasFailed = false;
  /** Settled when the server has answered whether the transaction survived an error. */
  asking: Promise<void> | undefined;
  /**
   * Whether a statement that ends or divides the transaction is under way. Then a new change cannot wait for a later statement of this
   * kind.
   */
  isEnding = false;
  /** The id of this transaction in transaction marks. Set when a trigger needs the id. */
  id: string | null = null;
  /** Whether a statement has written to a table with triggers. If so, triggers may have written images. */
  wroteImages = false;
  /** Callbacks to run after the commit. */
  afterCommit: (() => void)[] = [];
  /** Whether a savepoint of an unknown name was rolled back. Then only the database knows which events of `written` still exist. */
  private isUncertain = false;
  /** Whether `autocommit` of MySQL is off. Then each end of a transaction opens the next transaction. */
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

  /** Runs pieces of work one after the other. Several writes may run at the same time, but the connection runs one statement at a time. */
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
      case 'prepare': // another connection may commit the transaction later: the dispatcher finds the events when it polls
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

  /** Called when the driver reports an open transaction, although no statement has begun the transaction. */
  begunByServer(): void {
    this.current = {};
  }

  /** Called when the driver reports that the transaction is over, although no statement has ended the transaction. */
  endedByServer(): Committed {
    if (this.hasFailed) {
      this.rolledBackByServer();
      return NOTHING;
    }
    this.isUncertain = true;
    return this.committed(false);
  }

  /** Called when a text of several statements has failed. It is then unknown which of the statements succeeded. */
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

  /** Called when the server has rolled back the transaction because of an error, without a ROLLBACK statement. */
  rolledBackByServer(): void {
    this.pending.clear();
    this.end('rolled back by the server', this.isManual);
  }

  private begin(dialect: DialectName): Committed {
    // In an open transaction, PostgreSQL ignores a BEGIN and sends a warning. MySQL commits the open transaction.
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
