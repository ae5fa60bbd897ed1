import { afterAttempts, isOpen, type CircuitPolicy, type HealthSign } from '../../health/circuit.js';
import { outagesOf, type Outage } from '../../health/outage.js';
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

export function* judgeListeners(
  database: Database,
  records: readonly AttemptRecord[],
  now: number,
  circuit: CircuitPolicy,
): Script<Omit<RecordResult, 'moved'>> {
  if (records.every((r) => !touchesListener(r))) return { paused: new Set(), disabled: [], outages: [], opened: [] };
  const signs = new Map<string, HealthSign[]>();
  // The next delivery of the same row may be sent now.
  const freed = new Set<string>();
  const gone = new Set<string>();
  for (const record of records) {
    const { delivery, status, retryAfterMs, startedAt: at } = record;
    const listenerId = delivery.listener.id;
    if (status === STATUS_GONE) gone.add(listenerId);
    if (delivery.isOrdered) freed.add(listenerId);
    const accepted = record.outcome === 'accepted';
    const listenerSigns = signs.get(listenerId);
    if (listenerSigns) listenerSigns.push({ accepted, status, retryAfterMs, at });
    else signs.set(listenerId, [{ accepted, status, retryAfterMs, at }]);
  }
  const changing = new Set(
    records.filter((r) => r.wasFailing || r.outcome !== 'accepted').map(({ delivery }) => delivery.listener.id),
  );
  const paused = new Set<string>();
  const expired = new Map<string, number>();
  const opened: { listenerId: string; failuresInARow: number; pausedUntil: number }[] = [];
  const outages: Outage[] = [];
  if (changing.size) {
    const states = yield* lockListenerStates(database, [...changing]);
    const next = yield* nextDueOf(database, [...changing]);
    // Attempts at the previous URL give no information about the new URL, whose handshake is pending.
    for (const { listenerId, handshakeAt } of states) if (handshakeAt !== null) gone.delete(listenerId);
    const judged = states.filter(({ handshakeAt }) => handshakeAt === null);
    const after = judged.map((before) => {
      const { state, isExpired } = afterAttempts(before, signs.get(before.listenerId) ?? [], now, circuit);
      const { listenerId, failuresInARow, pausedUntil } = state;
      if (!isOpen(before.failuresInARow, circuit) && isOpen(failuresInARow, circuit)) {
        opened.push({ listenerId, failuresInARow, pausedUntil: pausedUntil ?? now });
      }
      outages.push(...outagesOf(before, state, now, circuit));
      if (isExpired) expired.set(state.listenerId, state.failingSince ?? now);
      if (state.pausedUntil !== null && state.pausedUntil > now) paused.add(state.listenerId);
      return { ...state, readyAt: readyFrom(next.get(state.listenerId), state.pausedUntil) };
    });
    yield* writeListenerStates(database, after);
  }
  for (const listenerId of changing) freed.delete(listenerId);
  if (freed.size) yield* refreshReadyAt(database, [...freed]);
  const reasons = [
    ...[...gone].map((listenerId) => ({ listenerId, reason: DISABLED_BY_410 })),
    ...[...expired].map(([listenerId, since]) => ({
      listenerId,
      reason: `every attempt has failed since ${new Date(since).toISOString()}`,
    })),
  ];
  const disabled: { listenerId: string; reason: string }[] = [];
  for (const { listenerId, reason } of reasons.toSorted((a, b) => (a.listenerId < b.listenerId ? -1 : 1))) {
    if (yield* disableListener(database, listenerId, reason, now)) disabled.push({ listenerId, reason });
  }
  return { paused, disabled, outages, opened };
}
