import type { EntityManager } from 'typeorm';
import type { WebhookClock } from '../clock.js';
import { BadRequestError } from '../errors.js';
import { storedCause } from '../events/event-context.js';
import { textOf } from '../foreign-text.js';
import type { JsonObject } from '../json.js';
import { INVALID_OWNER_MESSAGE, OTHER_OWNER_MESSAGE, ownerText } from '../owner.js';
import type { CallerTransactions } from '../store/database/caller-transactions.js';
import type { Database } from '../store/database/database.js';
import { page, readPage, type WebhookPage, type WebhookPageOptions } from '../store/database/page.js';
import type { OwnerScope } from '../store/listeners/listener-rows.js';
import { writeAudit } from '../store/system/audit.js';
import {
  listEvents,
  readListedEvent,
  type EventFilterRow,
  type ListedEventRow,
  type ShownEventRow,
} from '../store/outbox/listed-events.js';
import type { BulkWork, Work, WorkBatch, WorkPosition } from './bulk-work.js';
import { EventNotFoundError, notForOwners } from './errors.js';
import { pause } from '../time.js';
import { readSkipped, type SkippedListener, type SkippedListenerFilter } from './skipped-listeners.js';
import type { TaskChecks } from './task-input.js';
import { milliseconds } from './milliseconds.js';
import { selectedEvents, type ArchiveSource, type RestoreOptions, type RestoreResult } from './restore.js';

/**
 * - `pending`: no process has claimed the event yet
 * - `in_flight`: the deliveries of the event are being sent, or its listeners are being found page by page
 * - `delivered`: each delivery of the event has a row in the delivery log, even if it failed or has to wait
 * - `damaged`: the row cannot be read as an event. The log says why
 */
export type StoredEventState = 'pending' | 'in_flight' | 'delivered' | 'damaged';

/** A stored event in a list, without its content. */
export interface StoredEventSummary {
  /** `evt_` and a UUIDv7; sent as `webhook-id`. */
  readonly id: string;
  readonly type: string;
  /** When it happened. */
  readonly timestamp: Date;
  /** `null` if the entity declares no owner, or if the event is for every owner. */
  readonly owner: string | null;
  readonly state: StoredEventState;
  /** Whether `sendTest()` made the event. */
  readonly test: boolean;
  /** When the content was erased; `null` if it was not erased. */
  readonly erasedAt: Date | null;
}

/** A stored event with its content. */
export interface StoredEvent extends StoredEventSummary {
  /** The complete data, even if the payload that was sent lacks fields. `null` for a damaged event, and for an erased event. */
  readonly data: JsonObject | null;
  /** For updates: the old values of the changed fields. */
  readonly previous: JsonObject | null;
  /** Names of fields that were too large to store. */
  readonly droppedFields: readonly string[];
  /** The context of `withContext()`. For operators: `null` in a service that is bound to an owner. */
  readonly context: JsonObject | null;
}

export interface EventFilter {
  type?: string;
  owner?: string;
  /** The name of an entity, as in `create()` of listeners. Only events of its row `entityId`. */
  entity?: string;
  /** The primary key of the row; of several columns, an object. */
  entityId?: string | number | Readonly<Record<string, unknown>>;
  /** The id of an event. Only events of the same row, or of the same `orderKey` of `publish()`; this event is among them. No event for an unknown id. */
  sameRowAs?: string;
  /** Only events that happened at this time or later. */
  since?: Date;
  /** Only events that happened before this time. */
  until?: Date;
}

/** @internal */
export interface EventServiceParts {
  readonly database: Database;
  readonly transactions: CallerTransactions;
  readonly clock: WebhookClock;
  readonly work: BulkWork;
  readonly rowKey: TaskChecks['rowKey'];
  /** Called when deliveries were discarded. */
  readonly discarded: (counts: ReadonlyMap<string, number>) => void;
  /** Called when deliveries may be due. */
  readonly wake: () => void;
}

/** How long an erasure waits before it checks again whether a delivery is still in flight. */
const IN_FLIGHT_MS = 100;

/**
 * Reads stored events, for as long as `retention` keeps them. `forOwner(id)` returns a service that sees only the events of one owner and
 * the events for every owner.
 */
export class EventService {
  /** @internal */
  constructor(
    private readonly parts: EventServiceParts,
    private readonly boundTo?: OwnerScope,
    private readonly actor: string | null = null,
  ) {}

