import { tupleHash } from '../hash.js';
import { newId } from '../ids.js';
import type { JsonObject } from '../json.js';
import { concernsListener, OPERATIONAL_EVENTS, type OperationalEventType } from '../events/operational-event.js';
import type { PayloadLimits } from '../events/payload.js';
import { isReservedType } from '../events/reserved-names.js';
import type { Outage } from '../health/outage.js';
import type { Database } from '../store/database/database.js';
import type { Script } from '../store/database/script.js';
import { eventRow, type EventRow } from '../store/outbox/event-rows.js';
import { publishOnce } from '../store/outbox/published-events.js';
import { numberOf, type RecordResult } from '../store/queue/attempt-record.js';
import type { Backlog } from '../store/queue/read-backlog.js';
import type { NoticedListener } from './notices.js';
import type { Attempted } from './recorded-attempt.js';

export interface OperationalEventsParts {
  readonly database: Database;
  readonly limits: PayloadLimits;
  /** The option `operationalEvents`. */
  readonly isOn: boolean;
}

/** The event type of each change of an outage. */
const OUTAGE_TYPES = {
  failing: OPERATIONAL_EVENTS.listenerFailing,
  disabling_soon: OPERATIONAL_EVENTS.listenerDisablingSoon,
  recovered: OPERATIONAL_EVENTS.listenerRecovered,
} as const;

/**
 * Stores events about webhooks themselves. An event is stored in the transaction that makes the described change. A
 * delivery of such an event never causes another such event, even if it fails. Otherwise a failing receiver would cause
 * events about its own failures.
 */
export class OperationalEvents {
  constructor(private readonly parts: OperationalEventsParts) {}

  /** Stores events in the transaction that records attempts. @returns whether an event was stored */
  *ofAttempts(batch: readonly Attempted[], { moved, disabled, outages }: RecordResult, now: number): Script<boolean> {
    if (!this.parts.isOn) return false;
    const regular = batch.filter(
      ({ laned, record }) => moved.has(record.delivery) && !isReservedType(laned.delivery.type),
    );
    const lastOf = (listenerId: string) => regular.findLast(({ record }) => record.delivery.listener.id === listenerId);
    const rows = [
      ...regular.filter(({ record }) => record.next.state === 'exhausted').map((one) => this.exhausted(one, now)),
      ...outages.map((outage) => this.outage(lastOf(outage.listenerId), outage, now)),
      ...disabled.map(({ listenerId, reason }) => this.disabled(lastOf(listenerId), reason, now)),
    ].filter((row) => row !== null);
    yield* this.insert(rows);
    return rows.length > 0;
  }

  /**
   * Stores an event in the transaction that disables a listener, because a handshake failed or because the application disables the listener.
   * @returns whether an event was stored
   */
  *ofDisabled({ id, url, owner }: NoticedListener, reason: string, now: number): Script<boolean> {
    if (!this.parts.isOn) return false;
    const data = { listener: listenerOf({ id, url }), lastStatus: null, lastErrorCode: null, reason };
    yield* this.insert([this.row(OPERATIONAL_EVENTS.listenerDisabled, owner, data, { now, once: [newId('evt')] })]);
    return true;
  }

  /** Stores events about damaged events. Does nothing if the option is off. */
  *damaged(events: readonly { id: string; type: string; reason: string }[], now: number): Script<void> {
    if (!this.parts.isOn) return;
    const regular = events.filter(({ type }) => !isReservedType(type));
    yield* this.insert(
      regular.map(({ id, type, reason }) =>
        this.row(OPERATIONAL_EVENTS.outboxDamaged, null, { event: { id, type }, reason }, { now, once: [id] }),
      ),
    );
  }

  *lag(isHigh: boolean, { outboxLagMs, queueLagMs, pending }: Backlog, now: number): Script<void> {
    const type = isHigh ? OPERATIONAL_EVENTS.lagHigh : OPERATIONAL_EVENTS.lagNormal;
    const once = [String(now)];
    yield* this.insert([this.row(type, null, { outboxLagMs, queueLagMs, pending }, { now, once })]);
  }

  private *insert(rows: readonly EventRow[]): Script<void> {
    for (const row of rows) yield* publishOnce(this.parts.database, row, row.source.dedupeKey as Buffer);
  }

  private exhausted(attempted: Attempted, now: number): EventRow {
    const { delivery } = attempted.laned;
    const data = {
      ...whatFailed(attempted),
      delivery: delivery.id,
      event: { id: delivery.event.id, type: delivery.type },
      attempts: numberOf(attempted.record),
    };
    const once = [delivery.id, String(numberOf(attempted.record))];
    return this.row(OPERATIONAL_EVENTS.deliveryExhausted, delivery.owner, data, { now, once });
  }

  private outage(attempted: Attempted | undefined, outage: Outage, now: number): EventRow | null {
    if (!attempted) return null;
    const { listenerId, change, failingSince, failuresInARow, disablesAt } = outage;
    const data = {
      ...(change === 'recovered'
        ? { listener: listenerOf(attempted.laned.delivery.listener) }
        : { ...whatFailed(attempted), failuresInARow }),
      failingSince: new Date(failingSince).toISOString(),
      ...(change === 'disabling_soon' ? { disablesAt: new Date(disablesAt).toISOString() } : {}),
    };
    // Store each event only once for each outage. In one outage, a circuit may open several times, and many attempts
    // may fail on the last day.
    const once = [listenerId, String(failingSince)];
    return this.row(OUTAGE_TYPES[change], attempted.laned.delivery.owner, data, { now, once });
  }

  private disabled(attempted: Attempted | undefined, reason: string, now: number): EventRow | null {
    if (!attempted) return null;
    const once = [
      attempted.record.delivery.listener.id,
      attempted.laned.delivery.id,
      String(numberOf(attempted.record)),
    ];
    const data = { ...whatFailed(attempted), reason };
    return this.row(OPERATIONAL_EVENTS.listenerDisabled, attempted.laned.delivery.owner, data, { now, once });
  }

  /** @param when `once`: the values that distinguish this event from other events of its type */
  private row(
    type: OperationalEventType,
    owner: string | null,
    data: JsonObject,
    { now, once }: { now: number; once: readonly string[] },
  ): EventRow {
    const event = { id: newId('evt', now), type, timestamp: new Date(now).toISOString(), data, owner, context: null };
    const isOwned = owner !== null && concernsListener(type);
    const source = {
      event,
      superTypes: [],
      audience: isOwned ? ('owner' as const) : ('application' as const),
      orderKey: null,
      isOrdered: false,
      dedupeKey: tupleHash('operational', type, ...once),
      depth: 0,
      createdAt: now,
    };
    return eventRow(source, ['listener'], this.parts.limits);
  }
}

function whatFailed(attempted: Attempted) {
  const { status, errorCode } = attempted.record;
  return { listener: listenerOf(attempted.laned.delivery.listener), lastStatus: status, lastErrorCode: errorCode };
}

/** Returns the listener without the query of its URL. The query may contain a token, and other listeners may receive the event. */
function listenerOf({ id, url }: { readonly id: string; readonly url: string }) {
  const { origin, pathname } = new URL(url);
  return { id, url: `${origin}${pathname}` };
}
