import type { AttemptTrigger } from '../attempt-trigger.js';
import type { TraceContext } from '../events/trace-context.js';

/** One instance of the module in this process. All messages of an instance have the same object. */
export interface WebhooksInstance {
  /** Name of the data source of the instance: `default`, unless `forRoot({ dataSource })` names another data source. */
  readonly name: string;
}

/** The source of an event: a write through TypeORM, a trigger, or a call of `publish()`. */
export type EventSource = 'orm' | 'trigger' | 'publish';

/** Events were stored, and their transaction has committed. Events of `sendTest()` are left out. */
export interface CapturedMessage {
  readonly instance: WebhooksInstance;
  readonly events: readonly {
    readonly id: string;
    readonly type: string;
    readonly source: EventSource;
    /** Size of the payload that is sent, in UTF-8 bytes; `null` if this process does not know the size. */
    readonly payloadBytes: number | null;
    /** Whether fields were left out because the payload was too large. */
    readonly isTruncated: boolean;
  }[];
}

/**
 * Events were taken from the outbox, and their deliveries were created. A wide event has one message for each page of
 * listeners.
 */
export interface RoutedMessage {
  readonly instance: WebhooksInstance;
  /** Number of events that were taken from the outbox. 0 for a page of a wide event. */
  readonly events: number;
  /** The new deliveries, by event type. */
  readonly deliveries: ReadonlyMap<string, number>;
}

/** One attempt of a delivery: one request. */
export interface RecordedAttempt {
  readonly deliveryId: string;
  readonly eventId: string;
  readonly listenerId: string;
  /** URL of the request, with its query. The query may contain a token. */
  readonly url: string;
  readonly type: string;
  /** Owner of the listener; `null` for the application's own listeners. */
  readonly owner: string | null;
  /** Number of the attempt, from 1. */
  readonly attempt: number;
  /** Why the attempt was made, as in `Attempt`. */
  readonly trigger: 'schedule' | AttemptTrigger;
  /** The name that was given to `withActor()` by who asked for the attempt; `null` without a name. */
  readonly triggeredBy: string | null;
  readonly outcome: 'accepted' | 'rejected' | 'unreachable' | 'blocked';
  readonly status: number | null;
  readonly errorCode: string | null;
  /** When the attempt began, in ms since 1970. */
  readonly startedAt: number;
  readonly durationMs: number;
  /** When the event happened, in ms since 1970. */
  readonly eventCreatedAt: number;
  /** State of the delivery after the attempt. `superseded`: the lease had expired, so the attempt changed nothing. */
  readonly state: 'succeeded' | 'due' | 'exhausted' | 'superseded';
  /** When the next attempt is due, in ms since 1970; `null` when there is none. */
  readonly nextAt: number | null;
  /** Size of the body, in UTF-8 bytes. */
  readonly bodyBytes: number;
  /** How long signing took; `null` if this channel had no subscriber when the request was signed. */
  readonly signMs: number | null;
  /** The trace of the event's context; `null` when the application gave no trace. */
  readonly trace: TraceContext | null;
}

/** Attempts have ended, and the database has recorded them. */
export interface AttemptsMessage {
  readonly instance: WebhooksInstance;
  readonly attempts: readonly RecordedAttempt[];
}

/** Deliveries were discarded without a further attempt. */
export interface DiscardedMessage {
  readonly instance: WebhooksInstance;
  readonly listenerId: string;
  readonly count: number;
  /**
   * `TOO_OLD` or `FORMAT_FAILED`: the column `lastErrorCode` of these deliveries has the same value. `DISCARDED`: a call or a task discarded
   * the deliveries.
   */
  readonly reason: string;
}

/** The cause that disabled a listener. */
export type DisabledBy = 'attempts' | 'handshake' | 'application';

/** The health of a listener has changed. */
export interface ListenerMessage {
  readonly instance: WebhooksInstance;
  readonly listenerId: string;
  /** URL of the listener, with its query. The query may contain a token. */
  readonly url: string;
  readonly owner: string | null;
  /** `circuit_opened`: too many consecutive failures. `recovered`: a success after a failure. */
  readonly change: 'disabled' | 'circuit_opened' | 'recovered';
  /**
   * The cause that disabled the listener; `null` for the other changes. `attempts`: the listener answered 410, or
   * failed for too long.
   */
  readonly by: DisabledBy | null;
  /** The reason why the listener is disabled, as text; `null` for the other changes. */
  readonly reason: string | null;
}

/** An event cannot be read, or a row captured by a trigger cannot be turned into an event. */
export interface DamagedMessage {
  readonly instance: WebhooksInstance;
  readonly kind: 'event' | 'image';
  /** Id of the event, or `seq` of the image. */
  readonly id: string;
  readonly reason: string;
}

/** A periodic chore has done a part of its work. */
export interface UpkeepMessage {
  readonly instance: WebhooksInstance;
  readonly chore: string;
  /** Numbers of deleted events and deliveries. */
  readonly deleted: { readonly events: number; readonly deliveries: number };
}

/** Work failed because of the database, or because of this machine's sockets (`sending`). The work is retried. */
export interface TroubleMessage {
  readonly instance: WebhooksInstance;
  readonly work: 'claiming' | 'converting' | 'polling' | 'recording' | 'releasing' | 'sending' | 'upkeep' | 'measuring';
}

/** A step has ended, with its database statements. */
export interface StepMessage {
  readonly instance: WebhooksInstance;
  /**
   * `capture`: the time that a transaction of the application spends on writing events. The other values: steps of the
   * dispatcher.
   */
  readonly step: 'capture' | 'route' | 'claim' | 'record' | 'convert';
  readonly durationMs: number;
}

/** The message of each channel, by the last part of its name. */
export interface WebhooksMessages {
  readonly captured: CapturedMessage;
  readonly routed: RoutedMessage;
  readonly attempts: AttemptsMessage;
  readonly discarded: DiscardedMessage;
  readonly listener: ListenerMessage;
  readonly damaged: DamagedMessage;
  readonly upkeep: UpkeepMessage;
  readonly trouble: TroubleMessage;
  readonly step: StepMessage;
}

/**
 * Names of the channels of `node:diagnostics_channel`. {@link WebhooksMessages} has the type of each channel's messages.
 *
 * One message is published for each batch, and only while the channel has a subscriber. Subscribers run synchronously,
 * in the middle of the work. They must be fast, and must not throw. `docs/observability.md` has an example.
 */
export const WEBHOOKS_CHANNELS = {
  captured: 'nestjs-entity-webhooks:captured',
  routed: 'nestjs-entity-webhooks:routed',
  attempts: 'nestjs-entity-webhooks:attempts',
  discarded: 'nestjs-entity-webhooks:discarded',
  listener: 'nestjs-entity-webhooks:listener',
  damaged: 'nestjs-entity-webhooks:damaged',
  upkeep: 'nestjs-entity-webhooks:upkeep',
  trouble: 'nestjs-entity-webhooks:trouble',
  step: 'nestjs-entity-webhooks:step',
} as const satisfies Record<keyof WebhooksMessages, string>;
