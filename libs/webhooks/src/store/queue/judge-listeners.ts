import { afterAttempts, isOpen, type CircuitPolicy, type HealthSign } from '../../health/circuit.js';
import { outagesOf } from '../../health/outage.js';
import type { ListenerState } from '../../health/listener-state.js';
import { STATUS_GONE } from '../../health/next-state.js';
import type { Database } from '../database/database.js';
import type { Script } from '../database/script.js';
import { disableListener } from '../listeners/listener-rows.js';
import {
  lockListenerStates,
  nextDueOf,
  readyFrom,
  refreshReadyAt,
  writeListenerStates,
} from '../listeners/listener-state.js';
import type { AttemptRecord, RecordResult } from './attempt-record.js';

const DISABLED_BY_410 = 'the endpoint answered 410 Gone';

/** Whether the state of its listener must be read. */
export function touchesListener({ outcome, wasFailing, delivery }: AttemptRecord): boolean {
  return outcome !== 'accepted' || wasFailing || delivery.isOrdered;
}

/**
 * Writes what the results of attempts say of their listeners: the state of their circuit, when they are ready, and which are disabled.
 *
 * @returns what changed, for the dispatcher and for the lifecycle events
 */
export function* judgeListeners(
  database: Database,
  records: readonly AttemptRecord[],
  now: number,
  circuit: CircuitPolicy,
): Script<Omit<RecordResult, 'moved'>> {
  if (records.every((r) => !touchesListener(r))) return { paused: new Set(), disabled: [], outages: [], opened: [] };
  const { signs, changing, freed, gone } = resultsOf(records);
  const judged: Judgement[] = [];
  if (changing.size) {
    const states = yield* lockListenerStates(database, [...changing]);
    const next = yield* nextDueOf(database, [...changing]);
    // Attempts at the previous URL give no information about the new URL, whose handshake is pending.
    for (const { listenerId, handshakeAt } of states) if (handshakeAt !== null) gone.delete(listenerId);
    for (const before of states) {
      if (before.handshakeAt !== null) continue;
      judged.push({ before, ...afterAttempts(before, signs.get(before.listenerId) ?? [], now, circuit) });
    }
    yield* writeListenerStates(
      database,
      judged.map(({ state }) => ({ ...state, readyAt: readyFrom(next.get(state.listenerId), state.pausedUntil) })),
    );
  }
  if (freed.size) yield* refreshReadyAt(database, [...freed]);
  const disabled = yield* disableListeners(database, reasonsOf(gone, judged, now), now);
  return { disabled, ...changesOf(judged, now, circuit) };
}

/** What the results say, by listener. */
interface Results {
  readonly signs: ReadonlyMap<string, HealthSign[]>;
  /** The listeners whose state may change. */
  readonly changing: ReadonlySet<string>;
  /** The others whose next delivery of the same row may be sent now. */
  readonly freed: ReadonlySet<string>;
  /** The listeners whose endpoint answered 410. */
  readonly gone: Set<string>;
}

function resultsOf(records: readonly AttemptRecord[]): Results {
  const signs = new Map<string, HealthSign[]>();
  const changing = new Set<string>();
  const ordered = new Set<string>();
  const gone = new Set<string>();
  for (const { delivery, status, retryAfterMs, startedAt: at, outcome, wasFailing } of records) {
    const listenerId = delivery.listener.id;
    const accepted = outcome === 'accepted';
    if (status === STATUS_GONE) gone.add(listenerId);
    if (delivery.isOrdered) ordered.add(listenerId);
    if (wasFailing || !accepted) changing.add(listenerId);
    const listenerSigns = signs.get(listenerId) ?? [];
    listenerSigns.push({ accepted, status, retryAfterMs, at });
    signs.set(listenerId, listenerSigns);
  }
  return { signs, changing, gone, freed: new Set([...ordered].filter((id) => !changing.has(id))) };
}

/** The state of a listener before and after its attempts. */
interface Judgement extends ReturnType<typeof afterAttempts> {
  readonly before: ListenerState;
}

function changesOf(
  judged: readonly Judgement[],
  now: number,
  circuit: CircuitPolicy,
): Pick<RecordResult, 'paused' | 'outages' | 'opened'> {
  const paused = new Set<string>();
  const opened: { listenerId: string; failuresInARow: number; pausedUntil: number }[] = [];
  for (const { before, state } of judged) {
    const { listenerId, failuresInARow, pausedUntil } = state;
    if (!isOpen(before.failuresInARow, circuit) && isOpen(failuresInARow, circuit)) {
      opened.push({ listenerId, failuresInARow, pausedUntil: pausedUntil ?? now });
    }
    if (pausedUntil !== null && pausedUntil > now) paused.add(listenerId);
  }
  return { paused, opened, outages: judged.flatMap(({ before, state }) => outagesOf(before, state, now, circuit)) };
}

/** Why listeners must be disabled. */
type Reason = RecordResult['disabled'][number];

function reasonsOf(gone: ReadonlySet<string>, judged: readonly Judgement[], now: number): Reason[] {
  const expired = judged.filter(({ isExpired }) => isExpired).map(({ state }) => state);
  return [
    ...[...gone].map((listenerId) => ({ listenerId, reason: DISABLED_BY_410 })),
    ...expired.map(({ listenerId, failingSince }) => ({
      listenerId,
      reason: `every attempt has failed since ${new Date(failingSince ?? now).toISOString()}`,
    })),
  ];
}

/** @returns those that were not disabled before */
function* disableListeners(database: Database, reasons: readonly Reason[], now: number): Script<Reason[]> {
  const disabled: Reason[] = [];
  // In the order of the ids, so that processes which disable the same listeners do not deadlock.
  for (const { listenerId, reason } of reasons.toSorted((a, b) => (a.listenerId < b.listenerId ? -1 : 1))) {
    if (yield* disableListener(database, listenerId, reason, now)) disabled.push({ listenerId, reason });
  }
  return disabled;
}
