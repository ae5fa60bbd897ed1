import type { LoggerService } from '@nestjs/common';
import type { DataSource, EntityMetadata, QueryRunner } from 'typeorm';
import type { Clock } from '../clock.js';
import type { DialectName } from '../store/column-kinds.js';
import { deleteAffected, emptyTable, updateAffected } from './affected-rows.js';
import type { EntityDefinition, RowImage } from './entity-definition.js';
import type { EntityRegistry } from './entity-registry.js';
import { idOfImage } from './image-select.js';
import { insertRows } from './inserted-rows.js';
import { LinkWrites } from './link-writes.js';
import type { RunnerTurns } from './runner-turns.js';
import { kindsInTable, rootOf } from './single-table.js';
import type { Before, RowChange } from './transaction-log.js';
import type { EntityAction } from './webhook.decorator.js';
import type { Clearing, Saving, WriteBuilder, WriteExpression, WriteHold } from './write-builder.js';
import { WrittenTable } from './written-table.js';

/** Where the changes go: the log of the query runner's transaction. */
export interface ChangeLog {
  /** Whether the database is in a transaction, whatever TypeORM believes. */
  isOpen(runner: QueryRunner): boolean;
  /** Whether writes make events here. @param runner that the caller has given */
  isCaptured(runner: QueryRunner | undefined): boolean;
  /** Reads what earlier changes of a table have left, before it is written again. */
  settle(runner: QueryRunner, metadata: EntityMetadata): Promise<void>;
  record(runner: QueryRunner, changes: readonly RowChange[]): Promise<void> | void;
  /** Writes what waits. */
  flush(runner: QueryRunner): Promise<void>;
}

export interface BulkWritesOptions {
  readonly dataSource: DataSource;
  readonly dialect: DialectName;
  readonly registry: EntityRegistry;
  readonly clock: Clock;
  readonly logger: LoggerService;
  readonly log: ChangeLog;
  readonly turns: RunnerTurns;
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
  /** Says once for each entity that a write made no event. */
  warn(code: string, message: string): void;
}

type SendStatement = (text: string, parameters: unknown[]) => Promise<StatementResult>;

/** What a query runner answers, structured. */
export interface StatementResult {
  raw: unknown;
  records: Record<string, unknown>[];
  affected?: number;
}

/**
 * Captures what query builders write to decorated entities, and with them `insert()`, `update()`, `delete()`, `softDelete()`,
 * `restore()`, `upsert()`, `increment()`, `decrement()`: a statement runs in a transaction, the caller's or one of its own, with the
 * images of the rows that it touches before and after it. docs/decisions/0006-query-builder-writes.md has the ways that were tried.
 */
export class BulkWrites implements WriteHold {
  private readonly tables = new WeakMap<EntityMetadata, WrittenTable>();
  private readonly warned = new Set<string>();
  private readonly links: LinkWrites;

  constructor(private readonly options: BulkWritesOptions) {
    this.links = new LinkWrites({
      dataSource: options.dataSource,
      log: options.log,
      inTransaction: (given, work) => this.inTransaction(given, undefined, work),
      writeOf: (builder, runner, metadata) => {
        const table = this.tableOf(metadata);
        return table && this.captured(builder, runner, table);
      },
    });
  }

  execute(
    builder: WriteBuilder,
    run: (builder: WriteBuilder) => Promise<unknown>,
    saving: Saving | undefined,
  ): Promise<unknown> {
    const { queryRunner } = builder;
    const write = () => this.write(builder, run, saving);
    // What a `save()` sends is in its turn already, or on a query runner of its own.
    if (!queryRunner || (saving && !isOfOrphans(builder))) return write();
    return this.options.turns.take(queryRunner, write);
  }

  persist(runner: QueryRunner, data: unknown, run: () => Promise<unknown>): Promise<unknown> {
    return this.options.turns.save(runner, data, run);
  }

  clear(asked: EntityMetadata, given: QueryRunner | undefined, clearing: Clearing): Promise<unknown> {
    const write = () => this.empty(asked, given, clearing);
    return given ? this.options.turns.take(given, write) : write();
  }

  private write(
    builder: WriteBuilder,
    run: (builder: WriteBuilder) => Promise<unknown>,
    saving: Saving | undefined,
  ): Promise<unknown> {
    const runRows = (one: WriteBuilder) => this.executeRows(one, run, saving);
    const metadata = metadataOf(builder);
    const owners = metadata ? this.options.registry.linkOwnersIn(metadata.tablePath) : [];
    if (!owners.length || !this.options.log.isCaptured(builder.queryRunner)) return runRows(builder);
    return this.links.execute(builder, runRows, owners, saving);
  }

  saved(saving: Saving): Promise<void> {
    return this.links.saved(saving);
  }

