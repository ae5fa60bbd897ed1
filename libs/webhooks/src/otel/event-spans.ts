import { context, SpanKind, trace, type Attributes, type Tracer } from '@opentelemetry/api';
import type { TraceContext } from '../events/trace-context.js';

/**
 * Makes the span `create order.updated` for a new event, inside the span of the write. The context of the span is
 * stored with the event, and the spans of attempts link to this span.
 *
 * @returns `null` outside a recorded span: an event never begins a trace
 */
export function createdSpan(tracer: Tracer, common: Attributes, type: string): TraceContext | null {
  const active = context.active();
  if (!trace.getSpan(active)?.isRecording()) return null;
  const span = tracer.startSpan(
    `create ${type}`,
    {
      kind: SpanKind.PRODUCER,
      attributes: {
        ...common,
        'messaging.system': 'nestjs_entity_webhooks',
        'messaging.operation.type': 'create',
        'messaging.operation.name': 'create',
        'messaging.destination.name': type,
      },
    },
    active,
  );
  const { traceId, spanId, traceFlags, traceState } = span.spanContext();
  span.end();
  const flags = (traceFlags & 0xff).toString(16).padStart(2, '0');
  const state = traceState?.serialize();
  return { traceparent: `00-${traceId}-${spanId}-${flags}`, ...(state ? { tracestate: state } : {}) };
}
