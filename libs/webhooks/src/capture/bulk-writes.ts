import type { LoggerService } from '@nestjs/common';
import type { DataSource, EntityMetadata, QueryRunner } from 'typeorm';
import type { WebhookClock } from '../clock.js';
import type { DialectName } from '../dialect.js';
import { deleteAffected, emptyTable, updateAffected } from './statements/affected-rows.js';
import { onlyOnce } from './statements/read-affected.js';
import type { EntityRegistry } from '../entities/entity-registry.js';
import type { EntityPlan } from './plans/entity-plan.js';
import type { EntityPlans } from './plans/entity-plans.js';
import { idOfImage } from './plans/image-select.js';
import { insertRows } from './statements/inserted-rows.js';
import { LinkWrites } from './links/link-writes.js';
import { SavedWrites } from './statements/saved-writes.js';
import { sendingThrough, type SendStatement } from './typeorm/sending-through.js';
import { SentStatement } from './typeorm/sent-statement.js';
import { kindsInTable, rootOf } from '../entities/single-table.js';
import type { RowChange } from './changes/row-change.js';
import type {
  Clearing,
  Persisting,
  Saving,
  WriteBuilder,
  WriteExpression,
  WriteInterceptor,
} from './typeorm/write-builder.js';
import { WrittenTable } from './images/written-table.js';
import type { CapturedWrite, ChangeLog } from './statements/captured-write.js';
import { clearTable, softDeletesAgain } from '../typeorm-compat.js';

export interface BulkWritesOptions {
  readonly dataSource: DataSource;
  readonly dialect: DialectName;
  readonly registry: EntityRegistry;
  readonly plans: EntityPlans;
  readonly clock: WebhookClock;
  readonly logger: LoggerService;
  readonly log: ChangeLog;
}

/** Runs TypeORM's own `execute()`. */
type Run = (builder: WriteBuilder) => Promise<unknown>;

/**
 * Captures writes of query builders to decorated entities. TypeORM runs `insert()`, `update()`, `delete()`, `softDelete()`, `restore()`,
 * `upsert()`, `increment()` and `decrement()` with query builders, too. Each statement runs in the caller's transaction, or in a new
 * transaction. Capture reads the before and after images of the written rows in the same transaction.
 * docs/decisions/0006-query-builder-writes.md explains the choice.
 */
export class BulkWrites implements WriteInterceptor {
  /** The tables with rows of captured entities. The key is the metadata of an entity that a statement may name. */
  private readonly tables: () => ReadonlyMap<EntityMetadata, WrittenTable>;
  private readonly warned = new Set<string>();
  private readonly links: LinkWrites;
  private readonly saves: SavedWrites;

  constructor(private readonly options: BulkWritesOptions) {
    const { log, clock, dialect } = options;
    this.tables = options.registry.derived(() => this.makeTables());
    this.saves = new SavedWrites({
      log,
      clock,
      dialect,
      byCriteria: (builder, run, onRecorded) => this.inTurn(builder, () => this.capture(builder, run, onRecorded)),
    });
    this.links = new LinkWrites({
      dataSource: options.dataSource,
      log: options.log,
      inTransaction: (given, work) => this.inTransaction(given, undefined, work),
      writeOf: (builder, runner, metadata) => {
        const table = this.tableOf(metadata);
        return table && this.captured(builder, runner, table);
      },
      imagesOf: (saving) => this.saves.imagesOf(saving),
    });
  }

  execute(builder: WriteBuilder, run: Run, saving: Saving | undefined): Promise<unknown> {
    const write = () => this.write(builder, run, saving);
    // The statements of a `save()` run in the turn of that `save()`, or on a query runner that the `save()` has created.
    return saving ? write() : this.inTurn(builder, write);
  }

  private inTurn<T>(builder: WriteBuilder, write: () => Promise<T>): Promise<T> {
    const { queryRunner } = builder;
    return queryRunner ? this.options.log.writesOf(queryRunner).runWrite(() => labelOf(builder), write) : write();
  }

  persist(runner: QueryRunner, { label, data }: Persisting, run: () => Promise<unknown>): Promise<unknown> {
    return this.options.log.writesOf(runner).save(label, data, run);
  }

  transaction(runner: QueryRunner, run: () => Promise<unknown>): Promise<unknown> {
    return this.options.log.writesOf(runner).transaction(run);
  }

  clear(asked: EntityMetadata, given: QueryRunner | undefined, clearing: Clearing): Promise<unknown> {
    const write = () => this.captureClear(asked, given, clearing);
    return given ? this.options.log.writesOf(given).runWrite(() => `clear() of ${asked.name}`, write) : write();
  }

  private write(builder: WriteBuilder, run: Run, saving: Saving | undefined): Promise<unknown> {
    const runRows = (one: WriteBuilder) => this.executeRows(one, run, saving);
    const metadata = metadataOf(builder);
    const owners = metadata ? this.options.registry.linkOwnersIn(metadata.tablePath) : [];
    if (!owners.length || !this.options.log.isCaptured(builder.queryRunner)) return runRows(builder);
    return this.links.execute(builder, runRows, owners, saving);
  }

