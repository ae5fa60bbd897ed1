import { DAY, HOUR, SECOND } from '../time.js';

/** What a user expects of a system. Times are in ms, shares from 0 to 1. */
export interface Workload {
  readonly eventsPerSecond: number;
  readonly listeners: number;
  /** Listeners that an event matches, on average. */
  readonly fanOut: number;
  readonly payloadBytes: number;
  /** The busiest seconds have this many times the events of the average. */
  readonly burst: number;
  /** Time until a receiver answers. */
  readonly answerMs: number;
  /** Share of the listeners whose receivers need {@link slowAnswerMs}. */
  readonly slow: number;
  readonly slowAnswerMs: number;
  /** Share of the listeners whose receivers always answer with an error. */
  readonly failing: number;
  /** Share of the listeners whose receivers never answer. */
  readonly silent: number;
  /** How long the receivers of {@link outageShare} of the listeners are out, together. 0: no outage. */
  readonly outageMs: number;
  readonly outageShare: number;
  /** How long events and succeeded deliveries are kept. */
  readonly retentionMs: number;
  /** Cores of the database that exist; `null`: as many as needed. */
  readonly databaseCores: number | null;
  /** `dispatcher.concurrency`; `null`: as many slots as needed. */
  readonly concurrency: number | null;
}

/** What is planned unless the user says otherwise. Shares of bad receivers are assumptions. */
export const USUAL_WORKLOAD = {
  ...{ fanOut: 1, payloadBytes: 1_024, burst: 1 },
  ...{ answerMs: 100, slow: 0.01, slowAnswerMs: 5 * SECOND, failing: 0.01, silent: 0.001 },
  ...{ outageMs: 6 * HOUR, outageShare: 0.1, retentionMs: 30 * DAY, databaseCores: null, concurrency: null },
} as const satisfies Partial<Workload>;