  /**
   * Returns this service bound to one owner (a string). It does not find events of other owners. @throws BadRequestError `INVALID_OWNER`
   */
  forOwner(owner: string): EventService {
    const bound = typeof owner === 'string' ? ownerText(owner) : undefined;
    if (bound === undefined) throw new BadRequestError('INVALID_OWNER', INVALID_OWNER_MESSAGE);
    if (this.boundTo !== undefined && bound !== this.boundTo) {
      throw new BadRequestError('INVALID_OWNER', OTHER_OWNER_MESSAGE);
    }
    return new EventService(this.parts, bound, this.actor);
  }

  /**
   * Returns this service inside a transaction, so that it also sees events that this transaction has written.
   *
   * @param manager the argument of `dataSource.transaction()`, or `queryRunner.manager`
   * @throws TransactionError `WRONG_DATA_SOURCE`
   */
  withManager(manager: EntityManager): EventService {
    return new EventService(
      { ...this.parts, transactions: this.parts.transactions.withManager(manager) },
      this.boundTo,
      this.actor,
    );
  }

  /**
   * Returns this service with the name of a person or program, which the audit log stores with each change. `null` stands for the
   * application itself.
   */
  withActor(actor: string | null): EventService {
    return new EventService(this.parts, this.boundTo, actor);
  }

  /**
   * Newest first. With `type`, `entityId` or `sameRowAs`, a page may have fewer items than its limit although another page follows, because
   * no index serves these filters: a page reads at most 20,000 events.
   *
   * @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`, `INVALID_TIME`, `UNKNOWN_ENTITY`, `INVALID_ENTITY_ID`
   */
  async list(options: EventFilter & WebhookPageOptions = {}): Promise<WebhookPage<StoredEventSummary>> {
    const { limit, after } = readPage(options);
    const { database } = this.parts;
    const filter = this.filterRow(options);
    if (options.sameRowAs !== undefined) {
      const id = textOf(options.sameRowAs);
      const same = await this.parts.transactions.here().run(() => readListedEvent(database, id, this.boundTo));
      if (!same?.orderKey) return { items: [], next: null };
      filter.orderKey = Buffer.from(same.orderKey);
    }
    const { rows, scanEnd } = await this.parts.transactions
      .here()
      .run(() => listEvents(database, filter, after, limit + 1));
    const positionOf = (row: ListedEventRow) => ({ at: Number(row.createdAt), seq: String(row.seq) });
    return page(rows, limit, positionOf, toSummary, scanEnd);
  }

  /** @throws EventNotFoundError */
  async get(id: string): Promise<StoredEvent> {
    const { database } = this.parts;
    const row = await this.parts.transactions.here().run(() => readListedEvent(database, textOf(id), this.boundTo));
    if (!row) throw new EventNotFoundError(textOf(id));
    return this.toEvent(row);
  }

  /**
   * Lists the listeners that this event might have reached and that have no delivery of it, with the reason. Newest listeners first. A page
   * may have fewer items than its limit although another page follows. Listeners of other owners are left out, unless `listenerId` asks
   * for one.
   *
   * @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`; EventNotFoundError
   */
  async skippedListeners(
    id: string,
    options: SkippedListenerFilter & WebhookPageOptions = {},
  ): Promise<WebhookPage<SkippedListener>> {
    const { limit, after } = readPage(options);
    const { database, transactions } = this.parts;
    const listenerId = options.listenerId === undefined ? undefined : textOf(options.listenerId);
    const asked = { eventId: textOf(id), scope: this.boundTo, listenerId };
    const found = await transactions.here().run(() => readSkipped(database, asked, after, limit));
    if (!found) throw new EventNotFoundError(textOf(id));
    return found;
  }

  /**
   * Erases the content of an event: its payload and context, the bodies that were rendered from it, and the answers of receivers. Pending
   * deliveries are discarded. The method waits for requests in flight, at most until their lease expires. The event stays in the lists,
   * with `erasedAt`. The content cannot be restored. If the process dies before the method returns, call the method again. To erase the
   * events of a row or of an owner, create a task of the kind `erase`.
   *
   * @throws EventNotFoundError; BadRequestError `NOT_FOR_OWNERS` from a service that is bound to an owner
   * @throws TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   */
  async erase(id: string): Promise<void> {
    const { database, transactions, clock, work: bulk, discarded } = this.parts;
    const { actor } = this;
    if (this.boundTo !== undefined) throw notForOwners('erase');
    transactions.here().refuse('erase()');
    const { id: eventId } = await this.get(id);
    const filter = { eventId, since: 0, until: clock.now() + 1, states: [] };
    const work: Work = { kind: 'erase', scope: undefined, filter };
    for (let after: WorkPosition | null = null; ;) {
      const from: WorkPosition | null = after;
      const batch: WorkBatch = await database.transaction(function* () {
        // Note the erasure with its first batch, so that the audit log also contains an interrupted erasure.
        if (!from) yield* writeAudit(database, { actor, action: 'event.erased', target: eventId }, clock.now());
        return yield* bulk.batch(work, from);
      });
      if (batch.discarded?.size) discarded(batch.discarded);
      if (batch.next === null) return;
      after = batch.next;
      if (batch.isWaiting) await pause(IN_FLIGHT_MS);
    }
  }

