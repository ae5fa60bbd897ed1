/** One connection that receives notifications. */
export interface ListeningConnection {
  /** Connects and subscribes. @throws Error if the server refuses */
  subscribe(): Promise<unknown>;
  /** Asks the server for an answer over this connection. @throws Error if the connection is lost */
  check(): Promise<unknown>;
  /** Ends the connection. Never rejects, and need not wait for the server. */
  close(): Promise<void>;
}

/** The events that a {@link ListeningConnection} reports. */
export interface ListeningEvents {
  readonly received: (payload: string) => void;
  /** Called with the first error. Later calls have no effect. */
  readonly lost: (error: Error) => void;
}

/**
 * How processes notify each other. A channel passes short texts on to every process that listens, stores none of them, and may lose some:
 * the poll finds the same work.
 */
export interface WakeUpChannel {
  /**
   * Minimum time between two notifications of a process. Commits within this time share one notification, because the receiver searches
   * for all pending work. So under load this time is the longest delay that a notification adds.
   */
  readonly pauseMs: number;
  /** Advice for the log and for `doctor` if the channel accepts notifications but does not pass them on. */
  readonly adviceIfSilent: string;
  /** @throws Error if the notification could not be sent */
  notify(payload: string): Promise<void>;
  /** Does not connect yet: see {@link ListeningConnection.subscribe}. */
  listen(events: ListeningEvents): ListeningConnection;
  /**
   * Ends the connection for notifications. The next notification opens a new one: a server that disappeared never answers, and TCP needs
   * about 15 minutes to detect that.
   */
  close(): void;
}
