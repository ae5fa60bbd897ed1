import sql from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimes } from '../database/event-times.js';
import { execute, type Script } from '../database/script.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import { changesOf, changingLeases, lockLeases, type EventLease } from '../outbox/leases.js';
import type { ClaimedDelivery } from './claimed-delivery.js';
import { insertDeliveries } from './new-deliveries.js';
import { OWN_TEXT } from './rendered-body.js';

/**
 * Gives deliveries back that were not sent: the process stops, the listener is paused, or there is no room. They become due; a delivery without
 * a row is inserted, unless the process has lost the lease of its event.
 */
export function* releaseDeliveries(
  database: Database,
  released: readonly ClaimedDelivery[],
  now: number,
): Script<void> {
  const { sql: path, byKey, $ } = database.tables.deliveries;
  for (const [token, stored] of byToken(released.filter(({ seq }) => seq !== null))) {
    for (const some of chunks(stored.toSorted((a, b) => Number(a.seq) - Number(b.seq)))) {
      const at = atTimes(
        database,
        $.eventAt,
        some.map(({ event }) => event.createdAt),
      );
      yield* execute(
        sql`update ${path}${byKey} set ${$.state} = ${'due'}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${null} where ${$.seq} ${inList(some.map((l) => l.seq))}${at} and ${$.leaseToken} = ${token}`,
      );
    }
  }
  yield* insertReleased(
    database,
    released.filter(({ seq }) => seq === null),
    now,
  );
  yield* expectDeliveries(database, new Map(released.map(({ listener }) => [listener.id, now])));
}

/** A row is given back only under its own lease: another one of the batch may be the lease under which it is being sent again. */
function byToken(deliveries: readonly ClaimedDelivery[]): Map<string, ClaimedDelivery[]> {
  const groups = new Map<string, ClaimedDelivery[]>();
  for (const delivery of deliveries) {
    const group = groups.get(delivery.leaseToken);
    if (group) group.push(delivery);
    else groups.set(delivery.leaseToken, [delivery]);
  }
  return groups;
}

function* insertReleased(database: Database, released: readonly ClaimedDelivery[], now: number): Script<void> {
  if (!released.length) return;
  const held = yield* lockLeases(
    database,
    released.map(({ lease }) => lease as EventLease),
  );
  const given = released.filter(({ lease }) => lease && held.has(lease.token));
  const changes = [...changesOf(released)].filter(([{ token }]) => held.has(token));
  yield* insertDeliveries(
    database,
    given.map(({ id, event, type, listener, owner, routedAt }) => ({
      id,
      event: { seq: event.seq, type, createdAt: event.createdAt },
      listener: { id: listener.id, owner, ownerKey: owner === null ? null : ownerKeyOf(owner) },
      ...OWN_TEXT,
      ...{ orderKey: null, errorCode: null, state: 'due' as const, routedAt },
    })),
    { now, leaseMs: 0, leaseToken: '' },
    { statements: changingLeases(database, new Map(changes)), isEnd: false },
  );
}
