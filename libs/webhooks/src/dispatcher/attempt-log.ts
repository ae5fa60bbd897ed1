import { inspect } from 'node:util';
import type { LoggerService } from '@nestjs/common';
import type { RecordedAttempt } from '../diagnostics/channels.js';

/** Which attempts are logged. */
export type LoggedAttempts = 'failed' | 'all' | 'none';

/**
 * The log line of an attempt. JSON loggers write the line as an object. Loggers for people write it as one line of
 * text.
 *
 * The line never contains the query of the URL, a header or the payload.
 */
class AttemptLine {
  readonly msg = 'webhook attempt';
  readonly event: string;
  readonly type: string;
  readonly delivery: string;
  readonly listener: string;
  readonly url: string;
  readonly owner: string | null;
  readonly attempt: number;
  readonly trigger: RecordedAttempt['trigger'];
  readonly triggeredBy: string | null;
  readonly outcome: RecordedAttempt['outcome'];
  readonly state: RecordedAttempt['state'];
  readonly status: number | null;
  readonly error: string | null;
  readonly durationMs: number;
  /** The time at which the next attempt is due, in ISO 8601. */
  readonly nextAt: string | null;
  readonly traceId: string | null;
  readonly bytes: number;
  /** Why this attempt disabled its listener. */
  readonly disabled?: string;

  constructor(recorded: RecordedAttempt, disabled: string | undefined) {
    const { origin, pathname } = new URL(recorded.url);
    this.event = recorded.eventId;
    this.type = recorded.type;
    this.delivery = recorded.deliveryId;
    this.listener = recorded.listenerId;
    this.url = `${origin}${pathname}`;
    this.owner = recorded.owner;
    this.attempt = recorded.attempt;
    this.trigger = recorded.trigger;
    this.triggeredBy = recorded.triggeredBy;
    this.outcome = recorded.outcome;
    this.state = recorded.state;
    this.status = recorded.status;
    this.error = recorded.errorCode;
    this.durationMs = recorded.durationMs;
    this.nextAt = recorded.nextAt === null ? null : new Date(recorded.nextAt).toISOString();
    this.traceId = recorded.trace?.traceparent.split('-')[1] ?? null;
    this.bytes = recorded.bodyBytes;
    if (disabled !== undefined) this.disabled = disabled;
  }

  /** Loggers for people print this text. JSON escapes line breaks in the owner, the reason and the name of who asked for the attempt. */
  [inspect.custom](): string {
    const owner = this.owner === null ? 'no owner' : `owner ${JSON.stringify(this.owner)}`;
    const answer = this.status ?? this.error ?? 'no answer';
    const to = `${this.listener} (${this.url}, ${owner})`;
    return `Attempt ${this.attempt}${this.cause} of delivery ${this.delivery} (${this.type}, ${this.event}) to ${to} was ${this.outcome}: ${answer}, after ${this.durationMs} ms. ${this.outlook}`;
  }

  /** Why the attempt was made. Most attempts are made by the schedule, and their line does not say so. */
  private get cause(): string {
    if (this.trigger === 'schedule') return '';
    const by = this.triggeredBy === null ? '' : ` by ${JSON.stringify(this.triggeredBy)}`;
    return ` (${this.trigger}${by})`;
  }

  private get outlook(): string {
    if (this.disabled !== undefined) return `The listener is disabled: ${JSON.stringify(this.disabled)}.`;
    if (this.nextAt !== null) return `The next attempt is at ${this.nextAt}.`;
    return this.state === 'superseded' ? 'The lease of the delivery had expired.' : `The delivery is ${this.state}.`;
  }
}

/**
 * Writes one log line for each attempt. The level is `debug` for an accepted attempt and `warn` for a failed
 * attempt. It is `error` if the delivery is exhausted or its listener is disabled.
 */
export class AttemptLog {
  constructor(
    private readonly logger: LoggerService,
    private readonly attempts: LoggedAttempts,
  ) {}

  /** Whether an attempt with this outcome has a line. */
  has(outcome: RecordedAttempt['outcome']): boolean {
    return this.attempts === 'all' || (this.attempts === 'failed' && outcome !== 'accepted');
  }

  /** @param disabled why the attempt disabled its listener */
  write(recorded: RecordedAttempt, disabled?: string): void {
    const line = new AttemptLine(recorded, disabled);
    if (recorded.state === 'exhausted' || disabled !== undefined) this.logger.error(line);
    else if (recorded.outcome === 'accepted') this.logger.debug?.(line);
    else this.logger.warn(line);
  }
}
