import type { LoggerService } from '@nestjs/common';
import type { DataSource, EntityMetadata, QueryRunner } from 'typeorm';
import { currentCause, isCapturedHere } from '../cause.js';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import type { RowImage } from '../entities/entity-definition.js';
import { CaptureError } from '../entities/errors.js';
import type { PayloadLimits } from '../events/payload.js';
import type { Database } from '../store/database/database.js';
import type { EventRow } from '../store/outbox/event-rows.js';
import type { RowChange } from './changes/row-change.js';
import { OutboxWriter } from './outbox-writer.js';
import type { EntityPlan } from './plans/entity-plan.js';
import type { ChangeLog } from './statements/captured-write.js';
import { RunnerWrites, type RunnerWritesOptions } from './transactions/runner-writes.js';
import { eventsLost, transactionEnded } from './transactions/transaction-errors.js';
import type { Committed, TransactionLog } from './transactions/transaction-log.js';
import { outsideChains, writeOn } from './transactions/work.js';

/**
 * Called with events after their commit. The handler must not throw. The promise of the write settles after this call.
 *
 * @param isUncertain some of these events may have been rolled back
 */
type CommittedHandler = (events: readonly EventRow[], isUncertain: boolean) => Promise<void> | void;

export interface ChangeRecorderOptions {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly limits: PayloadLimits;
  readonly maxCausationDepth: number;
  readonly diagnostics: Diagnostics;
  readonly unfinishedWritesTimeoutMs: number;
  readonly logger: LoggerService;
  readonly onCommitted: CommittedHandler;
}

const RELEASED_IN_TRANSACTION = 'RELEASED_IN_TRANSACTION';

/**
 * Keeps the pending changes of each query runner's transaction. Writes their events to the outbox before the COMMIT of the transaction, and
 * emits the events after the COMMIT. `StatementTap` calls this class when a statement ends a transaction.
 */
export class ChangeRecorder implements ChangeLog {
  private readonly writes = new WeakMap<QueryRunner, RunnerWrites>();
  private readonly outbox: OutboxWriter;
  private readonly writesOptions: RunnerWritesOptions;
  private hasWarnedOfLeftover = false;

  /** @param subscriber the subscriber of this library */
  constructor(
    private readonly options: ChangeRecorderOptions,
    subscriber: object,
  ) {
    this.outbox = new OutboxWriter(options);
    this.writesOptions = {
      dialect: options.database.dialect,
      subscriber,
      timeoutMs: options.unfinishedWritesTimeoutMs,
      onLeftover: () => this.warnOfLeftover(),
    };
  }

  /** The writes of a query runner that are under way, and the log of its transaction. */
  writesOf(runner: QueryRunner): RunnerWrites {
    let writes = this.writes.get(runner);
    if (!writes) this.writes.set(runner, (writes = new RunnerWrites(runner, this.writesOptions)));
    return writes;
  }

  /** Returns `undefined` for a query runner that had no write and no transaction so far. */
  findWrites(runner: QueryRunner): RunnerWrites | undefined {
    return this.writes.get(runner);
  }

  private logOf(runner: QueryRunner): TransactionLog {
    return this.writesOf(runner).log;
  }

  private logIn(runner: QueryRunner): TransactionLog | undefined {
    return this.writes.get(runner)?.log;
  }

  /** Runs a write of this module on a caller's query runner. @param label names the write in an error */
  inTurn<T>(runner: QueryRunner, label: string, write: () => Promise<T>): Promise<T> {
    return this.writesOf(runner).runWrite(() => label, write);
  }

  /** Records a published event among the changes of a query runner's transaction. Events and changes keep the order of the calls. */
  add(runner: QueryRunner, row: EventRow): Promise<void> {
    return this.writesOf(runner).runWrite(
      () => `publish('${row.source.event.type}')`,
      async () => this.record(runner, [row]),
    );
  }

  /** Records an event that was already written to the outbox through this query runner. */
  async written(runner: QueryRunner, row: EventRow): Promise<void> {
    const log = this.logOf(runner);
    if (log.isOpen) log.written.push(row);
    else await this.options.onCommitted([row], false);
  }

