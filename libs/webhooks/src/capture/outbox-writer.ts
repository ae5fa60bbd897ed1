import type { LoggerService } from '@nestjs/common';
import type { QueryRunner } from 'typeorm';
import { insertsOfEvents, ROWS_PER_STATEMENT, type EventRow } from '../store/outbox/event-rows.js';
import type { PayloadLimits } from '../events/payload.js';
import { chunks } from '../store/database/chunks.js';
import type { Database } from '../store/database/database.js';
import { eventsOf } from './changes/change-events.js';
import { coalesced } from './changes/coalesce.js';
import { CaptureError, loopMessage } from '../entities/errors.js';
import { readRows } from './images/row-reader.js';
import type { EntityPlan } from './plans/entity-plan.js';
import type { Pending } from './transactions/pending-changes.js';
import type { TransactionLog } from './transactions/transaction-log.js';
import type { RowChange } from './changes/row-change.js';

type Statement = ReturnType<Database['statement']>;

export interface OutboxWriterOptions {
  readonly database: Database;
  readonly limits: PayloadLimits;
  readonly maxCausationDepth: number;
  readonly logger: LoggerService;
}

/**
 * Writes the pending changes of a transaction to the outbox, through the query runner of that transaction: reads the images of the changed
 * rows, coalesces changes, renders the events and inserts them. For one log, only one call may run at a time.
 */
export class OutboxWriter {
  private readonly warned = new Set<string>();

  constructor(private readonly options: OutboxWriterOptions) {}

  /** Changes that cannot be written stay pending. So if the caller swallows the error, the COMMIT fails again. */
  async write(runner: QueryRunner, log: TransactionLog): Promise<void> {
    const { items } = log.pending;
    // Changes that are recorded from here on are written by the next call: their images may not be read.
    const batch = [...items];
    await this.readImages(runner, log, () => log.pending.withoutImage());
    for (const item of batch) this.refuse(item);
    const merged = coalesced(batch);
    let done = 0;
    let sending: Promise<void> | undefined;
    try {
      for (const some of chunks(merged, ROWS_PER_STATEMENT)) {
        // Lets the driver send the insert of the previous chunk, so that the server runs it while this chunk is rendered. SQLite runs it
        // synchronously.
        if (sending && this.options.database.dialect !== 'sqlite') await nextTurn();
        const rows = some.flatMap(({ change }) => this.eventsOf(change));
        const inserts = Array.from(insertsOfEvents(this.options.database, rows), (sql) =>
          this.options.database.statement(sql),
        );
        await sending;
        sending = this.insert(runner, log, rows, inserts).then(() => {
          done += some.length;
        });
      }
    } finally {
      // Until then the connection is busy.
      await (sending ?? Promise.resolve()).finally(() => {
        const unwritten = merged.slice(done).flatMap(({ of }) => of);
        log.pending.replace(items, [...unwritten, ...items.slice(batch.length)]);
      });
    }
  }

  private async insert(
    runner: QueryRunner,
    log: TransactionLog,
    rows: readonly EventRow[],
    inserts: readonly Statement[],
  ): Promise<void> {
    for (const { text, values } of inserts) await runner.query(text, values);
    // Kept to be emitted after the commit. The payloads are in the outbox, so the values are dropped.
    for (const { source } of rows) log.written.push({ source, values: [] });
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
    const rows = eventsOf(change, this.options.limits);
    const { ownership, metadata, name } = change.plan.definition;
    if (ownership !== 'declared' || !rows.some((row) => row.source.audience === 'application')) return rows;
    this.warnOnce(
      `${name} without an owner`,
      `A row of ${metadata.name} has no owner, although the entity declares one. Its events reach only listeners without an owner. (Logged once for each entity.)`,
    );
    return rows;
  }

  /** Reads the after images of pending changes. A row that no longer exists gets 'gone'. */
  async readImages(runner: QueryRunner, log: TransactionLog, wanted: () => readonly RowChange[]): Promise<void> {
    // On MySQL an update writes nothing if another writer has already set the same values. Then a plain read returns the row from before both
    // updates, because of its snapshot. A locking read returns the current row.
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
      for (const change of changes) log.pending.setImage(change, images.get(change.key) ?? 'gone');
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
