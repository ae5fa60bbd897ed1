import { type BeforeApplicationShutdown, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import type { Clock } from '../../clock.js';
import { ConfigurationError } from '../../errors.js';
import { createSchema, createTable } from '../../migrations/create-table.js';
import { isFileSqlite, isolateSqlite } from '../../sqlite/isolate-sqlite.js';
import { dialectOf, type DialectName } from '../../store/column-kinds.js';
import { pause } from '../../store/database.js';
import { isRetryable } from '../../store/database-errors.js';
import { assertSchemas, writtenTablesOptions } from '../../store/tables.js';
import { bodyId } from '../incoming-scheme.js';
import { INBOX, inboxNames, MAX_STORED_ID_LENGTH, type InboxNames } from './inbox-table.js';
import type { ProcessedOnce } from './received-webhook.js';
import type { ResolvedInboxOptions } from './webhook-receiver-options.js';
import { WebhooksLogger } from '../../webhooks-logger.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** A webhook, as the inbox knows it. */
export interface InboxKey {
  readonly source: string;
  readonly id: string;
}

/** @internal */
export interface InboxParts {
  readonly dataSource: DataSource;
  readonly options: ResolvedInboxOptions;
  readonly clock: Clock;
}

const PRUNE_EVERY_MS = 60 * 60 * 1_000;
/** Rows that one statement deletes: a few milliseconds, during which no webhook waits long. */
const ROWS_PER_BATCH = 500;
/** Transactions that fail because others ran at the same time, before anything was processed in them. */
const MAX_TRIES = 5;

/**
 * Remembers which webhooks were processed, each in the transaction that processed it, and forgets them after
 * `inbox.retentionMs`. Handlers reach it by `webhook.processInTransaction()`.
 */
export class WebhookInbox implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new WebhooksLogger('WebhookInbox');
  private readonly names: InboxNames | null;
  private readonly dialect: DialectName | null;
  private timer: NodeJS.Timeout | undefined;
  private pruning: Promise<unknown> | null = null;
  private isStopping = false;

  /**
   * @internal
   * @param parts `null` for a module without an inbox
   */
  constructor(private readonly parts: InboxParts | null) {
    if (!parts) {
      this.names = null;
      this.dialect = null;
      return;
    }
    const { dataSource, options } = parts;
    this.dialect = dialectOf(dataSource.options.type);
    if (options.tableSchema !== undefined) assertSchemas(dataSource, options.tableSchema);
    // On the one connection that TypeORM shares among all transactions, an id that is about to be rolled back would look known.
    if (isFileSqlite(dataSource)) isolateSqlite(dataSource);
    else if (this.dialect === 'sqlite') {
      this.logger.warn(
        'The inbox is in an in-memory SQLite database: its driver shares one connection among all transactions, so of two webhooks at once one can be taken for processed and be lost. Use a file. See docs/sqlite.md.',
      );
    }
    this.names = inboxNames(dataSource, options);
  }

  /** @throws ConfigurationError `TABLES_MISSING` */
  async onModuleInit(): Promise<void> {
    if (!this.parts || !this.names) return;
    const { dataSource, options } = this.parts;
    const { table, path, source, id, receivedAt } = this.names;
    if (dataSource.options.synchronize) {
      await this.onRunner(async (runner) => {
        await createSchema(runner, options);
        await createTable(runner, options, INBOX);
      });
    }
    try {
      await dataSource.query(`select ${source}, ${id}, ${receivedAt} from ${table} where 1 = 0`);
    } catch (error) {
      throw new ConfigurationError(
        'TABLES_MISSING',
        `The inbox of WebhookReceiverModule is missing or out of date: ${path}. Add ...webhookInboxMigrations(${writtenTablesOptions(options)}) from 'nestjs-entity-webhooks/migrations' to the migrations of its data source and run them (npx typeorm migration:run -d <your data-source file>); for a first try, synchronize: true makes it.`,
        { details: { missing: [path] }, cause: error },
      );
    }
  }

  onApplicationBootstrap(): void {
    if (this.parts) this.pruneLater();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.isStopping = true;
    clearTimeout(this.timer);
    await this.pruning;
  }

  /** @internal `ReceivedWebhook.processInTransaction` */
  async once<T>(
    key: InboxKey,
    manager: EntityManager,
    process: (manager: EntityManager) => T | Promise<T>,
  ): Promise<ProcessedOnce<T>> {
    if (!this.parts) {
      throw new ConfigurationError(
        'INBOX_MISSING',
        'processInTransaction() remembers webhooks in an inbox, and there is none: say WebhookReceiverModule.forRoot({ …, inbox: {} }), and make its table with ...webhookInboxMigrations().',
      );
    }
    if (dataSourceOf(manager) !== this.parts.dataSource) {
      throw new ConfigurationError(
        'INBOX_MISSING',
        'processInTransaction() was given a manager of another data source than that of the inbox, and the two cannot commit together. Give a manager of that one, or name this one in WebhookReceiverModule.forRoot({ dataSource }).',
      );
    }
    const isOwnTransaction = manager.queryRunner?.isTransactionActive !== true;
    for (let attempt = 1; ; attempt++) {
      let isProcessing = false;
      try {
        // In a transaction this is a savepoint: a handler that survives what `process` throws does not keep the id.
        return await manager.transaction(async (inner): Promise<ProcessedOnce<T>> => {
          if (!(await this.remember(key, inner))) return { isDuplicate: true, result: undefined };
          isProcessing = true;
          return { isDuplicate: false, result: await process(inner) };
        });
      } catch (error) {
        if (!isOwnTransaction || isProcessing || attempt >= MAX_TRIES || !isRetryable(error)) throw error;
      }
      await pause(attempt * Math.random() * 20);
    }
  }

  /**
   * Forgets what is older than `inbox.retentionMs`, in small batches. Runs by itself about once an hour; call it where no
   * process lives for so long.
   *
   * @returns how many rows are gone
   */
  async prune(): Promise<number> {
    if (!this.parts || !this.names) return 0;
    const { dataSource, options, clock } = this.parts;
    const { table, source, id, receivedAt } = this.names;
    const before = clock.now() - options.retentionMs;
    let pruned = 0;
    while (!this.isStopping) {
      const startedAt = performance.now();
      const rows: InboxKey[] = await dataSource.query(
        `select ${source} as ${dataSource.driver.escape('source')}, ${id} as ${dataSource.driver.escape('id')} from ${table} where ${receivedAt} < ${this.parameter(1)} order by ${receivedAt} limit ${ROWS_PER_BATCH}`,
        [before],
      );
      // By the primary key, in its order: two processes that prune at once wait for each other, and lock no gaps.
      const sorted = rows.toSorted((a, b) => (`${a.source} ${a.id}` < `${b.source} ${b.id}` ? -1 : 1));
      const which = sorted.map(
        (_, i) => `(${source} = ${this.parameter(2 * i + 1)} and ${id} = ${this.parameter(2 * i + 2)})`,
      );
      if (rows.length > 0) {
        const keys = sorted.flatMap((row) => [row.source, row.id]);
        await dataSource.query(`delete from ${table} where ${which.join(' or ')}`, keys);
      }
      pruned += rows.length;
      if (rows.length < ROWS_PER_BATCH) break;
      // It takes no more than half of one connection.
      await pause(performance.now() - startedAt);
    }
    return pruned;
  }

  /** Whether it is new. Waits while another transaction is about to say so. */
  private async remember({ source, id }: InboxKey, { queryRunner }: EntityManager): Promise<boolean> {
    const { parts, names, dialect } = this;
    if (!parts || !names || !queryRunner) return false;
    const values = [1, 2, 3].map((position) => this.parameter(position)).join(', ');
    const into = `into ${names.table} (${names.source}, ${names.id}, ${names.receivedAt}) values (${values})`;
    // `ignore` hides other mistakes as well, such as text that is cut: what is stored always fits.
    const text = dialect === 'mysql' ? `insert ignore ${into}` : `insert ${into} on conflict do nothing`;
    const result: unknown = await queryRunner.query(text, [source, storedId(id), parts.clock.now()], true);
    return (result as { affected?: number }).affected === 1;
  }

  private parameter(position: number): string {
    return this.dialect === 'postgres' ? `$${position}` : '?';
  }

  private async onRunner(work: (runner: QueryRunner) => Promise<void>): Promise<void> {
    const runner = this.parts?.dataSource.createQueryRunner();
    try {
      if (runner) await work(runner);
    } finally {
      await runner?.release();
    }
  }

  private pruneLater(): void {
    // Processes that started together do not prune together.
    this.timer = setTimeout(
      () => {
        this.pruning = this.prune()
          .catch((error: unknown) =>
            this.logger.warn(`Old ids could not be deleted; the next try is in an hour: ${String(error)}`),
          )
          .then(() => {
            if (!this.isStopping) this.pruneLater();
          });
      },
      PRUNE_EVERY_MS * (0.5 + Math.random()),
    );
    this.timer.unref();
  }
}

/** Printable ASCII of a length that every database compares byte by byte; MySQL takes `'a'` for `'a '`. */
function storedId(id: string): string {
  return id.length <= MAX_STORED_ID_LENGTH && /^[\x21-\x7e]+$/.test(id) ? id : bodyId(Buffer.from(id, 'utf8'));
}
