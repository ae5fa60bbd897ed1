import type { Attributes, Meter, Observable, ObservableResult } from '@opentelemetry/api';
import type { DispatcherActivity } from '../dispatcher/dispatcher.service.js';
import type { Backlog } from '../store/queue/read-backlog.js';

const MS_PER_SECOND = 1_000;

/** The sources of the gauges' values. */
export interface GaugeSources {
  /** The last backlog that this process read; `null` if this process has never read the backlog. */
  readonly backlog: () => Backlog | null;
  /** Whether this process is the process that reads the backlog, and can read the backlog. */
  readonly isReading: () => boolean;
  readonly activity: () => DispatcherActivity;
}

/** Adds the gauges. @returns a function that removes their callbacks */
export function addGauges(meter: Meter, common: Attributes, sources: GaugeSources): () => void {
  const ends = [...backlogGauges(meter, common, sources), ...slotGauges(meter, common, sources)];
  return () => {
    for (const end of ends) end();
  };
}

function* backlogGauges(meter: Meter, common: Attributes, { backlog, isReading }: GaugeSources): Generator<() => void> {
  const gauge = (name: string, description: string) => meter.createObservableGauge(name, { unit: 's', description });
  const count = (name: string, unit: string, description: string) =>
    meter.createObservableUpDownCounter(name, { unit, description });
  const observed = (one: Observable, observe: (result: ObservableResult, latest: Backlog) => void) =>
    observing(one, (result) => {
      const latest = backlog();
      if (latest) observe(result, latest);
    });
  yield observing(count('webhooks.backlog.readers', '{process}', '1 in the process that reads the backlog'), (result) =>
    result.observe(isReading() ? 1 : 0, common),
  );
  yield observed(gauge('webhooks.outbox.lag', 'Age of the oldest event that is not routed'), (result, latest) =>
    result.observe(latest.outboxLagMs / MS_PER_SECOND, common),
  );
  yield observed(gauge('webhooks.queue.lag', 'How late the oldest due delivery is'), (result, latest) =>
    result.observe(latest.queueLagMs / MS_PER_SECOND, common),
  );
  yield observed(count('webhooks.sending.paused', '{instance}', '1 while sending is paused'), (result, latest) =>
    result.observe(latest.isPaused ? 1 : 0, common),
  );
  yield observed(count('webhooks.outbox.pending', '{event}', 'Events that are not routed, up to 10,000'), (result, l) =>
    result.observe(l.pending, common),
  );
  yield observed(
    count('webhooks.deliveries.waiting', '{delivery}', 'Deliveries that wait, up to 10,000'),
    (result, { waiting }) => observeEach(result, waiting, common, 'webhooks.wait.reason'),
  );
  yield observed(
    count('webhooks.listeners', '{listener}', 'Listeners by state, up to 10,000'),
    (result, { listeners }) => observeEach(result, listeners, common, 'webhooks.listener.state'),
  );
}

function* slotGauges(meter: Meter, common: Attributes, { activity }: GaugeSources): Generator<() => void> {
  const count = (name: string, description: string) =>
    meter.createObservableUpDownCounter(name, { unit: '{request}', description });
  yield observing(count('webhooks.dispatcher.slots.used', 'Requests in flight'), (result) =>
    result.observe(activity().slotsUsed, common),
  );
  yield observing(count('webhooks.dispatcher.slots.limit', 'Requests that may be in flight'), (result) => {
    const { isRunning, slotsLimit } = activity();
    result.observe(isRunning ? slotsLimit : 0, common);
  });
}

function observing(one: Observable, observe: (result: ObservableResult) => void): () => void {
  one.addCallback(observe);
  return () => one.removeCallback(observe);
}

function observeEach(
  result: ObservableResult,
  counts: Readonly<Record<string, number>>,
  common: Attributes,
  name: string,
): void {
  for (const [value, number] of Object.entries(counts)) result.observe(number, { ...common, [name]: value });
}
