import { goodShare } from './demand.js';
import { FIGURES } from './figures.js';
import type { Workload } from './workload.js';

/** The engine that fits a workload, and why. */
export interface EngineChoice {
  readonly engine: 'database' | 'bullmq';
  readonly why: string;
}

/**
 * Chooses by the reasons of docs/bullmq.md. The engine saves searches of processes in the same index, and it is used by retries only: a delivery
 * that succeeds at once never touches Redis.
 */
export function engineFor(workload: Workload, processes: number): EngineChoice {
  const many = FIGURES.manyProcesses.value;
  const retried = listenersWithRetries(workload);
  if (processes < many) {
    const search = processes === 1 ? 'one process searches' : `${processes} processes search`;
    return { engine: 'database', why: `${search} for due deliveries; BullMQ helps from about ${many}` };
  }
  if (retried === 0) {
    return { engine: 'database', why: 'no receiver fails, and BullMQ is used by retries only' };
  }
  return {
    engine: 'bullmq',
    why: `${processes} processes search for the due deliveries of up to ${retried.toLocaleString('en-US')} listeners with retries; BullMQ gives each listener to one. It sends no more a second`,
  };
}

/** Listeners that have deliveries to retry at the same time: those that never succeed, and those of the outage. */
function listenersWithRetries(workload: Workload): number {
  const good = goodShare(workload);
  const out = workload.outageMs > 0 ? good * workload.outageShare : 0;
  return Math.round(workload.listeners * (1 - good + out));
}
