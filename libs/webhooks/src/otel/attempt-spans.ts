import {
  createTraceState,
  isSpanContextValid,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  type Attributes,
  type Link,
  type Tracer,
} from '@opentelemetry/api';
import type { RecordedAttempt, AttemptsMessage } from '../diagnostics/channels.js';
import type { TraceContext } from '../events/trace-context.js';
import { errorType } from './metrics.js';

/**
 * Makes one span for each attempt, when the attempt is recorded. The span begins a new trace with a link to the
 * trace that created the event, because a retry may come days after the event. The span has the attributes of the
 * OpenTelemetry conventions for HTTP clients and for messaging.
 */
export class AttemptSpans {
  constructor(
    private readonly tracer: Tracer,
    private readonly instance: string,
  ) {}

  readonly attempts = ({ attempts }: AttemptsMessage): void => {
    for (const attempt of attempts) this.attempt(attempt);
  };

  /**
   * Returns the attributes as one object literal. V8 (Node.js 20) takes microseconds to add properties to a spread, and this
   * method runs for every attempt.
   */
  private attributesOf({ type, attempt, outcome }: RecordedAttempt): Attributes {
    return {
      'webhooks.instance': this.instance,
      'http.request.method': 'POST',
      'messaging.system': 'nestjs_entity_webhooks',
      'messaging.operation.type': 'process',
      'messaging.operation.name': 'deliver',
      'messaging.destination.name': type,
      'webhooks.attempt': attempt,
      'webhooks.outcome': outcome,
    };
  }

  private attempt(attempt: RecordedAttempt): void {
    const { outcome, startedAt, durationMs, status, errorCode } = attempt;
    const span = this.tracer.startSpan(
      'POST',
      {
        kind: SpanKind.CLIENT,
        root: true,
        startTime: startedAt,
        links: linksOf(attempt.trace),
        attributes: this.attributesOf(attempt),
      },
      ROOT_CONTEXT,
    );
    // A sampler needs only the attributes above. The attributes of the request take longer to compute, and most
    // spans of a busy sender are not recorded.
    if (span.isRecording()) span.setAttributes(attributesOfRequest(attempt));
    if (outcome !== 'accepted') {
      span.setAttribute('error.type', errorType(status, errorCode));
      span.setStatus({ code: SpanStatusCode.ERROR });
    }
    span.end(startedAt + durationMs);
  }
}

function attributesOfRequest({ url, status, attempt, ...recorded }: RecordedAttempt): Attributes {
  const { protocol, hostname, port } = new URL(url);
  return {
    'server.address': hostname.replace(/^\[(.*)\]$/, '$1'),
    'server.port': Number(port) || (protocol === 'https:' ? 443 : 80),
    'url.full': redacted(url),
    ...(status === null ? {} : { 'http.response.status_code': status }),
    ...(attempt > 1 ? { 'http.request.resend_count': attempt - 1 } : {}),
    'messaging.message.id': recorded.eventId,
    'webhooks.delivery.id': recorded.deliveryId,
    'webhooks.listener.id': recorded.listenerId,
  };
}

/**
 * Removes secrets from a URL, as the conventions require. The query of a URL may contain a token, and a URL may contain
 * a password.
 */
function redacted(text: string): string {
  const url = new URL(text);
  if (url.username || url.password) [url.username, url.password] = ['REDACTED', 'REDACTED'];
  for (const name of new Set(url.searchParams.keys())) url.searchParams.set(name, 'REDACTED');
  url.hash = '';
  return url.href;
}

/** A link to a context of W3C headers. */
export function linksOf(trace: TraceContext | null): Link[] {
  if (!trace) return [];
  // The form of the header (version, trace, parent and flags) was checked when the header was read.
  const [, traceId = '', spanId = '', flags = '00'] = trace.traceparent.split('-');
  const traceState = trace.tracestate === undefined ? {} : { traceState: createTraceState(trace.tracestate) };
  const context = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true, ...traceState };
  return isSpanContextValid(context) ? [{ context }] : [];
}
