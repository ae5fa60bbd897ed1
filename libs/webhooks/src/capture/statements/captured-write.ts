import type { EntityMetadata, QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { Before, RowChange } from '../changes/row-change.js';
import type { WrittenTable } from '../images/written-table.js';
import type { RunnerWrites } from '../transactions/runner-writes.js';
import type { WriteBuilder } from '../typeorm/write-builder.js';

/** Where the changes go: the log of the query runner's transaction. */
export interface ChangeLog {
  /** What is under way on a query runner. */
  writesOf(runner: QueryRunner): RunnerWrites;
  /** Whether the database is in a transaction, whatever TypeORM believes. */
  isOpen(runner: QueryRunner): boolean;
  /** Whether writes make events here. @param runner that the caller has given */
  isCaptured(runner: QueryRunner | undefined): boolean;
  /** Reads what earlier changes of a table have left, before it is written again. */
  settle(runner: QueryRunner, metadata: EntityMetadata, except?: ReadonlySet<RowChange>): Promise<void> | undefined;
  /**
   * Gives earlier changes of these rows their images, before the rows are written again.
   *
   * @param images that were read just now; otherwise they are read
   */
  settleRows(
    runner: QueryRunner,
    definition: EntityDefinition,
    keys: ReadonlySet<string>,
    images?: ReadonlyMap<string, RowImage>,
  ): Promise<void> | undefined;
  /** A statement has written rows that nobody knows: the transaction must not be committed. */
  refuse(runner: QueryRunner, definition: EntityDefinition, error: unknown): void;
  record(runner: QueryRunner, changes: readonly RowChange[]): Promise<void> | void;
  /** Writes what waits. */
  flush(runner: QueryRunner): Promise<void>;
}

/** What the parts of one captured statement share. */
export interface CapturedWrite {
  readonly builder: WriteBuilder;
  readonly runner: QueryRunner;
  readonly table: WrittenTable;
  readonly dialect: DialectName;
  /** @param image of the row as it is now; as it was, where it is gone */
  change(action: EntityAction, definition: EntityDefinition, before: Before | null, image: RowImage): RowChange;
  record(changes: readonly RowChange[]): Promise<void>;
  /** Records a batch of many, and writes its events: only one batch is in memory. */
  recordBatch(changes: readonly RowChange[]): Promise<void>;
  /** A savepoint has taken the statement back. */
  undone(this: void): void;
  /** Says once for each entity that a write made no event. */
  warn(code: string, message: string): void;
}
