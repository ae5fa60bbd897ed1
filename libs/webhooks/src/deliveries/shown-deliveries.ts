import { showsTiming, type OutcomeKind } from '../sending/outcome.js';
import { numberOrNull } from '../store/database/number-or-null.js';
import type { ClaimedDelivery } from '../store/queue/claimed-delivery.js';
import type { AttemptRow, DeliveryRow } from '../store/queue/delivery-rows.js';
import type { Attempt, Delivery, DeliveryState } from './delivery.js';

export function toDelivery(row: DeliveryRow): Delivery {
  const state = row.state as DeliveryState;
  return {
    id: row.id,
    eventId: row.eventId,
    listenerId: row.listenerId,
    type: row.type,
    owner: row.owner,
    state,
    attemptCount: Number(row.attempts),
    nextAttemptAt: state === 'due' ? new Date(Number(row.nextAt)) : null,
    lastStatus: numberOrNull(row.lastStatus),
    lastErrorCode: row.lastErrorCode,
    createdAt: new Date(Number(row.createdAt)),
    finishedAt: row.finishedAt === null ? null : new Date(Number(row.finishedAt)),
  };
}

/** A delivery that this process is sending, and that has no row yet. */
export function inFlightDelivery({ id, event, listener, type, owner, routedAt }: ClaimedDelivery): Delivery {
  return {
    id,
    eventId: event.id,
    listenerId: listener.id,
    type,
    owner,
    state: 'leased',
    attemptCount: 0,
    nextAttemptAt: null,
    lastStatus: null,
    lastErrorCode: null,
    createdAt: new Date(routedAt),
    finishedAt: null,
  };
}

/**
 * A customer sees the answers of their receiver. Of a blocked attempt, the customer sees only that the attempt was blocked: no answer, no
 * address and no timing.
 */
export function toAttempt(row: AttemptRow, isOperator: boolean): Attempt {
  const kind = row.outcome as OutcomeKind;
  const isBlocked = kind === 'blocked';
  return {
    number: Number(row.number),
    outcome: kind,
    status: isBlocked && !isOperator ? null : numberOrNull(row.status),
    errorCode: row.errorCode,
    errorDetail: isOperator ? row.errorDetail : null,
    durationMs: isOperator || showsTiming({ kind, errorCode: row.errorCode }) ? Number(row.durationMs) : null,
    response: isBlocked && !isOperator ? null : row.response,
    superseded: Number(row.superseded) === 1,
    startedAt: new Date(Number(row.startedAt)),
  };
}
