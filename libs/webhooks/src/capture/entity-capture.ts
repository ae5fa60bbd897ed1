import type { EntitySubscriberInterface, TransactionStartEvent } from 'typeorm';
import { ConfigurationError } from '../errors.js';
import { scopeTransactions } from '../sqlite/transaction-here.js';
import { BulkWrites } from './bulk-writes.js';
import { ChangeRecorder, type ChangeRecorderOptions } from './change-recorder.js';
import type { EntityPlans } from './plans/entity-plans.js';
import { StatementTap, type StatementTapOptions } from './statement-tap.js';
import { hookStatements, unhookStatements } from './typeorm/statement-hooks.js';
import { keepSubscribed, unsubscribe } from './typeorm/subscription.js';
import { interceptWrites, restoreWrites } from './typeorm/write-builder.js';

export interface EntityCaptureOptions extends ChangeRecorderOptions, StatementTapOptions {
  readonly plans: EntityPlans;
}

/**
 * The TypeORM subscriber of a module instance. {@link StatementTap} sees the statements of the data source, {@link BulkWrites} captures the
 * writes, and {@link ChangeRecorder} keeps the changes until they are in the outbox.
 */
export class EntityCapture implements EntitySubscriberInterface {
  readonly recorder: ChangeRecorder;
  private readonly tap: StatementTap;
  private unscope: (() => void) | undefined;

  constructor(private readonly options: EntityCaptureOptions) {
    this.recorder = new ChangeRecorder(options, this);
    this.tap = new StatementTap(options, this.recorder);
  }

  /**
   * Subscribes to the data source. `destroy()` and `initialize()` replace the list of subscribers, and the subscription survives both.
   *
   * @throws ConfigurationError `DATA_SOURCE_SERVED_TWICE`: each of two instances would know only a part of the entities
   * @throws ConfigurationError `UNKNOWN_TYPEORM`: this version of TypeORM lacks a method that capture uses
   */
  attach(): void {
    const { dataSource, database, registry, plans, clock, logger } = this.options;
    if (dataSource.subscribers.some((subscriber) => subscriber instanceof EntityCapture)) {
      throw new ConfigurationError(
        'DATA_SOURCE_SERVED_TWICE',
        'Two instances would serve one data source. Import WebhooksModule.forRoot() once, in your root module, and not beside WebhooksWorkerModule.forRoot(). In other modules, import WebhooksModule.forFeature([...]).',
      );
    }
    hookStatements(dataSource, this.tap);
    keepSubscribed(dataSource, this);
    const { dialect } = database;
    if (dialect === 'sqlite') this.unscope = scopeTransactions(dataSource.manager);
    const log = this.recorder;
    interceptWrites(dataSource, new BulkWrites({ dataSource, dialect, registry, plans, clock, logger, log }));
  }

  detach(): void {
    const { dataSource } = this.options;
    restoreWrites(dataSource);
    this.unscope?.();
    unsubscribe(dataSource, this);
    unhookStatements(dataSource);
  }

  beforeTransactionStart(event: TransactionStartEvent): void {
    this.tap.beforeTransactionStart(event);
  }
}
