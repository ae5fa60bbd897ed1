import type { EngineChoice } from './engine-choice.js';
import { FIGURES } from './figures.js';

/** A step of docs/scaling.md, and why to take it. */
export interface Advice {
  /** The heading of the step in docs/scaling.md. */
  readonly step: string;
  readonly why: string;
}

/** The numbers that the advice rests on. */
export interface AdviceInput {
  readonly eventsPerDay: number;
  readonly processes: number;
  readonly concurrency: number;
  /** The default of `dispatcher.concurrency`. */
  readonly usualConcurrency: number;
  readonly senderCores: number;
  readonly connections: number;
  readonly diskBytes: number;
  readonly databases: number;
  readonly engine: EngineChoice;
}

const TERABYTE = 1e12;
/** `max_connections` of PostgreSQL. */
const USUAL_CONNECTIONS = 100;

/** Each rule gives the reason for its step, or `null` if the step is not needed. */
const RULES: readonly (readonly [step: string, reason: (input: AdviceInput) => string | null])[] = [
  ['1. One process', ({ processes }) => (processes === 1 ? 'one process has room for this rate' : null)],
  [
    '2. More slots',
    ({ concurrency, usualConcurrency }) =>
      concurrency > usualConcurrency
        ? `receivers are slow: set dispatcher.concurrency to ${concurrency} in each process`
        : null,
  ],
  [
    '3. More processes',
    ({ processes }) => (processes > 1 ? `${processes} processes share the work; each may use a core` : null),
  ],
  [
    '4. Worker processes',
    ({ senderCores }) =>
      senderCores > FIGURES.senderShare.value / 2
        ? `sending takes ${senderCores.toFixed(1)} cores, which requests of your users would miss`
        : null,
  ],
  [
    '5. Wake-ups through Redis',
    ({ processes }) =>
      processes > 1 ? 'on MySQL, MariaDB or SQLite, processes find the commits of others once in a second' : null,
  ],
  [
    '6. PgBouncer',
    ({ connections }) =>
      connections > USUAL_CONNECTIONS ? `${connections} connections; PostgreSQL allows 100 by default` : null,
  ],
  [
    '7. A shorter retention',
    ({ diskBytes, eventsPerDay }) => {
      if (diskBytes > TERABYTE)
        return `the tables grow to ${(diskBytes / TERABYTE).toFixed(1)} TB; partitions by day drop old days`;
      if (eventsPerDay > FIGURES.partitionedEventsPerDay.value)
        return 'partitions by day: there are millions of events a day';
      return null;
    },
  ],
  [
    '8. More databases',
    ({ databases }) => (databases > 1 ? `one database is not enough: divide the owners among ${databases}` : null),
  ],
  ['9. BullMQ', ({ engine }) => (engine.engine === 'bullmq' ? engine.why : null)],
];

/** The steps that a workload needs, in the order of docs/scaling.md. */
export function adviceFor(input: AdviceInput): Advice[] {
  return RULES.flatMap(([step, reason]) => {
    const why = reason(input);
    return why === null ? [] : [{ step, why }];
  });
}
