import type { RetrySchedule, WebhooksOptions } from 'nestjs-entity-webhooks';

// The model behind `nestjs-entity-webhooks plan`. The package does not export it, so its types are repeated as far as the benchmark uses it.

export interface Behavior {
  readonly answerMs: number;
  readonly status: number;
}

/** The receiver of a listener; see `plan/simulation/receiver.ts` of the library. */
export interface Receiver {
  readonly behavior: Behavior;
  readonly outage?: { readonly from: number; readonly until: number; readonly behavior: Behavior };
}

type Costs = Readonly<Record<string, number>>;

/** What a simulation needs; see `plan/simulation/simulate.ts` of the library. */
export interface Simulation {
  readonly processes: number;
  readonly machine: { readonly databaseCores: number; readonly isShared: boolean; readonly speed: number };
  readonly costs: EngineCosts;
  readonly options: object;
  readonly retrySchedule: RetrySchedule;
  readonly arrivals: { readonly backlog: number; readonly perSecond: number; readonly forMs: number };
  readonly receivers: readonly Receiver[];
  readonly route: (n: number) => readonly number[];
  readonly noticeMs: number;
  readonly untilMs: number;
}

interface EngineCosts {
  readonly sender: Costs;
  readonly database: Costs;
  readonly roundTripMs: number;
  readonly receiverUs: number;
}

/** What a simulation observed. */
export interface Simulated {
  readonly lastSuccessAt: number;
  readonly senderCpuUs: number;
  readonly databaseCpuUs: number;
  readonly failed: number;
  /** Unfinished events and deliveries, one number for each second. */
  readonly backlog: readonly number[];
}

export interface Model {
  readonly FIGURES: Readonly<Record<'directSenderUs' | 'directDatabaseUs', { readonly value: number }>>;
  engineCosts(): EngineCosts;
  simulate(simulation: Simulation): Simulated;
  options(dispatcher?: WebhooksOptions['dispatcher']): object;
  schedule(delaysMs: readonly number[]): RetrySchedule;
}

/** Multiplies CPU times, for example because this machine is slower than the one of the figures. */
export function scaled(costs: Costs, factor: number): Costs {
  return Object.fromEntries(Object.entries(costs).map(([step, us]) => [step, us * factor]));
}

/** Loads the model from the built library. */
export async function loadModel(): Promise<Model> {
  const load = (file: string): Promise<unknown> =>
    import(new URL(file, import.meta.resolve('nestjs-entity-webhooks')).href);
  const { FIGURES } = (await load('./plan/figures.js')) as Model;
  const { engineCosts } = (await load('./plan/engine-costs.js')) as Model;
  const { simulate } = (await load('./plan/simulation/simulate.js')) as Model;
  const { resolveOptions } = (await load('./options/resolve-options.js')) as {
    resolveOptions: (options: WebhooksOptions) => { dispatcher: object };
  };
  return {
    ...{ FIGURES, engineCosts, simulate },
    options: (dispatcher = {}) => resolveOptions({ dispatcher }).dispatcher,
    schedule: (delaysMs) => ({ delayMs: (failures: number) => delaysMs[failures - 1] ?? null }),
  };
}
