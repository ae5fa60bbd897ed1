import type { RecordedAttempt } from '../diagnostics/channels.js';
import { storedCause } from '../events/event-context.js';
import { readTraceContext, type TraceContext } from '../events/trace-context.js';
import type { Outcome } from '../sending/outcome.js';
import { numberOf, type AttemptRecord } from '../store/queue/attempt-record.js';
import type { LanedDelivery } from './lanes.js';

/** An attempt that has ended and that is not yet recorded. */
export interface Attempted {
  readonly laned: LanedDelivery;
  readonly outcome: Outcome;
  readonly record: AttemptRecord;
  /** How long signing took; `null` if the channel has no subscriber. */
  readonly signMs: number | null;
}

/**
 * Returns a recorded attempt in the form for subscribers and for the log. @param isMoved whether the attempt changed
 * its delivery
 */
export function recordedAttempt({ laned, outcome, record, signMs }: Attempted, isMoved: boolean): RecordedAttempt {
  const { delivery } = laned;
  return {
    deliveryId: delivery.id,
    eventId: delivery.event.id,
    listenerId: delivery.listener.id,
    url: delivery.listener.url,
    type: delivery.type,
    owner: delivery.owner,
    attempt: numberOf(record),
    trigger: delivery.trigger ?? 'schedule',
    triggeredBy: delivery.triggeredBy ?? null,
    outcome: outcome.kind,
    status: outcome.status,
    errorCode: outcome.errorCode,
    startedAt: record.startedAt,
    durationMs: outcome.durationMs,
    eventCreatedAt: delivery.event.createdAt,
    state: isMoved ? record.next.state : 'superseded',
    nextAt: isMoved && record.next.state === 'due' ? record.next.at : null,
    bodyBytes: Buffer.byteLength(delivery.body, 'utf8'),
    signMs,
    trace: traceOf(delivery.event.context),
  };
}

/** Returns the trace of a stored context. Most events have no context. */
function traceOf(storedContext: string | null): TraceContext | null {
  if (storedContext === null) return null;
  const { context } = storedCause(storedContext);
  return readTraceContext(context?.['traceparent'], context?.['tracestate']);
}
