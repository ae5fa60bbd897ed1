import type { Audience } from '../events/webhook-event.js';

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
  readonly lastStatus: number | null;
  readonly lastErrorCode: string | null;
  readonly createdAt: string;
  readonly finishedAt: string | null;
}

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