  private async executeRows(
    builder: WriteBuilder,
    run: (builder: WriteBuilder) => Promise<unknown>,
    saving: Saving | undefined,
  ): Promise<unknown> {
    const { expressionMap } = builder;
    const metadata = metadataOf(builder);
    // An upsert of one kind of a single table may meet a row of another.
    const written = metadata && expressionMap.onUpdate ? rootOf(metadata) : metadata;
    const table = written && this.options.log.isCaptured(builder.queryRunner) ? this.tableOf(written) : undefined;
    if (!table?.isToldOf(expressionMap) || (saving && !isOfOrphans(builder))) {
      // What waits is told of the row as it was left, not as this write leaves it.
      if (metadata && builder.queryRunner && !saving) await this.options.log.settle(builder.queryRunner, metadata);
      return run(builder);
    }

    // A copy, so that a builder that runs twice at once has two query runners, and keeps none of what capture adds.
    const copy = builder.clone();
    // A locking read of what may be there takes no locks on gaps then, in which two upserts at once would wait for each other.
    const isolation = this.options.dialect === 'mysql' && meetsConflicts(expressionMap) ? 'READ COMMITTED' : undefined;
    return this.inTransaction(builder.queryRunner, isolation, async (runner) => {
      copy.expressionMap.useTransaction = false;
      await this.options.log.settle(runner, table.metadata);
      const write = this.captured(copy, runner, table);
      const send: SendStatement = (text, parameters) =>
        runner.query(text, parameters, true) as unknown as Promise<StatementResult>;
      copy.queryRunner = sendingThrough(runner, await plan(write, send));
      return run(copy);
    });
  }

  private async empty(
    asked: EntityMetadata,
    given: QueryRunner | undefined,
    { run, options }: Clearing,
  ): Promise<unknown> {
    // TRUNCATE empties a single table of all of its kinds.
    const metadata = rootOf(asked);
    const table = this.options.log.isCaptured(given) ? this.tableOf(metadata) : undefined;
    const { dataSource, dialect, log } = this.options;
    if (!table?.has('deleted')) {
      if (given) await log.settle(given, metadata);
      return run();
    }
    if (dialect === 'mysql') {
      // TRUNCATE commits by itself there: its events would stand before it, or without it.
      this.warn(
        table,
        'CLEAR_NOT_CAPTURED',
        `clear() of ${metadata.name} makes no events on MySQL and MariaDB, where TRUNCATE is in no transaction. Use deleteAll() where they are wanted.`,
      );
      return run();
    }
    return this.inTransaction(given, undefined, async (runner) => {
      await log.settle(runner, metadata);
      const builder = dataSource.createQueryBuilder(runner).delete().from(metadata.target) as unknown as WriteBuilder;
      return emptyTable(this.captured(builder, runner, table), () => runner.clearTable(metadata.tablePath, options));
    });
  }

  private tableOf(metadata: EntityMetadata): WrittenTable | undefined {
    const { registry, dataSource } = this.options;
    const definitions = kindsInTable(metadata).flatMap((one) => registry.definitionForOrm(one) ?? []);
    if (!definitions.length) return undefined;
    let table = this.tables.get(metadata);
    // Entities may be registered, and definitions made anew, after the first write.
    if (!table || definitions.some((definition, n) => definition !== table?.definitions[n])) {
      this.tables.set(metadata, (table = new WrittenTable(metadata, definitions, dataSource)));
    }
    return table;
  }

  private captured(builder: WriteBuilder, runner: QueryRunner, table: WrittenTable): CapturedWrite {
    const { log, clock, dialect } = this.options;
    return {
      builder,
      runner,
      table,
      dialect,
      change(action, definition, before, image) {
        const id = idOfImage(definition, image);
        // Triggers of the table may change what a statement returns of an inserted row.
        const isKnown = action !== 'created' || !definition.options.readInserted;
        return { definition, action, id, key: image.key, at: clock.now(), before, image: isKnown ? image : null };
      },
      record: async (changes) => log.record(runner, changes),
      async recordBatch(changes) {
        await log.record(runner, changes);
        await log.flush(runner);
      },
      warn: (code, message) => this.warn(table, code, message),
    };
  }

  /** Runs in the caller's transaction, or in one of its own. */
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
        // What failed first is what the caller wants to know.
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
    this.options.logger.warn(`${code}: ${message} (Said once.)`);
  }
}

function metadataOf({ expressionMap: { mainAlias } }: WriteBuilder): EntityMetadata | undefined {
  return mainAlias?.hasMetadata ? mainAlias.metadata : undefined;
}

function meetsConflicts({ queryType, onUpdate, onIgnore }: WriteExpression): boolean {
  return queryType === 'insert' && (onUpdate !== undefined || onIgnore === true);
}

/** `save()` sets the foreign keys of orphans to null by a condition, and its hooks name no row then. */
function isOfOrphans({ expressionMap }: WriteBuilder): boolean {
  return expressionMap.queryType === 'update' && expressionMap.whereEntities.length === 0;
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

/** The query runner, except that the builder's own statement, the first one with a structured result, is sent by `send`. */
function sendingThrough(runner: QueryRunner, send: SendStatement): QueryRunner {
  let isSent = false;
  return Object.create(runner, {
    query: {
      value: (text: string, parameters?: unknown[], isStructured = false) => {
        if (isSent || !isStructured) return runner.query(text, parameters, isStructured as true);
        isSent = true;
        return send(text, parameters ?? []);
      },
    },
  }) as QueryRunner;
}
