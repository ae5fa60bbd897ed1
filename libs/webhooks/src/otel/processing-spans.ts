import { context, SpanKind, SpanStatusCode, trace, type Tracer } from '@opentelemetry/api';
import { readTraceContext } from '../events/trace-context.js';
import type { IncomingWebhookProcessing } from '../receiver/incoming-webhook-channel.js';
import { linksOf } from './attempt-spans.js';

/**
 * Makes the span `process order.updated` around the handler of a webhook. Its parent is the active span, usually the span of the HTTP
 * server. It links to the span that created the event, which the sender passes on as `traceparent`. If the server's instrumentation uses
 * `traceparent` too, the parent is in the same trace as this link.
 */
export function spanAround(tracer: Tracer, message: IncomingWebhookProcessing): void {
  const { source, id, type, headers, run, ended } = message;
  const parent = context.active();
  const span = tracer.startSpan(
    `process ${type ?? source}`,
    {
      kind: SpanKind.CONSUMER,
      links: linksOf(readTraceContext(headers['traceparent'], headers['tracestate'])),
      attributes: {
        'messaging.system': 'nestjs_entity_webhooks',
        'messaging.operation.type': 'process',
        'messaging.operation.name': 'process',
        'messaging.message.id': id,
        'webhooks.source': source,
        ...(type === null ? {} : { 'messaging.destination.name': type }),
      },
    },
    parent,
  );
  message.run = (handler) => context.with(trace.setSpan(parent, span), () => run(handler));
  message.ended = (error) => {
    if (error !== undefined) {
      span.setAttribute('error.type', error instanceof Error ? error.name : '_OTHER');
      span.setStatus({ code: SpanStatusCode.ERROR });
    }
    span.end();
    ended(error);
  };
}
