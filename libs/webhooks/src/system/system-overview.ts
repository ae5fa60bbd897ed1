/** A process whose dispatcher runs. */
export interface DispatcherProcess {
  /** `prc_` and a UUIDv7: a new one for each start of a dispatcher. */
  readonly id: string;
  readonly host: string;
  /** The version of this package. */
  readonly version: string;
  readonly startedAt: Date;
  /** When the process reported last: each 15 seconds. A process that died is listed for ten minutes. */
  readonly seenAt: Date;
  /** Number of requests in flight at that time. */
  readonly sending: number;
  /** The option `dispatcher.concurrency`. */
  readonly concurrency: number;
}

/** A listener that fails, in the overview. */
export interface FailingListenerSummary {
  readonly id: string;
  /** Without its query. */
  readonly url: string;
  readonly name: string | null;
  readonly owner: string | null;
  readonly state: string;
  readonly failuresInARow: number;
  readonly failingSince: Date | null;
  readonly pausedUntil: Date | null;
  readonly lastErrorCode: string | null;
}

/** The work of an instance, or of one owner. Each count ends at 10,000. */
export interface SystemOverview {
  /** Age of the oldest event that is not routed yet; 0: none. */
  readonly outboxLagMs: number;
  /** How long a listener waits that should have been served; 0: none. Includes the time that sending is paused. */
  readonly queueLagMs: number;
  /** Events that are not routed yet. */
  readonly pending: number;
  /** Deliveries that may be sent now. */
  readonly due: number;
  /** Deliveries that are sent later: retries, and deliveries to listeners that are paused. */
  readonly retrying: number;
  /** Deliveries whose listener is not active. */
  readonly held: number;
  /** Deliveries that were created in the last 24 hours and whose attempts all failed. */
  readonly exhausted24h: number;
  /** At most five listeners. The one that fails for the longest time comes first. */
  readonly failing: readonly FailingListenerSummary[];
  /** Disabled listeners. */
  readonly disabled: number;
  /** Whether an operator has paused all sending. */
  readonly paused: boolean;
  /** The pause; `null` if sending is not paused. An owner does not see the reason and the actor, which are for operators. */
  readonly pause: SendingPause | null;
  /** The processes whose dispatcher runs; empty for an owner. */
  readonly processes: readonly DispatcherProcess[];
}

/** A pause of all sending. */
export interface SendingPause {
  readonly since: Date;
  /** `null`: nobody gave a reason. */
  readonly reason: string | null;
  /** `null`: the application, which gave no name. */
  readonly actor: string | null;
}

/** The switch that pauses all sending. */
export interface Sending {
  readonly paused: boolean;
  /** Why sending is paused; `null` if nobody gave a reason. */
  readonly reason: string | null;
  /** When sending was paused or resumed last; `null`: never. */
  readonly since: Date | null;
  /** Who did it; `null`: the application, which gave no name. */
  readonly actor: string | null;
}

/** Periodic work that one process does at a time. */
export interface SystemChore {
  readonly name: string;
  /** When it is done next. */
  readonly dueAt: Date;
  readonly isRunning: boolean;
}

/** An event, or an image of a trigger, that could not be read. No event is sent for it. */
export interface DamagedItem {
  /** `evt_…`, or `img_` and the number of an image. */
  readonly id: string;
  readonly kind: 'event' | 'image';
  /** The event type, or the table of the image. */
  readonly name: string;
  /** Why it could not be read. */
  readonly reason: string | null;
  readonly createdAt: Date;
}
