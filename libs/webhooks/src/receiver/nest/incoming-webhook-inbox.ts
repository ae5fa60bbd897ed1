import { type BeforeApplicationShutdown, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import type { WebhookClock } from '../../clock.js';
import { ConfigurationError } from '../../errors.js';
import { createSchema, createTable } from '../../store/database/create-table.js';
import { isFileSqlite, isolateSqlite } from '../../sqlite/isolate-sqlite.js';
import { dialectOf, type DialectName } from '../../dialect.js';
import { pause, HOUR } from '../../time.js';
import { isMissingTable, isRetryable } from '../../store/database/database-errors.js';
import { assertSchemas, writtenTablesOptions } from '../../store/database/table-names.js';
import { publishReceived } from '../incoming-webhook-channel.js';
import { bodyId } from '../incoming-webhook-scheme.js';
import { INBOX, inboxNames, MAX_STORED_ID_LENGTH, type InboxNames, type ResolvedInboxOptions } from './inbox-table.js';
import type { ProcessedOnce } from './processed-once.js';
import { WebhooksLogger } from '../../webhooks-logger.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** Primary key of a webhook in the inbox. */
export interface InboxKey {
  readonly source: string;
  readonly id: string;
}

/** @internal */
export interface InboxParts {
  readonly dataSource: DataSource;
  readonly options: ResolvedInboxOptions;
  readonly clock: WebhookClock;
}

const PRUNE_EVERY_MS = HOUR;
/**
 * Maximum number of rows that one statement deletes. Such a statement takes a few milliseconds. So no webhook
 * waits long for the locks of the statement.
 */
const ROWS_PER_BATCH = 500;
/**
 * Maximum number of tries of a transaction. A transaction is tried again if it failed before `process` ran, because of
 * a conflict with another transaction.
 */
const MAX_TRIES = 5;

/**
 * Stores the ids of processed webhooks. Each id is stored in the transaction that processes the webhook, and
 * deleted after `inbox.retentionMs`. Handlers use the inbox through `webhook.processInTransaction()`.
 */
export class IncomingWebhookInbox implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new WebhooksLogger('IncomingWebhookInbox');
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
    // Without isolation, all transactions of TypeORM share one connection. Then another transaction would read an id as stored, although
    // the transaction of this id may later be rolled back.
    if (isFileSqlite(dataSource)) isolateSqlite(dataSource);
    else if (this.dialect === 'sqlite') {
      this.logger.warn(
        'The inbox is in an in-memory SQLite database, where all transactions share one connection. If two webhooks arrive at the same time, one of them may be stored as processed although the work for this webhook was rolled back. Use a database file. See docs/sqlite.md.',
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
      if (!isMissingTable(error)) throw error;
      throw new ConfigurationError(
        'TABLES_MISSING',
        `The inbox table of IncomingWebhooksModule is missing or out of date: ${path}. Add ...webhookInboxMigrations(${writtenTablesOptions(options)}) from 'nestjs-entity-webhooks/migrations' to the migrations of its data source, and run them (npx typeorm migration:run -d <your data-source file>). For a first try, synchronize: true creates the table.`,
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

  /** @internal `IncomingWebhookMessage.processInTransaction` */
  async once<T>(
    key: InboxKey,
    manager: EntityManager,
    process: (manager: EntityManager) => T | Promise<T>,
  ): Promise<ProcessedOnce<T>> {
    if (!this.parts) {
      throw new ConfigurationError(
        'INBOX_MISSING',
        'processInTransaction() needs an inbox, and the module has none. Set IncomingWebhooksModule.forRoot({ …, inbox: {} }), and create its table with ...webhookInboxMigrations().',
      );
    }
    if (dataSourceOf(manager) !== this.parts.dataSource) {
      throw new ConfigurationError(
        'INBOX_MISSING',
        "processInTransaction() got a manager of another data source than the inbox, so your writes and the webhook's id cannot commit together. Pass a manager of the inbox's data source, or set IncomingWebhooksModule.forRoot({ dataSource }) to the manager's data source.",
      );
    }
    const isOwnTransaction = manager.queryRunner?.isTransactionActive !== true;
    for (let attempt = 1; ; attempt++) {
      let isProcessing = false;
      try {
        // Inside a transaction, this call makes a savepoint. So even if the handler catches an error of `process`, the id is
        // rolled back.
        const processed = await manager.transaction(async (inner): Promise<ProcessedOnce<T>> => {
          if (!(await this.remember(key, inner))) return { isDuplicate: true, result: undefined };
          isProcessing = true;
          return { isDuplicate: false, result: await process(inner) };
        });
        if (processed.isDuplicate) publishReceived(key.source, 'duplicate');
        return processed;
      } catch (error) {
        if (!isOwnTransaction || isProcessing || attempt >= MAX_TRIES || !isRetryable(error)) throw error;
      }
      await pause(attempt * Math.random() * 20);
    }
  }

  /**
   * Deletes ids that are older than `inbox.retentionMs`, in small batches. The module prunes about once an hour. If no process runs
   * for an hour, call this method yourself.
   *
   * @returns the number of deleted rows
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
      // Delete rows by primary key and in the order of the primary key. Then two processes that prune at the same time wait for each
      // other, without a deadlock and without gap locks.
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
      // The pause has the length of the batch. So pruning uses at most half of one connection's time.
      await pause(performance.now() - startedAt);
    }
    return pruned;
  }

  /** Stores the id. Waits while another transaction stores the same id. @returns whether the id is new */
  private async remember({ source, id }: InboxKey, { queryRunner }: EntityManager): Promise<boolean> {
    const { parts, names, dialect } = this;
    if (!parts || !names || !queryRunner) return false;
    const values = [1, 2, 3].map((position) => this.parameter(position)).join(', ');
    const into = `into ${names.table} (${names.source}, ${names.id}, ${names.receivedAt}) values (${values})`;
    // `ignore` also hides other errors, such as truncation. Here this is safe, because the values always fit into the
    // columns: see `storedId`.
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
    // The delay is random. Otherwise processes that started together would also prune together.
    this.timer = setTimeout(
      () => {
        this.pruning = this.prune()
          .catch((error: unknown) =>
            this.logger.warn(
              `Could not delete old ids from the inbox. The next try is in about an hour. ${String(error)}`,
            ),
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

/**
 * Returns the id if it is short printable ASCII, and a hash of the id otherwise. Every database compares these texts byte
 * by byte. MySQL, for example, treats `'a'` and `'a '` as equal.
 */
function storedId(id: string): string {
  return id.length <= MAX_STORED_ID_LENGTH && /^[\x21-\x7e]+$/.test(id) ? id : bodyId(Buffer.from(id, 'utf8'));
}