  saved(saving: Saving): Promise<void> {
    return this.links.saved(saving);
  }

  private executeRows(builder: WriteBuilder, run: Run, saving: Saving | undefined): Promise<unknown> {
    const metadata = metadataOf(builder);
    const isCaptured = saving?.firesListeners !== false && this.options.log.isCaptured(builder.queryRunner);
    const table = isCaptured ? this.tableWritten(builder) : undefined;
    if (table?.isCaptured(builder.expressionMap)) {
      return saving ? this.saves.execute(builder, run, saving, table) : this.capture(builder, run);
    }
    const mayMeetRows = !saving || (metadata && this.tableOf(metadata));
    if (builder.queryRunner && mayMeetRows) this.options.log.writesOf(builder.queryRunner).statements.count++;
    // A second soft delete would set the delete date again, and triggers would capture that as an update.
    if (metadata && this.mayDeleteAgain(builder, metadata)) onlyOnce(builder, metadata);
    // Read the after images of pending changes now, before this write changes the rows.
    const settled = metadata && builder.queryRunner && this.options.log.settle(builder.queryRunner, metadata);
    return settled ? settled.then(() => run(builder)) : run(builder);
  }

  private mayDeleteAgain({ expressionMap }: WriteBuilder, metadata: EntityMetadata): boolean {
    if (!softDeletesAgain() || !['soft-delete', 'restore'].includes(expressionMap.queryType)) return false;
    return this.options.registry.definitionOf(metadata)?.capture === 'trigger';
  }

  /** Captures a statement that selects its rows by its own criteria. */
  private async capture(
    builder: WriteBuilder,
    run: Run,
    onRecorded?: (changes: readonly RowChange[]) => void,
  ): Promise<unknown> {
    const { expressionMap } = builder;
    const table = this.tableWritten(builder) as WrittenTable;
    // Run a copy of the builder. An application may run one builder twice at the same time, and each run needs its own query runner. The
    // additions of capture must also stay hidden from the application. TypeORM runs the builders of a `save()` once, so these builders need
    // no copy.
    const copy = onRecorded ? builder : builder.clone();
    // With READ COMMITTED a locking read takes no gap locks. With gap locks, two concurrent upserts would deadlock.
    const isolation = this.options.dialect === 'mysql' && meetsConflicts(expressionMap) ? 'READ COMMITTED' : undefined;
    return this.inTransaction(builder.queryRunner, isolation, async (runner) => {
      copy.expressionMap.useTransaction = false;
      let isUnrecorded = false;
      const write = this.captured(copy, runner, table, (changes) => {
        isUnrecorded = false;
        onRecorded?.(changes);
      });
      const { statements } = this.options.log.writesOf(runner);
      const sent = new SentStatement();
      const send: SendStatement = async (text, parameters) => {
        try {
          return await statements.query(sent, text, parameters);
        } finally {
          isUnrecorded = sent.isExecuted;
        }
      };
      try {
        const capture = await plan(write, send);
        copy.queryRunner = sendingThrough(runner, (text, parameters) =>
          statements.run(async () => {
            await this.options.log.settle(runner, table.metadata);
            return capture(text, parameters);
          }),
        );
        const result = await run(copy);
        sent.throwHookError();
        return result;
      } catch (error) {
        if (isUnrecorded) this.options.log.refuse(runner, table.plans[0] as EntityPlan, error);
        throw error;
      }
    });
  }

  private async captureClear(
    asked: EntityMetadata,
    given: QueryRunner | undefined,
    { run, options }: Clearing,
  ): Promise<unknown> {
    // With single-table inheritance TRUNCATE deletes the rows of all entities in the table.
    const metadata = rootOf(asked);
    const table = this.options.log.isCaptured(given) ? this.tableOf(metadata) : undefined;
    const { dataSource, dialect, log } = this.options;
    if (!table?.has('deleted')) {
      if (given) await log.settle(given, metadata);
      return run();
    }
    if (dialect === 'mysql') {
      // On MySQL and MariaDB, TRUNCATE commits implicitly. Events in the same transaction would be committed first, even if the TRUNCATE
      // then fails.
      this.warn(
        table,
        'CLEAR_NOT_CAPTURED',
        `clear() of ${metadata.name} makes no events on MySQL and MariaDB, because TRUNCATE cannot run in a transaction on these databases. Use deleteAll() if you need the events.`,
      );
      return run();
    }
    return this.inTransaction(given, undefined, (runner) =>
      log.writesOf(runner).statements.run(async () => {
        await log.settle(runner, metadata);
        const builder = dataSource.createQueryBuilder(runner).delete().from(metadata.target) as unknown as WriteBuilder;
        return emptyTable(this.captured(builder, runner, table), () => clearTable(runner, metadata.tablePath, options));
      }),
    );
  }

