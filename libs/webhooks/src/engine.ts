import type { LoggerService } from '@nestjs/common';

// What an engine and the dispatcher know of each other. `nestjs-entity-webhooks/bullmq` implements an engine. Without an engine, the
// dispatcher searches the database for listeners that are ready.

/** A listener that must be checked at `readyAt`, in ms since 1970 by the clock of the database. */
export interface ReadyListener {
  readonly id: string;
  readonly readyAt: number;
  /** Orders listeners that are ready at the same time. */
  readonly seq: string;
}

/** The listeners to read, in pages. */
export interface ReadyPage {
  /** Only listeners that are ready by this time. Default: all listeners with pending work. */
  readonly until?: number;
  /** The last listener of the page before. Not together with `isNewestFirst`. */
  readonly after?: ReadyListener;
  readonly limit: number;
  /** Reads the listeners that became ready last. The first page of the usual order has those that have waited longest. */
  readonly isNewestFirst?: boolean;
}

/** What an engine may use of its dispatcher. */
export interface EngineHost {
  /** Equal for all processes that use the same webhook tables, and for no others. */
  readonly tablesKey: string;
  /** The number of slots: `dispatcher.concurrency`. */
  readonly concurrency: number;
  readonly logger: LoggerService;
  /** The time of the database, in ms since 1970. */
  now(): number;
  /** Reads when these listeners must be checked. Listeners without pending work have no entry. @throws errors of the database */
  readyAt(listenerIds: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Reads listeners with pending work. @throws errors of the database */
  readyListeners(page: ReadyPage): Promise<ReadyListener[]>;
  /**
   * Takes the next turn of work that only one process at a time should do.
   *
   * @returns `false` if some process has had its turn in the last `everyMs`
   * @throws errors of the database
   */
  takeTurn(everyMs: number): Promise<boolean>;
  /** Call this method when {@link Engine.take} has listeners, or when {@link Engine.isAvailable} has changed. */
  wake(): void;
}

/** A listener that an engine gives to the dispatcher of this process. */
export interface WaitingListener {
  readonly listenerId: string;
  /**
   * Called once: when half of the claimed deliveries are recorded or released, or at once if nothing could be claimed.
   *
   * @param claimed number of claimed deliveries
   */
  end(claimed: number): void;
}

/** Decides which listeners the dispatcher of one process claims, and when. */
export interface Engine {
  /** Whether the engine finds the ready listeners now. Otherwise the dispatcher searches the database. */
  readonly isAvailable: boolean;
  /** Whether {@link take} would return a listener. */
  readonly hasWaiting: boolean;
  /** Begins to give listeners to this process. */
  start(): void;
  /** Gives no more listeners to this process. Settles when the listeners that were given have ended. Never rejects. */
  stop(): Promise<void>;
  /** Removes and returns the next listeners that this process should claim. */
  take(limit: number): WaitingListener[];
  /** Call this method after a commit that changed when these listeners are ready. */
  changed(listenerIds: readonly string[]): void;
  /** Call this method after a commit that made listeners ready that the caller does not know. */
  search(): void;
  /** Closes the connections. Never rejects. */
  close(): Promise<void>;
}

/** The value of `dispatcher.engine`. One value may serve several instances of the module. */
export interface DispatcherEngine {
  /** Makes the engine of one instance of the module. Must not connect yet. */
  open(host: EngineHost): Engine;
}
