import type { AttemptTrigger } from '../attempt-trigger.js';
import type { Audience } from '../events/webhook-event.js';
import type { AttemptPhases } from '../sending/phases.js';

/** The version of the lines. A release that changes their meaning raises it. */
export const ARCHIVE_VERSION = 1;

/** The first line of a file. */
interface ArchiveStart {
  readonly kind: 'archive';
  readonly version: number;
  readonly name: string;
}

/** An event. Times are ISO 8601 in UTC. */
export interface ArchivedEvent {
  readonly kind: 'event';
  readonly id: string;
  readonly type: string;
  readonly superTypes: readonly string[];
  readonly audience: Audience;
  readonly owner: string | null;
  /** The hash of the row that the event is about, in hexadecimal. */
  readonly orderKey: string | null;
  readonly ordered: boolean;
  readonly timestamp: string;
  /** The stored JSON as a text, because a parsed number could lose digits. `null`: the content was erased. */
  readonly payload: string | null;
  readonly thinPayload: string | null;
  readonly droppedFields: readonly string[] | null;
  /** The stored JSON as a text. */
  readonly context: string | null;
  readonly erasedAt: string | null;
  /** Why the event could not be routed; `null` if it was routed. */
  readonly damaged: string | null;
}

/** A delivery that had ended. Its attempts follow it. */
export interface ArchivedDelivery {
  readonly kind: 'delivery';
  readonly id: string;
  readonly eventId: string;
  readonly listenerId: string;
  readonly type: string;
  readonly owner: string | null;
  readonly state: string;
  readonly attemptCount: number;
  /** `null`: the payload of the event, or erased. */
  readonly body: string | null;
  readonly format: string | null;
  /** The older version in which the body is rendered; `null`: the version of the event. */
  readonly version: number | null;
  readonly lastStatus: number | null;
  readonly lastErrorCode: string | null;
  readonly createdAt: string;
  readonly finishedAt: string | null;
}

/** An attempt. Without details (`log.details`), `url`, the headers and `phases` are `null`. Secrets in headers are masked. */
export interface ArchivedAttempt {
  readonly kind: 'attempt';
  readonly deliveryId: string;
  readonly number: number;
  readonly outcome: string;
  readonly status: number | null;
  readonly errorCode: string | null;
  readonly errorDetail: string | null;
  readonly durationMs: number;
  readonly response: string | null;
  readonly superseded: boolean;
  readonly startedAt: string;
  readonly trigger: 'schedule' | AttemptTrigger;
  /** The name that was given to `withActor()`; `null` without a name. */
  readonly triggeredBy: string | null;
  readonly url: string | null;
  readonly requestHeaders: Readonly<Record<string, string>> | null;
  readonly responseHeaders: Readonly<Record<string, string>> | null;
  /** The number of headers that had no room. */
  readonly omittedHeaders: number;
  readonly phases: AttemptPhases | null;
}

/** The last line of a file. A file without it is incomplete. */
export interface ArchiveEnd {
  readonly kind: 'end';
  readonly events: number;
  readonly deliveries: number;
  readonly attempts: number;
}

/** One line of a file. */
export type ArchiveLine = ArchiveStart | ArchivedEvent | ArchivedDelivery | ArchivedAttempt | ArchiveEnd;