  /** Runs `work` after the commit of the query runner's transaction, or immediately if no transaction is open. `work` must not throw. */
  afterCommit(runner: QueryRunner, work: () => void): void {
    const log = this.logOf(runner);
    if (log.isOpen) log.afterCommit.push(work);
    else work();
  }

  /** Whether the connection is in a transaction. TypeORM's `isTransactionActive` may have another value. */
  isOpen(runner: QueryRunner): boolean {
    return this.logIn(runner)?.isOpen ?? false;
  }

  /** Whether writes are captured here. The `data` of `save(x, { data })` may be any value, so the type of `data` is checked. */
  isCaptured(runner: QueryRunner | undefined): boolean {
    if (!isCapturedHere(this.options.dataSource)) return false;
    const data = runner && ((this.writes.get(runner) ?? runner).data as { webhooks?: unknown } | null | undefined);
    return data?.webhooks !== false;
  }

  /** Whether the transaction of a query runner has changes that are not in the outbox yet. */
  hasPending(runner: QueryRunner): boolean {
    return (this.logIn(runner)?.pending.items.length ?? 0) > 0;
  }

  /**
   * Reads the after images of pending changes of a table. Must be called before a statement that may write any of the changed rows again.
   */
  settle(
    runner: QueryRunner,
    { tablePath }: EntityMetadata,
    except?: ReadonlySet<RowChange>,
  ): Promise<void> | undefined {
    return this.readUnread(runner, ({ pending }) =>
      pending.withoutImage(tablePath).filter((change) => !except?.has(change)),
    );
  }

  settleRows(
    runner: QueryRunner,
    plan: EntityPlan,
    keys: ReadonlySet<string>,
    images?: ReadonlyMap<string, RowImage>,
  ): Promise<void> | undefined {
    const { tablePath } = plan.definition.metadata;
    const pending = this.logIn(runner)?.pending;
    for (const change of (images && pending?.withoutImage(tablePath, keys)) ?? []) {
      if (change.plan === plan) pending?.setImage(change, images?.get(change.key) ?? 'gone');
    }
    return this.readUnread(runner, (log) => log.pending.withoutImage(tablePath, keys));
  }

  private readUnread(
    runner: QueryRunner,
    changesOf: (log: TransactionLog) => readonly RowChange[],
  ): Promise<void> | undefined {
    const log = this.logIn(runner);
    if (!log || !changesOf(log).length) return undefined;
    const read = () => this.outbox.readImages(runner, log, () => changesOf(log));
    const { statements } = this.writesOf(runner);
    return statements.isInsideEvents ? read() : log.exclusively(() => statements.runForEvents(read));
  }

  /**
   * Refuses the COMMIT: a statement has written rows that could not be read. The COMMIT fails even if the caller swallows the error of the
   * statement.
   */
  refuse(runner: QueryRunner, plan: EntityPlan, cause: unknown): void {
    const { name } = plan.definition.metadata;
    const refusal = new CaptureError(
      'ROWS_UNKNOWN',
      `A statement on ${name} has written rows, and reading them failed (see \`cause\`). Their events would be missing, so this transaction cannot be committed. Roll the transaction back and run it again. Do not swallow the error of the write.`,
      { cause, details: { entity: name } },
    );
    const at = this.options.clock.now();
    const nothing = { action: 'updated', id: {}, key: '', before: null, isRemoved: false, image: 'gone' } as const;
    this.logOf(runner).pending.push({ ...nothing, plan, at, refusal });
  }

  /**
   * Records changes. Outside a transaction the changed row is already committed. Then the event is written immediately, on the same
   * connection.
   */
  record(runner: QueryRunner, items: readonly (RowChange | EventRow)[]): Promise<void> | void {
    return this.writesOf(runner).inside(() => this.addPending(runner, items));
  }

