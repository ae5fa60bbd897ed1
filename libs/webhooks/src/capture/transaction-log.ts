import type { ObjectLiteral } from 'typeorm';
import type { EventRow } from '../events/event-rows.js';
import type { Json } from '../events/json.js';
import type { Cause } from '../write-scope.js';
import type { EntityDefinition, RowImage } from './entity-definition.js';
import type { TransactionStatement } from './transaction-statement.js';
import type { EntityAction } from './webhook.decorator.js';
import { WrittenEvents, type WrittenMark } from './written-events.js';

/** A row was written; its event is made when its image is known. */
export interface RowChange {
  readonly definition: EntityDefinition;
  readonly action: EntityAction;
  readonly id: ObjectLiteral;
  readonly key: string;
  readonly at: number;
  /** For updates, and what was updated before it was deleted: what was there before. */
  readonly before: Before | null;
  /** `null` until it is read; `gone` when the row was no longer there. */
  image: RowImage | 'gone' | null;
  /** What surrounded the write; noted when it is recorded. */
  cause?: Cause;
}

/** What an update replaced. */
export interface Before {
  /** Old values of the fields that the writer changed, and of the automatic ones. */
  readonly values: ReadonlyMap<string, Json>;
  /** Paths of the fields that the writer changed. */
  readonly touched: ReadonlySet<string>;
  readonly owner: { audience: string; owner: string | null };
}

/**
 * What one query runner has written since its transaction began, and which part of it is in the outbox already.
 *
 * Its truth is the statements that pass, not TypeORM's flags: a hand-written COMMIT or ROLLBACK TO, and a deadlock after
 * which the server rolled back by itself, change no flag. Changes wait in `pending` and are written before the next
 * COMMIT, SAVEPOINT or RELEASE, so that a rolled back savepoint takes its event rows with it; those that still wait
 * then came after the savepoint and are dropped. Outside a transaction nothing waits.
 */
export class TransactionLog {
  /** In the order of the program. */
  pending: (RowChange | EventRow)[] = [];
  /** Written in this transaction, not yet committed. */
  readonly written = new WrittenEvents();
  isOpen = false;
  /** A savepoint of an unknown name was rolled back: only the database knows which of `written` still stand. */
  isUncertain = false;
  /** What triggers are told that this transaction is, once they want to know. */
  id: string | null = null;
  /** A table with triggers was written to: there will be images. */
  wroteImages = false;
  /** What is to run once the transaction has committed. */
  afterCommit: (() => void)[] = [];
  private savepoints: { name: string; mark: WrittenMark; works: number }[] = [];
  private last: Promise<unknown> = Promise.resolve();

  /** One after the other: the hooks of one `save()` run concurrently, and a connection cannot. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }

  /** Follows a statement that succeeded. Returns the events that are committed by it, and what is to run now. */
  follow(statement: TransactionStatement): { committed: EventRow[]; isUncertain: boolean; works: (() => void)[] } {
    const none = { committed: [], isUncertain: false, works: [] };
    switch (statement.kind) {
      case 'begin':
        this.reset(true);
        return none;
      case 'commit': {
        const { isUncertain, afterCommit: works } = this;
        const committed = this.written.take(isUncertain);
        this.reset(statement.chain);
        return { committed, isUncertain, works };
      }
      case 'prepare': // committed later, perhaps by another connection: the dispatcher's poll finds its events
        this.reset(false);
        return none;
      case 'rollback':
        this.rolledBack(statement.chain);
        return none;
      case 'savepoint':
        this.savepoints.push({ name: statement.name, mark: this.written.mark, works: this.afterCommit.length });
        return none;
      case 'release':
        this.savepoints.length = this.indexOf(statement.name) ?? this.savepoints.length;
        return none;
      case 'rollback_to': {
        this.pending = [];
        const index = this.indexOf(statement.name);
        const savepoint = index === undefined ? undefined : this.savepoints[index];
        if (index === undefined || !savepoint) {
          this.isUncertain = true;
          this.written.forgetRows();
          return none;
        }
        this.written.returnTo(savepoint.mark);
        this.afterCommit.length = savepoint.works;
        this.savepoints.length = index + 1;
        return none;
      }
    }
  }

  /** Everything since BEGIN is gone, whether by ROLLBACK or because the database rolled back by itself. */
  rolledBack(isOpen: boolean): void {
    this.pending = [];
    this.reset(isOpen);
  }

  private reset(isOpen: boolean): void {
    this.written.take(false);
    this.savepoints = [];
    this.isOpen = isOpen;
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
