import type { EntityMetadata, QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import type { RowImage } from '../../entities/entity-definition.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { Before, RowChange } from '../changes/row-change.js';
import type { WrittenTable } from '../images/written-table.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import type { RunnerWrites } from '../transactions/runner-writes.js';
import type { WriteBuilder } from '../typeorm/write-builder.js';

/** The log of a query runner's transaction. The log receives the changes. */
export interface ChangeLog {
  /** The statements that are under way on a query runner. */
  writesOf(runner: QueryRunner): RunnerWrites;
  /** Whether the database is in a transaction. TypeORM may not know about the transaction, for example after a raw BEGIN. */
  isOpen(runner: QueryRunner): boolean;
  /** Whether writes are captured in the current context. @param runner the query runner given by the caller */
  isCaptured(runner: QueryRunner | undefined): boolean;
  /** Reads the after images of earlier changes of a table, before the table is written again. */
  settle(runner: QueryRunner, metadata: EntityMetadata, except?: ReadonlySet<RowChange>): Promise<void> | undefined;
  /**
   * Sets the after images of earlier changes of these rows. Must be called before the rows are written again.
   *
   * @param images the current images, if the caller has just read them. Otherwise this method reads the images
   */
  settleRows(
    runner: QueryRunner,
    plan: EntityPlan,
    keys: ReadonlySet<string>,
    images?: ReadonlyMap<string, RowImage>,
  ): Promise<void> | undefined;
  /** Refuses the COMMIT of the transaction, because a statement has written rows that could not be captured. */
  refuse(runner: QueryRunner, plan: EntityPlan, error: unknown): void;
  record(runner: QueryRunner, changes: readonly RowChange[]): Promise<void> | void;
  /** Writes the events of pending changes to the outbox. */
  flush(runner: QueryRunner): Promise<void>;
}

/** One captured statement. All parts of its capture share this object. */
export interface CapturedWrite {
  readonly builder: WriteBuilder;
  readonly runner: QueryRunner;
  readonly table: WrittenTable;
  readonly dialect: DialectName;
  /** @param image the after image. For a deleted row, the before image */
  change(action: EntityAction, plan: EntityPlan, before: Before | null, image: RowImage): RowChange;
  record(changes: readonly RowChange[]): Promise<void>;
  /** Records one of several batches and writes the events of this batch, so that only one batch is in memory. */
  recordBatch(changes: readonly RowChange[]): Promise<void>;
  /** Must be called when the statement was rolled back to a savepoint. */
  undone(this: void): void;
  /** Logs that a write made no event. The message is logged once for each entity. */
  warn(code: string, message: string): void;
}