  private addPending(runner: QueryRunner, items: readonly (RowChange | EventRow)[]): Promise<void> | void {
    const log = this.logOf(runner);
    this.refuseIfTransactionOver(runner, items);
    for (const item of items) {
      if (!('values' in item)) item.cause ??= currentCause();
      log.pending.push(item);
    }
    if (!log.isOpen) return this.writeAtOnce(runner, log);
    // Fail the write now. If the caller swallows the error, the COMMIT fails with the same error.
    for (const item of items) this.outbox.refuse(item);
    // During the end of a transaction, only a hook of the COMMIT can make a change.
    return log.isEnding ? this.flushAll(runner) : undefined;
  }

  /**
   * Refuses changes whose transaction is over. Their rows were rolled back, or were committed without events.
   *
   * @throws CaptureError `TRANSACTION_ENDED`, `EVENTS_LOST`
   */
  private refuseIfTransactionOver(runner: QueryRunner, items: readonly (RowChange | EventRow)[]): void {
    const work = writeOn(runner);
    const transaction = work?.wroteIn;
    if (!work || !transaction?.end) return;
    if (transaction.end !== 'committed') throw transactionEnded(work, transaction);
    const error = eventsLost(items.map(nameOf));
    this.options.logger.error(`EVENTS_LOST: ${error.message}`);
    throw error;
  }

  private async writeAtOnce(runner: QueryRunner, log: TransactionLog): Promise<void> {
    try {
      // A write may have sent its statement before it noticed that its transaction is over.
      await (writeOn(runner)?.ended ? outsideChains(() => this.flushAll(runner)) : this.flushAll(runner));
    } catch (error) {
      log.pending.clear(); // the row is already committed: a later, unrelated write must not fail because of this row
      throw error;
    }
    const written = log.takeWritten();
    if (written.length) await this.options.onCommitted(written, false);
  }

  /**
   * Writes the pending events of a query runner's transaction to the outbox. Does nothing if a hook calls this method while the events are
   * written.
   */
  async flush(runner: QueryRunner): Promise<void> {
    const log = this.logIn(runner);
    if (!log?.pending.items.length) return;
    const { statements } = this.writesOf(runner);
    if (statements.isInsideEvents) return;
    await log.exclusively(() => statements.runForEvents(() => this.outbox.write(runner, log)));
  }

  /**
   * Writes the pending events. Then writes the events of changes that hooks of the application have made in the meantime.
   *
   * @throws CaptureError `WEBHOOK_LOOP`: a hook makes another change each time events are written
   */
  async flushAll(runner: QueryRunner): Promise<void> {
    if (this.findWrites(runner)?.statements.isInsideEvents) return;
    for (let depth = 0; this.hasPending(runner); depth++) {
      if (depth > this.options.maxCausationDepth) throw hookLoop(depth);
      await this.flush(runner);
    }
  }

  /** Called after a commit. Runs the callbacks of the transaction, logs changes without events, and passes the events to `onCommitted`. */
  async committed({ events, isUncertain, lost, callbacks }: Committed): Promise<void> {
    for (const callback of callbacks) callback();
    if (lost.length) this.options.logger.error(`EVENTS_LOST: ${eventsLost(lost.map(nameOf)).message}`);
    if (events.length) await this.options.onCommitted(events, isUncertain);
  }

  private warnOfLeftover(): void {
    if (this.hasWarnedOfLeftover) return;
    this.hasWarnedOfLeftover = true;
    this.options.logger.warn(
      `${RELEASED_IN_TRANSACTION}: A query runner was released while its transaction was open, and the transaction was rolled back. Otherwise the next user of the connection might commit the changes. Commit or roll back before release(). (Logged once.)`,
    );
  }
}

function hookLoop(depth: number): CaptureError {
  return new CaptureError(
    'WEBHOOK_LOOP',
    `A hook (\`beforeQuery\` or \`afterQuery\`) has made a change each of the ${depth} times that events of one transaction were stored, so the transaction cannot be committed. Let the hook make no change for statements on the tables of this module, or write inside webhooks.withoutCapture().`,
    { details: { depth } },
  );
}

/** Returns the name of a change, for error messages. */
function nameOf(item: RowChange | EventRow): string {
  return 'values' in item
    ? item.source.event.type
    : `${item.plan.definition.metadata.name} ${item.key} (${item.action})`;
}
