import type { Chore, ChoreParts } from './chore.js';
import { discardWaiting, eraseExpired, pruneOldAudit, rollHours, rollMinutes } from './cleaning-chores.js';
import { lagChore } from './lag-chore.js';
import { DAYS_AHEAD, PartitionChore } from './partition-chore.js';
import { retentionChores } from './retention-chores.js';

/** The chores of an application, in the order in which they run when several are due. */
export function choresOf(parts: ChoreParts): Chore[] {
  const { database, operational, tablePaths } = parts;
  return [
    // First, so that a day is dropped before retention reads its rows.
    ...(database.isPartitioned ? [partitionChore(parts)] : []),
    ...[discardWaiting, eraseExpired, pruneOldAudit, rollMinutes, rollHours].map((chore) => chore(parts)),
    ...retentionChores(parts),
    ...(operational ? [lagChore(database, operational, tablePaths)] : []),
  ];
}

function partitionChore({ database, logger, retention, archives }: ChoreParts): Chore {
  const keptMs = retention ? Math.max(retention.succeededMs, retention.failedMs) : null;
  return new PartitionChore({ database, logger, keptMs, daysAhead: DAYS_AHEAD, onlyEmpty: archives });
}
