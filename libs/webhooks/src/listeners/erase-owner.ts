import type { WebhookClock } from '../clock.js';
import { type Database } from '../store/database/database.js';
import { pause } from '../time.js';
import { eraseDeliveries, eraseEvents, eraseListeners, type ErasedBatch } from '../store/queue/erase-owner.js';
import { eraseAnswers } from '../store/requests/idempotency.js';
import { eraseTasks } from '../store/queue/task-rows.js';
import { writeAudit } from '../store/system/audit.js';
import type { Script } from '../store/database/script.js';

/** Numbers of deleted rows. */
export interface ErasedOwner {
  readonly listeners: number;
  /** Deliveries to listeners of the owner, and deliveries of events of the owner to any listener. */
  readonly deliveries: number;
  readonly events: number;
}

/** Pause before the next try to delete a delivery that is in flight. */
const RETRY_MS = 100;

/**
 * Deletes all rows of an owner, in batches. Listeners are deleted first, because deleted listeners get no new deliveries. The passes
 * repeat until one pass deletes nothing, because an event that is routed meanwhile may add a delivery.
 */
export async function eraseOwner(
  database: Database,
  clock: WebhookClock,
  owner: string,
  actor: string | null,
): Promise<ErasedOwner> {
  const total = { listeners: 0, deliveries: 0, events: 0 };
  await database.transaction(function* () {
    // Note the erasure first, so that the audit log also contains an interrupted erasure.
    yield* writeAudit(database, { actor, action: 'owner.erased', target: owner }, clock.now());
    yield* eraseAnswers(database, owner);
    yield* eraseTasks(database, owner);
  });
  for (let before = -1; before !== sum(total);) {
    before = sum(total);
    await inBatches(database, () => eraseListeners(database, owner), total);
    await inBatches(database, () => eraseDeliveries(database, owner, clock.now()), total);
    await inBatches(database, () => eraseEvents(database, owner, clock.now()), total);
  }
  return total;
}

async function inBatches(
  database: Database,
  batch: () => Script<ErasedBatch>,
  total: { listeners: number; deliveries: number; events: number },
): Promise<void> {
  for (;;) {
    const { isWaiting, ...erased } = await database.transaction(batch);
    for (const key of ['listeners', 'deliveries', 'events'] as const) total[key] += erased[key] ?? 0;
    if (isWaiting) await pause(RETRY_MS);
    else if (!Object.values(erased).some((count) => count > 0)) return;
  }
}

function sum({ listeners, deliveries, events }: ErasedOwner): number {
  return listeners + deliveries + events;
}
