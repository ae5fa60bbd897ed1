/** A process whose dispatcher runs. */
export interface DispatcherProcess {
  /** `prc_` and a UUIDv7: a new one for each start of a dispatcher. */
  readonly id: string;
  readonly host: string;
  /** The version of this package. */
  readonly version: string;
  readonly startedAt: Date;
  /** When the process last reported. It reports every 15 seconds. A process that died is listed for ten minutes. */
  readonly seenAt: Date;
  /** Number of requests in flight at that time. */
  readonly sending: number;
  /** The option `dispatcher.concurrency`. */
  readonly concurrency: number;
}

/** A failing listener in the overview. */
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

/** The pending work of an instance, or of one owner. Each count stops at 10,000. */
export interface SystemOverview {
  /** Age of the oldest event that is not routed yet; 0 if there is none. */
  readonly outboxLagMs: number;
  /**
   * How long ago the listener that waits longest should have been served; 0 if no listener waits. Includes the time during which sending is
   * paused.
   */
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
  /** At most five listeners. The listener that has been failing longest comes first. */
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
  /** The reason for the pause; `null` if none was given. */
  readonly reason: string | null;
  /** When sending was last paused or resumed; `null`: never. */
  readonly since: Date | null;
  /** Who did it; `null` if the application gave no name. */
  readonly actor: string | null;
}

/** Periodic work that one process does at a time. */
export interface SystemChore {
  readonly name: string;
  /** When the chore is due next. */
  readonly dueAt: Date;
  readonly isRunning: boolean;
}

/** A damaged event, or a damaged image of a trigger. Nothing is sent for it. */
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
