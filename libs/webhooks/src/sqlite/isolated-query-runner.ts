import type { ObjectLiteral } from 'typeorm';

import { captureCallSite } from './call-site.js';
import { queryWithHooks } from './query-with-hooks.js';
import { RunnerSession, type Isolation } from './runner-session.js';
import { statementShape } from './statement-shape.js';
import { TransactionFlags } from './transaction-flags.js';
import type { SqliteDatabase, StockQueryRunner, StockQueryRunnerClass } from './typeorm-driver.js';
import { namedPlaceholdersNotSupported } from '../typeorm-compat.js';

type Level = Parameters<StockQueryRunner['startTransaction']>[0];

/**
 * TypeORM's query runner with its own connection and a writer lock: see {@link RunnerSession}. Hooks before a statement run before the lock
 * is taken. Hooks after a COMMIT run after the release. So both kinds of hooks may wait for other writers.
 */
export function isolatedQueryRunner(Stock: StockQueryRunnerClass, shared: Isolation): StockQueryRunnerClass {
  return class IsolatedSqliteQueryRunner extends Stock {
    private readonly session = new RunnerSession(shared, this);
    private readonly flags = new TransactionFlags(this, this.session);

    override connect(): Promise<SqliteDatabase> {
      return this.session.handOut();
    }

    override async query(
      query: string,
      parameters: unknown[] | ObjectLiteral = [],
      useStructuredResult = false,
    ): Promise<never> {
      if (!Array.isArray(parameters)) throw namedPlaceholdersNotSupported();
      const values = parameters.map((value: unknown) => (typeof value === 'boolean' ? Number(value) : value));
      const result = await queryWithHooks(this, query, values, () =>
        this.session.execute(statementShape(query, shared.isReadonly), values),
      );
      // TypeORM declares `any`, because the caller knows the type of the result: rows, a row id or a QueryResult.
      return (useStructuredResult ? result : result.raw) as never;
    }

    override async startTransaction(isolationLevel?: Level): Promise<void> {
      if (this.flags.areOutermost) this.session.willBegin(captureCallSite());
      await this.flags.begin(() => super.startTransaction(isolationLevel));
    }

    override commitTransaction(): Promise<void> {
      return this.flags.end(() => super.commitTransaction());
    }

    override rollbackTransaction(): Promise<void> {
      return this.flags.end(() => super.rollbackTransaction());
    }

    override async release(): Promise<void> {
      if (this.isReleased) return;
      if (this.flags.haveLeftover) await this.flags.rollBackLeftover(() => super.rollbackTransaction());
      this.isReleased = true;
      await super.release();
      this.session.giveBack();
    }

    /** Whether the database is in a transaction. The value does not depend on TypeORM's flags. Capture also reads this property. */
    get isInTransaction(): boolean {
      return this.session.isInTransaction;
    }
  };
}
