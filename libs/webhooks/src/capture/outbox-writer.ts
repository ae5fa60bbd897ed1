import type { LoggerService } from '@nestjs/common';
import type { QueryRunner } from 'typeorm';
import { deletionOfEvents, ROWS_PER_STATEMENT, storeEvents, type EventRow } from '../store/outbox/event-rows.js';
import type { PayloadLimits } from '../events/payload.js';
import { chunks } from '../store/database/chunks.js';
import type { Database } from '../store/database/database.js';
import { runScript } from '../store/database/script.js';
import { eventsOf } from './changes/change-events.js';
import { coalesced, type RowHistory } from './changes/coalesce.js';
import type { EntityDefinition } from '../entities/entity-definition.js';
import { CaptureError, loopMessage } from '../entities/errors.js';
import { readRows } from './images/row-reader.js';
import type { TransactionLog } from './transactions/transaction-log.js';
import type { RowChange } from './changes/row-change.js';

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
    const items = log.pending;
    if (!items.length) return;
    await this.readImages(runner, log, () => true);
    for (const item of items) this.refuse(item);
    const count = items.length;
    const {
      items: changes,
      histories,
      ended,
    } = coalesced(items, ({ definition, key }) => log.written.lastRecorded(definition, key)?.history);
    await this.withdraw(runner, log, [...histories.values(), ...ended]);
    for (const history of ended) log.written.record(history, []);
    let done = 0;
    let sending: Promise<void> | undefined;
    try {
      for (const some of chunks(changes, ROWS_PER_STATEMENT)) {
        // Lets the driver send the insert of the previous chunk, so that the server runs it while this chunk is rendered. SQLite runs it
        // synchronously.
        if (sending && this.options.database.dialect !== 'sqlite') await nextTurn();
        const events = some.map((item) => ('values' in item ? [item] : this.eventsOf(item)));
        const rows = events.flat();
        const store = this.storeBy(runner, log, rows);
        await sending;
        sending = store().then(() => {
          done += some.length;
          some.forEach((item, n) => {
            const history = 'values' in item ? undefined : histories.get(item);
            if (history)
              log.written.record(
                history,
                (events[n] ?? []).map(({ source }) => source.event.id),
              );
          });
        });
      }
    } finally {
      // Until then the connection is busy.
      await (sending ?? Promise.resolve()).finally(() => {
        const unwritten = changes.slice(done);
        for (const item of unwritten) {
          const history = 'values' in item ? undefined : histories.get(item);
          if (history) log.written.withdrawRow(history);
        }
        keepUnwritten(log, items, [...unwritten, ...items.slice(count)]);
      });
    }
  }

  /** Renders the first statement now, and returns a function that sends it and the others. */
  private storeBy(runner: QueryRunner, log: TransactionLog, rows: readonly EventRow[]): () => Promise<void> {
    const { database } = this.options;
    const script = storeEvents(database, rows);
    const first = log.isOpen || database.dialect === 'postgres' ? script.next() : null;
    return async () => {
      // Outside a transaction, event and outbox row would be committed one after the other.
      if (first) await runScript(script, (one) => database.sendBy(runner, one), first);
      else await database.transaction(() => storeEvents(database, rows));
      // Kept to be emitted after the commit. The payloads are in the outbox, so the values are dropped.
      for (const { source } of rows) log.written.add({ source, values: [] });
    };
  }

  /**
   * Deletes the events of rows that have changed again, whose merged event is written next. Those events are in the outbox already,
   * because they were written before a savepoint: a rollback to the savepoint must keep them. If they were kept in memory instead, a rollback
   * to a savepoint that capture has not seen could not remove them.
   */
  private async withdraw(runner: QueryRunner, log: TransactionLog, histories: readonly RowHistory[]): Promise<void> {
    const events = histories.flatMap(({ last }) => log.written.lastRecorded(last.definition, last.key)?.events ?? []);
    for (const some of chunks(events)) {
      const { text, values } = this.options.database.statement(deletionOfEvents(this.options.database, some));
      await runner.query(text, values);
    }
    log.written.withdraw(events);
  }

  /** @throws CaptureError `WEBHOOK_LOOP`, `ROWS_UNKNOWN` */
  refuse(item: RowChange | EventRow): void {
    if ('values' in item) return;
    if (item.refusal) throw item.refusal;
    if (!item.cause || item.cause.depth <= this.options.maxCausationDepth) return;
    const { name } = item.definition.metadata;
    const { depth } = item.cause;
    throw new CaptureError('WEBHOOK_LOOP', loopMessage(`A write of ${name}`, depth, this.options.maxCausationDepth), {
      details: { entity: name, depth },
    });
  }

  private eventsOf(change: RowChange): EventRow[] {
    const rows = eventsOf(change, this.options.limits);
    const { ownership, metadata, name } = change.definition;
    if (ownership !== 'declared' || !rows.some((row) => row.source.audience === 'application')) return rows;
    this.warnOnce(
      `${name} without an owner`,
      `A row of ${metadata.name} has no owner, although the entity declares one. Its events reach only listeners without an owner. (Logged once for each entity.)`,
    );
    return rows;
  }

  /** Reads the after images of pending changes. A row that no longer exists gets 'gone'. */
  async readImages(runner: QueryRunner, log: TransactionLog, isWanted: (change: RowChange) => boolean): Promise<void> {
    // On MySQL an update writes nothing if another writer has already set the same values. Then a plain read returns the row from before both
    // updates, because of its snapshot. A locking read returns the current row.
    const isMysql = this.options.database.dialect === 'mysql';
    const byDefinition = new Map<EntityDefinition, RowChange[]>();
    for (const item of log.pending) {
      if ('values' in item || item.image || !isWanted(item)) continue;
      const changes = byDefinition.get(item.definition);
      if (changes) changes.push(item);
      else byDefinition.set(item.definition, [item]);
    }
    for (const [definition, changes] of byDefinition) {
      const ids = changes.map((change) => change.id);
      const images = await readRows(runner, definition, ids, log.isOpen && isMysql ? 'update' : 'none');
      for (const change of changes) change.image = images.get(change.key) ?? 'gone';
    }
  }

  private warnOnce(key: string, message: string): void {
    if (this.warned.has(key)) return;
    this.warned.add(key);
    this.options.logger.warn(message);
  }
}

/** Does nothing if the transaction was rolled back in the meantime, which drops all pending changes. */
function keepUnwritten(log: TransactionLog, items: TransactionLog['pending'], rest: TransactionLog['pending']): void {
  if (log.pending === items) log.pending = rest;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
