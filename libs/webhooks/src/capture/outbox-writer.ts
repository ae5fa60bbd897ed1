import type { LoggerService } from '@nestjs/common';
import type { QueryRunner } from 'typeorm';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import {
  payloadSize,
  ROWS_PER_STATEMENT,
  storeEvents,
  withContext,
  type EventRow,
} from '../store/outbox/event-rows.js';
import type { PayloadLimits } from '../events/payload.js';
import { chunks } from '../store/database/chunks.js';
import type { Database } from '../store/database/database.js';
import { runScript } from '../store/database/script.js';
import { eventsOf } from './changes/change-events.js';
import { coalesced } from './changes/coalesce.js';
import { CaptureError, loopMessage } from '../entities/errors.js';
import { readRows } from './images/row-reader.js';
import type { EntityPlan } from './plans/entity-plan.js';
import type { Pending } from './transactions/pending-changes.js';
import type { TransactionLog } from './transactions/transaction-log.js';
import type { RowChange } from './changes/row-change.js';

export interface OutboxWriterOptions {
  readonly database: Database;
  readonly limits: PayloadLimits;
  readonly maxCausationDepth: number;
  readonly diagnostics: Diagnostics;
  readonly logger: LoggerService;
}

/**
 * Writes the pending changes of a transaction to the outbox, through the query runner of that transaction. The writer reads the images of
 * the changed rows, coalesces changes, renders the events and inserts the events. For one log, only one call may run at a time.
 */
export class OutboxWriter {
  private readonly warned = new Set<string>();

  constructor(private readonly options: OutboxWriterOptions) {}

  /**
   * Writes the pending changes of a log. A change that cannot be written stays pending. So if the caller swallows the error, the COMMIT
   * fails with the error again.
   */
  write(runner: QueryRunner, log: TransactionLog): Promise<void> {
    return this.options.diagnostics.step('capture', () => this.writePending(runner, log));
  }

  private async writePending(runner: QueryRunner, log: TransactionLog): Promise<void> {
    const { items } = log.pending;
    // The next call writes the changes that are recorded after this line, because the images of these changes may not be read yet.
    const batch = [...items];
    await this.readImages(runner, log, () => log.pending.withoutImage());
    for (const item of batch) this.refuse(item);
    const merged = coalesced(batch);
    let done = 0;
    let sending: Promise<void> | undefined;
    try {
      for (const some of chunks(merged, ROWS_PER_STATEMENT)) {
        // Wait one turn of the event loop, so that the driver sends the insert of the previous chunk. The server then runs that insert
        // while this chunk is rendered. On SQLite the insert runs synchronously.
        if (sending && this.options.database.dialect !== 'sqlite') await nextTurn();
        const rows = some.flatMap(({ change }) => this.eventsOf(change));
        const store = this.storeBy(runner, log, rows);
        await sending;
        sending = store().then(() => {
          done += some.length;
        });
      }
    } finally {
      // The connection is busy until the insert of the previous chunk has ended.
      await (sending ?? Promise.resolve()).finally(() => {
        const unwritten = merged.slice(done).flatMap(({ of }) => of);
        log.pending.replace(items, [...unwritten, ...items.slice(batch.length)]);
      });
    }
  }

  /**
   * Renders the first statement now, and returns a function that sends this statement and the others.
   *
   * All statements use the query runner of the writer, even if capture knows of no transaction: the application may have begun a transaction
   * by means that capture does not see.
   */
  private storeBy(runner: QueryRunner, log: TransactionLog, rows: readonly EventRow[]): () => Promise<void> {
    const { database, diagnostics } = this.options;
    const script = storeEvents(database, rows);
    const first = script.next();
    return async () => {
      await runScript(script, (one) => database.sendBy(runner, one), first);
      // These events are emitted after the commit. Their payloads are stored, so the values are dropped here to free memory.
      const isMeasured = diagnostics.listens('captured');
      for (const row of rows) {
        const { source } = row;
        log.written.push(isMeasured ? { source, values: [], size: payloadSize(row) } : { source, values: [] });
      }
    };
  }

  /** @throws CaptureError `WEBHOOK_LOOP`, `ROWS_UNKNOWN` */
  refuse(item: Pending): void {
    if ('values' in item) return;
    if (item.refusal) throw item.refusal;
    if (!item.cause || item.cause.depth <= this.options.maxCausationDepth) return;
    const { name } = item.plan.definition.metadata;
    const { depth } = item.cause;
    throw new CaptureError('WEBHOOK_LOOP', loopMessage(`A write of ${name}`, depth, this.options.maxCausationDepth), {
      details: { entity: name, depth },
    });
  }

  private eventsOf(change: Pending | null): readonly EventRow[] {
    if (!change) return [];
    if ('values' in change) return [change];
    const { diagnostics, limits } = this.options;
    const made = eventsOf(change, limits);
    const rows = diagnostics.traceOf ? made.map((row) => this.traced(row)) : made;
    const { ownership, metadata, name } = change.plan.definition;
    if (ownership !== 'declared' || !rows.some((row) => row.source.audience === 'application')) return rows;
    this.warnOnce(
      `${name} without an owner`,
      `A row of ${metadata.name} has no owner, although the entity declares an owner. The events of this row reach only listeners without an owner. (Logged once for each entity.)`,
    );
    return rows;
  }

  /** Adds the trace of the write to an event, if telemetry is attached and the application has set no other trace. */
  private traced(row: EventRow): EventRow {
    const { context } = row.source.event;
    const trace = this.options.diagnostics.traceFor(row.source.event.type, context);
    return trace ? withContext(row, { ...context, ...trace }) : row;
  }

  /** Reads the after images of pending changes. A change gets the image 'gone' if its row no longer exists. */
  async readImages(runner: QueryRunner, log: TransactionLog, wanted: () => readonly RowChange[]): Promise<void> {
    // On MySQL an update writes nothing if another writer has already set the same values. A plain read then uses the snapshot of the
    // transaction, and returns the row as it was before both updates. A locking read returns the current row.
    const isMysql = this.options.database.dialect === 'mysql';
    const byPlan = new Map<EntityPlan, RowChange[]>();
    for (const change of wanted()) {
      const changes = byPlan.get(change.plan);
      if (changes) changes.push(change);
      else byPlan.set(change.plan, [change]);
    }
    for (const [plan, changes] of byPlan) {
      const ids = changes.map((change) => change.id);
      const images = await readRows(runner, plan, ids, log.isOpen && isMysql ? 'update' : 'none');
      // A hook of this read may have written the rows. Capture has then already set the after images of the earlier changes, so these
      // images are kept.
      for (const change of changes) if (!change.image) log.pending.setImage(change, images.get(change.key) ?? 'gone');
    }
  }

  private warnOnce(key: string, message: string): void {
    if (this.warned.has(key)) return;
    this.warned.add(key);
    this.options.logger.warn(message);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
