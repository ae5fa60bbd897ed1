import type { WebhooksOptions } from 'nestjs-entity-webhooks';
import type { Child, Programs } from '../child.js';
import { costMeter, type DatabaseCost } from '../database-cost.js';
import { monotonicMs, rate, type Measurement } from '../measure.js';
import { expectCount, type Bench, type Size } from '../scenario.js';
import { until } from './traffic.js';

const MINUTE = 60 * 1000;

/** Concurrency of the alternatives, equal to the default of the library. */
export const CONCURRENCY = 64;
/**
 * Deliveries before the clock starts, for every program that is compared, because a real process runs for weeks and
 * is warm.
 */
export const WARM_UP: Readonly<Record<Size, number>> = { short: 200, usual: 10_000, full: 10_000 };
const DRAINED_WITHIN_MS = 20 * MINUTE;
/** How often to query the receiver and the tables whether the backlog is empty. */
const POLL_MS = 10;

/** Options that every scenario changes. */
export const CHANGED_OPTIONS = {
  'security.allowedAddresses': 'loopback',
  'security.allowHttp': true,
  'dispatcher.autoStart': 'false until the backlog stands',
};

export interface Backlog {
  readonly events: number;
  readonly listeners: number;
  readonly webhooks?: WebhooksOptions;
  readonly isIntercepted?: boolean;
  /**
   * Starts an activity that runs while the backlog is drained. @param url of the database @returns a function that
   * ends the activity
   */
  readonly during?: (url: string) => Promise<() => Promise<void>>;
}

/** One tenth of a backlog, as the receiver got it. */
export interface Tenth {
  readonly perSecond: number;
  /** The largest resident size of the sending process during it. */
  readonly rssMb: number;
}

/** The processes: one sends, one receives, and one that does neither queries the tables. */
export interface Parties {
  readonly worker: Child<Programs['application']>;
  readonly writer: Child<Programs['application']>;
  readonly receiver: Child<Programs['receiver']>;
}

/** The costs of a delivery, as ratios of a result. */
export function costsOf({ cost, cpuUs }: Pick<Drained, 'cost' | 'cpuUs'>): Record<string, number> {
  return { ...cost, cpuUs };
}

export interface Drained extends Measurement {
  readonly perSecond: number;
  readonly tenths: readonly Tenth[];
  readonly cost: DatabaseCost | null;
}

/**
 * Stores a backlog of events, each for exactly one of the listeners, in one process and drains it in another. Checks
 * the result to the last row.
 *
 * @returns the speed, over all and by tenths of the backlog
 */
export async function drainBacklog(bench: Bench, backlog: Backlog): Promise<Drained> {
  const { events, listeners, webhooks = {}, isIntercepted = false, during } = backlog;
  const database = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application');
  await writer.call('open', { database, synchronize: true });
  await writer.call('addListeners', url, listeners);
  const meter = await costMeter(database);
  const worker = bench.start('application', true);
  await worker.call('open', { database, webhooks, isIntercepted });

  const warmUp = WARM_UP[bench.size];
  await writer.call('fill', warmUp, listeners);
  await drainAll({ worker, writer, receiver }, warmUp);
  await receiver.call('reset');
  await writer.call('fill', events, listeners);
  const end = await during?.((database as { url?: string }).url ?? '');
  await meter?.begin();
  const measurement = await drainAll({ worker, writer, receiver }, events);
  await meter?.end();
  await end?.();
  await worker.stop();
  const cost = (await meter?.cost(events)) ?? null;
  await meter?.close();

  await expectDelivered(writer, receiver, { received: events, stored: warmUp + events });
  await bench.end();
  return { ...measurement, perSecond: rate(measurement), cost };
}

/**
 * Measures from the start of the dispatcher until `count` requests were received and recorded. It measures from
 * outside, so that the measured process counts nothing.
 */
export async function drainAll(
  { worker, writer, receiver }: Parties,
  count: number,
): Promise<Measurement & { tenths: Tenth[] }> {
  const tenth = Math.ceil(count / 10);
  const tenths: Tenth[] = [];
  await worker.call('largestRss');
  const startedAt = monotonicMs();
  let began = startedAt;
  await worker.call('start');
  let received = 0;
  const isReceived = async (): Promise<boolean> => {
    received = (await receiver.call('received')).requests;
    if (received < Math.min(tenth * (tenths.length + 1), count)) return false;
    const now = monotonicMs();
    tenths.push({ perSecond: (tenth / (now - began)) * 1_000, rssMb: await worker.call('largestRss') });
    began = now;
    return received >= count;
  };
  await until(`${count} requests are received`, DRAINED_WITHIN_MS, isReceived, POLL_MS);
  await until('each is recorded', DRAINED_WITHIN_MS, async () => !(await writer.call('isUnfinished')), POLL_MS);
  const seconds = (monotonicMs() - startedAt) / 1_000;
  const cpuUs = (await worker.call('halt')) / count;
  return { count, seconds, cpuUs, tenths };
}

/** Checks that each delivery succeeded, with one attempt in the log, and was received once. @throws WrongCount */
export async function expectDelivered(
  application: Child<Programs['application']>,
  receiver: Child<Programs['receiver']>,
  expected: { received: number; stored: number },
): Promise<void> {
  const { requests, unique } = await receiver.call('received');
  expectCount('requests received', requests, expected.received);
  expectCount('different ids received', unique, expected.received);
  const { deliveries, attempts } = await application.call('stored');
  expectCount('deliveries succeeded', deliveries.succeeded, expected.stored);
  expectCount('attempts in the log', attempts, expected.stored);
}
