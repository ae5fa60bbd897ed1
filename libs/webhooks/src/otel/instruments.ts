import type { Counter, Histogram, Meter } from '@opentelemetry/api';

const SECONDS_OF_REQUESTS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 30];
/** Buckets from a millisecond to a day, because a delivery may wait for days. */
const SECONDS_OF_WAITS = [0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 43_200, 86_400];
const SECONDS_OF_STEPS = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const BYTES = [256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304];

/** The instruments whose values come from messages. The gauges of the database are in `backlog-gauges.ts`. */
export interface Instruments {
  readonly events: Counter;
  readonly deliveriesCreated: Counter;
  readonly deliveriesFinished: Counter;
  readonly attemptDuration: Histogram;
  readonly deliveryWait: Histogram;
  readonly deliveryAge: Histogram;
  readonly stepDuration: Histogram;
  readonly captureDuration: Histogram;
  readonly payloadSize: Histogram;
  readonly payloadTruncated: Counter;
  readonly circuitOpened: Counter;
  readonly listenerDisabled: Counter;
  readonly damaged: Counter;
  readonly databaseErrors: Counter;
  readonly upkeepDeleted: Counter;
}

/** Creates the instruments. As the naming rules of OpenTelemetry say, names do not contain "total", and units are in UCUM. */
export function createInstruments(meter: Meter): Instruments {
  const counter = (name: string, unit: string, description: string) => meter.createCounter(name, { unit, description });
  const histogram = (name: string, unit: string, explicitBucketBoundaries: number[], description: string) =>
    meter.createHistogram(name, { unit, description, advice: { explicitBucketBoundaries } });
  return {
    events: counter('webhooks.events', '{event}', 'Events that were stored and committed'),
    deliveriesCreated: counter('webhooks.deliveries.created', '{delivery}', 'Deliveries that were created'),
    deliveriesFinished: counter('webhooks.deliveries.finished', '{delivery}', 'Deliveries that reached a final state'),
    attemptDuration: histogram('webhooks.attempt.duration', 's', SECONDS_OF_REQUESTS, 'Duration of requests'),
    deliveryWait: histogram('webhooks.delivery.wait', 's', SECONDS_OF_WAITS, 'From an event to its first attempt'),
    deliveryAge: histogram('webhooks.delivery.age', 's', SECONDS_OF_WAITS, 'From an event to its accepted attempt'),
    stepDuration: histogram('webhooks.dispatcher.step.duration', 's', SECONDS_OF_STEPS, 'Duration of a step'),
    captureDuration: histogram(
      'webhooks.capture.duration',
      's',
      SECONDS_OF_STEPS,
      'What writing events adds to a transaction',
    ),
    payloadSize: histogram('webhooks.payload.size', 'By', BYTES, 'Size of payloads'),
    payloadTruncated: counter('webhooks.payload.truncated', '{event}', 'Events whose payload lacks fields'),
    circuitOpened: counter('webhooks.circuit.opened', '{listener}', 'Circuits that opened'),
    listenerDisabled: counter('webhooks.listener.disabled', '{listener}', 'Listeners that were disabled'),
    damaged: counter('webhooks.damaged', '{event}', 'Events and images that were marked as damaged'),
    databaseErrors: counter('webhooks.database.errors', '{error}', 'Failures of the database that are retried'),
    upkeepDeleted: counter('webhooks.upkeep.deleted', '{row}', 'Old events and deliveries that were deleted'),
  };
}
