import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import { DAY, SECOND } from '../time.js';
import { FIGURES } from './figures.js';
import type { Workload } from './workload.js';

/** What a workload needs each second, in the mean or at its peak. CPU times are in microseconds. */
export interface Demand {
  readonly deliveries: number;
  readonly attempts: number;
  readonly senderUs: number;
  readonly databaseUs: number;
  /** The part of {@link databaseUs} that no dispatcher causes: inserts of events, and retention. */
  readonly outsideUs: number;
  readonly rowWrites: number;
  readonly logBytes: number;
  /** Slots in use. */
  readonly slots: number;
}

const US = 1e6;

/** Share of the listeners to which deliveries succeed. */
export function goodShare({ failing, silent }: Workload): number {
  return Math.max(0, 1 - failing - silent);
}

/**
 * Events and deliveries of one second. The circuit of a receiver that fails for long is open: its deliveries are stored and wait, and each
 * `maxCooldownMs` one of them is a probe.
 *
 * @param burst multiplies the events
 */
export function demandOf(workload: Workload, options: ResolvedWebhooksOptions['dispatcher'], burst: number): Demand {
  const f = FIGURES;
  const events = workload.eventsPerSecond * burst;
  const deliveries = events * workload.fanOut;
  const direct = deliveries * goodShare(workload);
  const stored = deliveries - direct;
  const bad = workload.listeners * (workload.failing + workload.silent);
  // A listener without deliveries has no probes.
  const probes = Math.min(stored, (bad * SECOND) / options.circuit.maxCooldownMs);
  // In the long run, retention deletes as many rows as are inserted.
  const deleted = workload.eventsPerSecond * (1 + workload.fanOut);
  const morePayload = workload.payloadBytes - f.payloadBytes.value;
  const outsideUs = events * f.eventDatabaseUs.value + deleted * f.deletedDatabaseUs.value;
  return {
    ...{ deliveries, attempts: direct + probes },
    senderUs: direct * f.directSenderUs.value + stored * f.storedSenderUs.value + probes * f.claimedSenderUs.value,
    outsideUs,
    databaseUs:
      outsideUs +
      direct * f.directDatabaseUs.value +
      stored * f.storedDatabaseUs.value +
      probes * f.claimedDatabaseUs.value,
    rowWrites:
      events * f.eventRowWrites.value +
      direct * f.directRowWrites.value +
      stored * f.storedRowWrites.value +
      probes * f.claimedRowWrites.value +
      deleted,
    logBytes:
      events * (f.eventLogBytes.value + morePayload) +
      direct * f.directLogBytes.value +
      stored * f.storedLogBytes.value +
      probes * f.claimedLogBytes.value +
      deleted * f.deletedLogBytes.value,
    slots: slotsOf(workload, { direct, probes }, options.timeoutMs),
  };
}

function slotsOf(
  { answerMs, slow, slowAnswerMs, failing, silent }: Workload,
  { direct, probes }: { direct: number; probes: number },
  timeoutMs: number,
): number {
  const slowPart = slow / Math.max(slow, 1 - failing - silent);
  const silentPart = silent / Math.max(failing + silent, 1e-9);
  const ms =
    direct * (slowPart * slowAnswerMs + (1 - slowPart) * answerMs) +
    probes * (silentPart * timeoutMs + (1 - silentPart) * answerMs);
  return ms / SECOND;
}

/** Disk of the tables when retention deletes as much as is inserted, in bytes. */
export function diskOf(workload: Workload, failedRetentionMs: number): number {
  const { eventsPerSecond, fanOut, payloadBytes, retentionMs } = workload;
  const f = FIGURES;
  const bytesOfEvent = f.eventBytes.value - f.payloadBytes.value + payloadBytes;
  const deliveries = eventsPerSecond * fanOut;
  const kept = retentionMs / SECOND;
  const keptFailed = Math.max(retentionMs, failedRetentionMs) / SECOND;
  const good = goodShare(workload);
  return (
    eventsPerSecond * bytesOfEvent * kept + deliveries * f.deliveryBytes.value * (good * kept + (1 - good) * keptFailed)
  );
}

/** Events of a day. */
export function eventsPerDay({ eventsPerSecond }: Workload): number {
  return (eventsPerSecond * DAY) / SECOND;
}

/** CPU microseconds of a second as cores. */
export function coresOf(us: number): number {
  return us / US;
}
