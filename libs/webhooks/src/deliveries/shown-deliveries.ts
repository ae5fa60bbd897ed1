import { showsTiming, type OutcomeKind } from '../sending/outcome.js';
import { numberOrNull } from '../store/database/number-or-null.js';
import type { ClaimedDelivery } from '../store/queue/claimed-delivery.js';
import { readTiming, type AttemptRow, type DeliveryRow } from '../store/queue/delivery-rows.js';
import { readDetails } from '../store/queue/stored-details.js';
import type { Attempt, Delivery, DeliveryState } from './delivery.js';

/** @param isOperator customers do not see the duration of an attempt that was blocked: see {@link toAttempt} */
export function toDelivery(row: DeliveryRow, isOperator: boolean): Delivery {
  const createdAt = Number(row.createdAt);
  const finishedAt = numberOrNull(row.finishedAt);
  const state = row.state as DeliveryState;
  const { durationMs, isBlocked } = readTiming(row.lastTiming);
  const kind: OutcomeKind = isBlocked ? 'blocked' : 'rejected';
  const hasTiming = isOperator || showsTiming({ kind, errorCode: row.lastErrorCode });
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
    lastDurationMs: hasTiming ? durationMs : null,
    totalDurationMs: finishedAt === null ? null : finishedAt - createdAt,
    createdAt: new Date(createdAt),
    finishedAt: finishedAt === null ? null : new Date(finishedAt),
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
    lastDurationMs: null,
    totalDurationMs: null,
    createdAt: new Date(routedAt),
    finishedAt: null,
  };
}

/**
 * A customer sees the answers of their receiver. Of a blocked attempt, the customer sees only that the attempt was blocked, and the URL,
 * which they have set: no answer, no headers, no address and no timing. An attempt that the proxy refused has no timing, either. The person
 * or program that asked for an attempt may be an operator, so customers do not see the name.
 */
export function toAttempt(row: AttemptRow, isOperator: boolean): Attempt {
  const kind = row.outcome as OutcomeKind;
  const isHidden = kind === 'blocked' && !isOperator;
  const hasTiming = isOperator || showsTiming({ kind, errorCode: row.errorCode });
  const details = readDetails(row.details);
  return {
    number: Number(row.number),
    outcome: kind,
    status: isHidden ? null : numberOrNull(row.status),
    errorCode: row.errorCode,
    errorDetail: isOperator ? row.errorDetail : null,
    durationMs: hasTiming ? Number(row.durationMs) : null,
    response: isHidden ? null : row.response,
    superseded: Number(row.superseded) === 1,
    startedAt: new Date(Number(row.startedAt)),
    trigger: (row.trigger ?? 'schedule') as Attempt['trigger'],
    triggeredBy: isOperator ? row.triggeredBy : null,
    url: details?.url ?? null,
    requestHeaders: isHidden ? null : (details?.request ?? null),
    responseHeaders: isHidden ? null : (details?.response ?? null),
    omittedHeaders: isHidden ? 0 : (details?.omitted ?? 0),
    phases: hasTiming ? (details?.phases ?? null) : null,
  };
}
