import type { WebhooksOptions } from 'nestjs-entity-webhooks';
import type { Child, Programs } from '../child.js';
import { rate, type Measurement } from '../measure.js';
import type { Tenth } from '../programs/application.js';
import { expectCount, type Bench, type Size } from '../scenario.js';

const MINUTE = 60 * 1000;

/** Of the comparators; the default of the library. */
export const CONCURRENCY = 64;
/** Deliveries made before the clock starts, by everything that is compared: a process that runs for weeks is warm. */
export const WARM_UP: Readonly<Record<Size, number>> = { short: 200, usual: 10_000, full: 10_000 };
const DRAINED_WITHIN_MS = 20 * MINUTE;

/** What every scenario changes of the library's options. */
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
  /** Begins something that goes on while the backlog is drained. @param url of the database @returns what ends it */
  readonly during?: (url: string) => Promise<() => Promise<void>>;
}

export interface Drained extends Measurement {
  readonly perSecond: number;
  readonly tenths: readonly Tenth[];
}

/**
 * A backlog of events, each for exactly one of the listeners, stored by one process and drained by another; checked to the
 * last row.
 *
 * @returns how fast, over all and by tenths of the backlog
 */
export async function drainBacklog(bench: Bench, backlog: Backlog): Promise<Drained> {
  const { events, listeners, webhooks = {}, isIntercepted = false, during } = backlog;
  const database = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application');
  await writer.call('open', { database, synchronize: true });
  await writer.call('addListeners', url, listeners);
  const worker = bench.start('application', true);
  await worker.call('open', { database, webhooks, isIntercepted });

  const warmUp = WARM_UP[bench.size];
  await writer.call('fill', warmUp, listeners);
  await worker.call('drain', warmUp, DRAINED_WITHIN_MS);
  await receiver.call('reset');
  await writer.call('fill', events, listeners);
  const end = await during?.((database as { url?: string }).url ?? '');
  const measurement = await worker.call('drain', events, DRAINED_WITHIN_MS);
  await end?.();

  await expectDelivered(writer, receiver, { received: events, stored: warmUp + events });
  await bench.end();
  return { ...measurement, perSecond: rate(measurement) };
}

/** Each delivery succeeded, with one attempt in the log, and was received once. @throws WrongCount */
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
