import type { EventRow } from '../../store/outbox/event-rows.js';
import type { DialectName } from '../../dialect.js';
import type { TransactionStatement } from './transaction-statement.js';
import { WrittenEvents, type WrittenMark } from './written-events.js';
import type { RowChange } from '../changes/row-change.js';

/** One transaction of a query runner, from its BEGIN on. */
export interface Transaction {
  /** Set when it is over. */
  end?: 'committed' | 'rolled back' | 'rolled back by the server';
}

/** What a statement has committed. */
export interface Committed {
  readonly events: EventRow[];
  /** Whether each of them stands, only the database knows. */
  readonly isUncertain: boolean;
  /** Changes whose events were not written before: they are lost. */
  readonly lost: readonly (RowChange | EventRow)[];
  /** What is to run now. */
  readonly works: readonly (() => void)[];
}

const NOTHING: Committed = { events: [], isUncertain: false, lost: [], works: [] };

/**
 * What one query runner has written since its transaction began, and which part of it is in the outbox already.
 *
 * Its truth is the statements that pass and what the driver says after them, not TypeORM's flags: a hand-written COMMIT or ROLLBACK TO,
 * and an error after which the server rolled back by itself, change no flag. Changes wait in `pending` and are written before the next
 * COMMIT, SAVEPOINT or RELEASE, so that a rolled back savepoint takes its event rows with it; those that still wait
 * then came after the savepoint and are dropped. Outside a transaction nothing waits.
 */
export class TransactionLog {
  /** In the order of the program. */
  pending: (RowChange | EventRow)[] = [];
  /** Written in this transaction, not yet committed. */
  readonly written = new WrittenEvents();
  /** The open transaction. */
  current: Transaction | null = null;
  /** A statement has failed in it: should it end unseen, then by a rollback. */
  hasFailed = false;
  /** Settled when the server has said whether the transaction outlived an error. */
  asking: Promise<void> | undefined;
  /** What triggers are told that this transaction is, once they want to know. */
  id: string | null = null;
  /** A table with triggers was written to: there will be images. */
  wroteImages = false;
  /** What is to run once the transaction has committed. */
  afterCommit: (() => void)[] = [];
  /** A savepoint of an unknown name was rolled back: only the database knows which of `written` still stand. */
  private isUncertain = false;
  /** MySQL's `autocommit` is off: after each transaction the next one is open. */
  private isManual = false;
  private savepoints: { name: string; mark: WrittenMark; works: number }[] = [];
  private last: Promise<unknown> = Promise.resolve();

  get isOpen(): boolean {
    return this.current !== null;
  }

  /** Whether a rollback would take an event with it. */
  get hasEvents(): boolean {
    return this.pending.length > 0 || this.written.mark.events > 0;
  }

  /** One after the other: several writes may run at once, and a connection cannot. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }

  /** Follows a statement that succeeded. @param dialect decides what a BEGIN in a transaction does */
  follow(statement: TransactionStatement, dialect: DialectName): Committed {
    switch (statement.kind) {
      case 'begin':
        return this.begin(dialect);
      case 'commit':
        return this.committed(statement.chain);
      case 'autocommit':
        return this.setAutocommit(statement.isOn);
      case 'prepare': // committed later, perhaps by another connection: the dispatcher's poll finds its events
        this.end('committed', false);
        return NOTHING;
      case 'rollback':
        this.rolledBack(statement.chain);
        return NOTHING;
      case 'savepoint':
        this.savepoints.push({ name: statement.name, mark: this.written.mark, works: this.afterCommit.length });
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

  /** The driver says that a transaction is open which no statement has begun. */
  begunUnseen(): void {
    this.current = {};
  }

  /** The driver says that the transaction is over, and no statement has ended it. */
  endedUnseen(): Committed {
    if (this.hasFailed) {
      this.rolledBackByServer();
      return NOTHING;
    }
    this.isUncertain = true;
    return this.committed(false);
  }

  /** A text of several statements has failed in one of them. */
  becomeUncertain(): void {
    this.isUncertain = true;
    this.written.forgetRows();
  }

  rolledBack(chain: boolean): void {
    this.pending = [];
    this.end('rolled back', chain || this.isManual);
  }

  /** Everything since BEGIN is gone, and no statement says so. */
  rolledBackByServer(): void {
    this.pending = [];
    this.end('rolled back by the server', this.isManual);
  }

  private begin(dialect: DialectName): Committed {
    // PostgreSQL warns, and the transaction goes on. MySQL commits it.
    if (this.current && dialect === 'postgres') return NOTHING;
    const committed = this.current ? this.committed(false) : NOTHING;
    this.end('committed', true);
    return committed;
  }

  private committed(chain: boolean): Committed {
    const { isUncertain, pending: lost, afterCommit: works } = this;
    this.pending = [];
    const events = this.written.take(isUncertain);
    this.end('committed', chain || this.isManual);
    return { events, isUncertain, lost, works };
  }

  private setAutocommit(isOn: boolean): Committed {
    // It commits only where it was off.
    if (isOn === !this.isManual) return NOTHING;
    this.isManual = !isOn;
    if (isOn) return this.committed(false);
    if (!this.current) this.end('committed', true);
    return NOTHING;
  }

  private rolledBackTo(name: string): void {
    this.pending = [];
    const index = this.indexOf(name);
    const savepoint = index === undefined ? undefined : this.savepoints[index];
    if (index === undefined || !savepoint) return this.becomeUncertain();
    this.written.returnTo(savepoint.mark);
    this.afterCommit.length = savepoint.works;
    this.savepoints.length = index + 1;
  }

  private end(how: NonNullable<Transaction['end']>, opensNext: boolean): void {
    if (this.current) this.current.end = how;
    this.current = opensNext ? {} : null;
    this.written.take(false);
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