  /**
   * The table that a statement writes. The metadata is that of the root entity if the statement may write rows of several entities. With
   * single-table inheritance, an upsert of one entity may conflict with a row of another entity in the table. An update may also turn a row
   * into a row of another entity.
   */
  private tableWritten(builder: WriteBuilder): WrittenTable | undefined {
    const metadata = metadataOf(builder);
    if (!metadata) return undefined;
    const isOfAnyKind = builder.expressionMap.onUpdate !== undefined || setsKind(builder.expressionMap, metadata);
    return this.tableOf(isOfAnyKind ? rootOf(metadata) : metadata);
  }

  private tableOf(metadata: EntityMetadata): WrittenTable | undefined {
    return this.tables().get(metadata);
  }

  private makeTables(): Map<EntityMetadata, WrittenTable> {
    const { dataSource, plans, registry } = this.options;
    const tables = new Map<EntityMetadata, WrittenTable>();
    for (const metadata of dataSource.entityMetadatas) {
      const definitions = kindsInTable(metadata).flatMap((kind) => registry.definitionForOrm(kind) ?? []);
      const own = definitions.map((definition) => plans.of(definition));
      if (own.length) tables.set(metadata, new WrittenTable(metadata, own, dataSource));
    }
    return tables;
  }

  private captured(
    builder: WriteBuilder,
    runner: QueryRunner,
    table: WrittenTable,
    onRecorded: (changes: readonly RowChange[]) => void = () => {},
  ): CapturedWrite {
    const { log, clock, dialect } = this.options;
    return {
      builder,
      runner,
      table,
      dialect,
      change(action, plan, before, image) {
        const { definition } = plan;
        const id = idOfImage(definition, image);
        // With `readInserted`, the row is read again: triggers of the table may change an inserted row after the statement has returned it.
        const isKnown = action !== 'created' || !definition.options.readInserted;
        const isRemoved = builder.expressionMap.queryType === 'delete';
        return { plan, action, id, key: image.key, at: clock.now(), before, isRemoved, image: isKnown ? image : null };
      },
      async record(changes) {
        onRecorded(changes);
        await log.record(runner, changes);
      },
      async recordBatch(changes) {
        onRecorded(changes);
        await log.record(runner, changes);
        await log.flush(runner);
      },
      undone: () => onRecorded([]),
      warn: (code, message) => this.warn(table, code, message),
    };
  }

  /** Runs `work` in the caller's transaction, or in a new transaction. */
  private async inTransaction<T>(
    given: QueryRunner | undefined,
    isolation: 'READ COMMITTED' | undefined,
    work: (runner: QueryRunner) => Promise<T>,
  ): Promise<T> {
    const runner = given ?? this.options.dataSource.createQueryRunner('master');
    const isOpen = runner.isTransactionActive || this.options.log.isOpen(runner);
    try {
      if (isOpen) return await work(runner);
      await runner.startTransaction(isolation);
      let result: T;
      try {
        result = await work(runner);
        await runner.commitTransaction();
      } catch (error) {
        // If the ROLLBACK fails too, the caller gets the first error.
        if (runner.isTransactionActive) await runner.rollbackTransaction().catch(() => undefined);
        throw error;
      }
      return result;
    } finally {
      if (!given) await runner.release();
    }
  }

  private warn(table: WrittenTable, code: string, message: string): void {
    const key = `${code} ${table.metadata.name}`;
    if (this.warned.has(key)) return;
    this.warned.add(key);
    this.options.logger.warn(`${code}: ${message} (Logged once for each entity.)`);
  }
}

function metadataOf({ expressionMap: { mainAlias } }: WriteBuilder): EntityMetadata | undefined {
  return mainAlias?.hasMetadata ? mainAlias.metadata : undefined;
}

/** Returns the name of a statement, for error messages. */
function labelOf(builder: WriteBuilder): string {
  const { queryType, mainAlias } = builder.expressionMap;
  return `${queryType} of ${metadataOf(builder)?.name ?? (mainAlias as { tablePath?: string } | undefined)?.tablePath ?? 'a table'}`;
}

function setsKind({ queryType, valuesSet }: WriteExpression, { discriminatorColumn }: EntityMetadata): boolean {
  if (queryType !== 'update' || !valuesSet) return false;
  // TypeORM's type says that `discriminatorColumn` is always set. Outside single-table inheritance `discriminatorColumn` is undefined.
  return discriminatorColumn?.getEntityValue(valuesSet) !== undefined;
}

function meetsConflicts({ queryType, onUpdate, onIgnore }: WriteExpression): boolean {
  return queryType === 'insert' && (onUpdate !== undefined || onIgnore === true);
}

function plan(write: CapturedWrite, send: SendStatement): Promise<SendStatement> | SendStatement {
  switch (write.builder.expressionMap.queryType) {
    case 'insert':
      return insertRows(write, send);
    case 'delete':
      return deleteAffected(write, send);
    default:
      return updateAffected(write, send);
  }
}
