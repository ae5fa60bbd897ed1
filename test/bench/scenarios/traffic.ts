import type { Child, Programs } from '../child.js';
import { percentile } from '../measure.js';
import type { Traffic, Written } from '../programs/application.js';
import { WrongCount } from '../scenario.js';

const SECOND = 1000;
const ARRIVED_WITHIN_MS = 60 * SECOND;
const POLL_MS = 50;

/** From the commit of a write to the arrival of its webhook, in milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly writes: number;
  /** Writes committed per second, as measured. */
  readonly perSecond: number;
}

/** Writes at a fixed rate and waits for the webhook of each write. @throws WrongCount when a webhook does not arrive */
export async function latencyOf(
  writer: Child<Programs['application']>,
  receiver: Child<Programs['receiver']>,
  traffic: Traffic,
): Promise<Latency> {
  return latencyOfWritten(receiver, await writer.call('write', traffic));
}

/** Waits for the webhook of each write. @throws WrongCount when a webhook does not arrive */
export async function latencyOfWritten(
  receiver: Child<Programs['receiver']>,
  written: readonly Written[],
): Promise<Latency> {
  const arrived = await allArrived(receiver, written);
  const waits = written.map(({ committedAt }, i) => (arrived[i] ?? Number.NaN) - committedAt);
  const commits = written.map(({ committedAt }) => committedAt);
  const perSecond = (commits.length / (Math.max(...commits) - Math.min(...commits))) * SECOND;
  return { p50: percentile(waits, 50), p99: percentile(waits, 99), writes: written.length, perSecond };
}

async function allArrived(receiver: Child<Programs['receiver']>, written: readonly Written[]): Promise<number[]> {
  const keys = written.map(({ key }) => key);
  const deadline = performance.now() + ARRIVED_WITHIN_MS;
  for (;;) {
    const arrived = (await receiver.call('arrivedAt', keys)).filter((at) => at !== null);
    if (arrived.length === keys.length) return arrived;
    if (performance.now() > deadline) throw new WrongCount(`${arrived.length} of ${keys.length} webhooks arrived`);
    await pause(POLL_MS);
  }
}

/** Repeats a check until it succeeds. @throws when it does not succeed in time */
export async function until(
  what: string,
  timeoutMs: number,
  holds: () => Promise<boolean>,
  pollMs = POLL_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`Timeout after ${timeoutMs} ms: ${what}`);
    await pause(pollMs);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
