import type { CircuitPolicy } from '../../health/circuit.js';
import { chunks } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import type { Script } from '../database/script.js';
import { changesOf, type LeaseChanges } from '../outbox/leases.js';
import type { AttemptRecord, RecordResult } from './attempt-record.js';
import type { ClaimedDelivery } from './claimed-delivery.js';
import { judgeListeners, touchesListener } from './judge-listeners.js';
import { updateAtOnce, updateInSteps } from './record-stored-deliveries.js';
import { insertAtOnce, insertInSteps } from './record-unstored-deliveries.js';
import { findStoredAttempts, readVerdicts, type StoredAttempts } from './stored-attempts.js';

/** The maximum number of records in one statement. Each record has up to 4 KB of response. */
const RECORDS_PER_STATEMENT = 500;

/**
 * Records attempts, changes the state of their deliveries and updates the health of their listeners, in one transaction. A delivery without
 * a row is inserted with its outcome, and its event leaves the lease with the last of its deliveries.
 *
 * An attempt changes its delivery only if its lease is still valid. The attempt of a worker that lost its lease was still made: it is stored
 * as `superseded`. For a listener that succeeds as before, nothing else is written.
 *
 * @param records in the order in which the attempts ended
 * @param options `mayBeStored`: records that an earlier try may have committed, although the call of that try failed
 */
export function* recordAttempts(
  database: Database,
  records: readonly AttemptRecord[],
  { now, circuit, mayBeStored = [] }: { now: number; circuit: CircuitPolicy; mayBeStored?: readonly AttemptRecord[] },
): Script<RecordResult> {
  const earlier = mayBeStored.length ? yield* findStoredAttempts(database, mayBeStored) : NOTHING_STORED;
  const missing = records.filter((r) => !earlier.stored.has(r));
  // The transaction of the earlier try has changed the leases, too. In memory, they are settled after this one.
  const changes = changesOf(records.map(({ delivery }) => delivery));
  const moved = yield* recordMissing(database, missing, changes);
  const health = yield* judgeListeners(
    database,
    missing.filter(({ delivery }) => moved.has(delivery)),
    now,
    circuit,
  );
  const before = yield* readVerdicts(database, [...earlier.moved], now);
  for (const { delivery } of earlier.moved) moved.add(delivery);
  return {
    moved,
    paused: new Set([...before.paused, ...health.paused]),
    disabled: [...before.disabled, ...health.disabled],
    outages: health.outages,
    opened: health.opened,
  };
}

const NOTHING_STORED: StoredAttempts = { stored: new Set(), moved: new Set() };

/** Whether one statement is enough for {@link recordAttempts}, because the health of no listener changes. */
export function isOneStatement(database: Database, records: readonly AttemptRecord[]): boolean {
  const isNew = records[0]?.delivery.seq === null;
  return (
    database.dialect === 'postgres' &&
    records.length <= RECORDS_PER_STATEMENT &&
    roundsOf(records).length === 1 &&
    records.every((r) => !touchesListener(r) && (r.delivery.seq === null) === isNew)
  );
}

/** @returns the deliveries whose state changed */
function* recordMissing(
  database: Database,
  records: readonly AttemptRecord[],
  changes: LeaseChanges,
): Script<Set<ClaimedDelivery>> {
  const moved = new Set<ClaimedDelivery>();
  const [first, later] =
    database.dialect === 'postgres' ? [insertAtOnce, updateAtOnce] : ([insertInSteps, updateInSteps] as const);
  const rounds = roundsOf(records).map((round) => ({
    unstored: inOrder(round, ({ lease, event }) => lease && event.seq),
    stored: inOrder(round, ({ seq }) => seq),
  }));
  // The deliveries of one lease may be in two chunks. The chunk with the last one changes the lease.
  const unstoredInOrder = rounds.flatMap(({ unstored }) => unstored);
  const lastOf = new Map(unstoredInOrder.map((record) => [record.delivery.lease, record]));
  for (const { unstored, stored } of rounds) {
    for (const chunk of chunks(unstored, RECORDS_PER_STATEMENT)) {
      const inChunk = new Set(chunk);
      const last = [...changes].filter(([lease]) => inChunk.has(lastOf.get(lease) as AttemptRecord));
      addMoved(moved, chunk, yield* first(database, chunk, new Map(last)));
    }
    for (const chunk of chunks(stored, RECORDS_PER_STATEMENT)) {
      addMoved(moved, chunk, yield* later(database, chunk));
    }
  }
  return moved;
}

function addMoved(moved: Set<ClaimedDelivery>, chunk: readonly AttemptRecord[], ids: readonly string[]): void {
  if (!ids.length) return;
  const deliveryOf = new Map(chunk.map(({ delivery }) => [delivery.id, delivery]));
  for (const id of ids) moved.add(deliveryOf.get(id) as ClaimedDelivery);
}

/**
 * Divides the records so that no round has two leases of one event, or of one stored delivery. A batch may have both if a lease expired
 * while a request was under way, and this process then took the next lease. The statements could not tell the two apart.
 */
function roundsOf(records: readonly AttemptRecord[]): AttemptRecord[][] {
  const rounds: AttemptRecord[][] = [];
  const tokensOf = new Map<string, string[]>();
  for (const record of records) {
    const { id, event, seq, leaseToken } = record.delivery;
    const leased = seq === null ? event.seq : id;
    const tokens = tokensOf.get(leased) ?? [];
    if (!tokens.length) tokensOf.set(leased, tokens);
    if (!tokens.includes(leaseToken)) tokens.push(leaseToken);
    (rounds[tokens.indexOf(leaseToken)] ??= []).push(record);
  }
  return rounds;
}

/** The records that have a sequence, in its order: all transactions lock rows in the same order. */
function inOrder(
  records: readonly AttemptRecord[],
  seqOf: (delivery: AttemptRecord['delivery']) => string | null,
): AttemptRecord[] {
  const withSeq = records.filter(({ delivery }) => seqOf(delivery) !== null);
  return withSeq.toSorted((a, b) => Number(seqOf(a.delivery)) - Number(seqOf(b.delivery)));
}