  /**
   * Restores events from a file of the archive (docs/archive.md): events that do not exist are inserted with their id and their time, and are
   * kept as long as new events. With `listenerId` they are sent to this listener by the rules of a replay, under the same ids, so that a
   * receiver recognizes what it has. Damaged, erased and test events are left out.
   *
   * Each 100 events are one transaction. If a line is invalid, or the process dies, the events before it stay restored: call the method again,
   * and it does the rest. With `dryRun` the whole file is checked first, and nothing is written.
   *
   * @param source the text of the file, for example a stream. Decompress it before
   * @throws BadRequestError `INVALID_ARCHIVE` with `details.line`, `INVALID_TIME`; ListenerNotFoundError
   * @throws BadRequestError `NOT_FOR_OWNERS` from a service that is bound to an owner
   * @throws TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   * @example await events.restore(createReadStream('2026-12-01.ndjson'), { listenerId: 'lst_…' });
   */
  async restore(source: ArchiveSource, options: RestoreOptions = {}): Promise<RestoreResult> {
    const { actor } = this;
    const { database, transactions, clock, work: bulk, wake } = this.parts;
    if (this.boundTo !== undefined) throw notForOwners('restore');
    transactions.here().refuse('restore()');
    const { listenerId, dryRun: isDryRun = false } = options;
    const total = { events: 0, restored: 0, deliveries: 0 };
    for await (const batch of selectedEvents(source, options)) {
      const mustAudit = total.events === 0 && !isDryRun;
      const { restored, deliveries } = await database.transaction(function* () {
        const entry = { actor, action: 'events.restored', target: listenerId ?? null } as const;
        if (mustAudit) yield* writeAudit(database, entry, clock.now());
        return yield* bulk.restore(batch, { listenerId, isDryRun, actor });
      });
      total.events += batch.length;
      total.restored += restored;
      total.deliveries += deliveries;
      if (deliveries) wake();
    }
    return total;
  }

  private filterRow({ since, until, type, owner, entity, entityId }: EventFilter): EventFilterRow {
    const row: EventFilterRow = { scope: this.boundTo };
    if ((entity === undefined) !== (entityId === undefined)) {
      throw new BadRequestError('INVALID_ENTITY_ID', 'Give `entity` and `entityId` together.', {
        details: { properties: ['entity', 'entityId'] },
      });
    }
    if (entity !== undefined) row.orderKey = this.parts.rowKey(textOf(entity), entityId, this.boundTo !== undefined);
    if (type !== undefined) row.type = textOf(type);
    if (owner !== undefined) row.owner = textOf(owner);
    if (since !== undefined) row.since = milliseconds(since, 'since');
    if (until !== undefined) row.until = milliseconds(until, 'until');
    return row;
  }

  private toEvent(row: ShownEventRow): StoredEvent {
    return {
      ...toSummary(row),
      ...readPayload(row.payload),
      droppedFields: row.droppedFields === null ? [] : (JSON.parse(row.droppedFields) as string[]),
      context: this.boundTo === undefined ? storedCause(row.context).context : null,
    };
  }
}

function toSummary(row: ListedEventRow): StoredEventSummary {
  return {
    id: row.id,
    type: row.type,
    timestamp: new Date(Number(row.createdAt)),
    owner: row.owner,
    state: row.state,
    test: row.audience === 'test',
    erasedAt: row.erasedAt === null ? null : new Date(Number(row.erasedAt)),
  };
}

/** If the payload is damaged, the data is missing, and the other properties can still be shown. */
function readPayload(text: string | null): { data: JsonObject | null; previous: JsonObject | null } {
  if (text === null) return { data: null, previous: null };
  try {
    const { data, previous = null } = JSON.parse(text) as { data: JsonObject; previous?: JsonObject };
    return { data, previous };
  } catch {
    return { data: null, previous: null };
  }
}
