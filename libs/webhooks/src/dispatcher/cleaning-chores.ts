import { eraseSecrets } from '../store/listeners/listener-secrets.js';
import { discardPending, readOldEvents } from '../store/queue/old-events.js';
import { pruneTasks } from '../store/queue/task-rows.js';
import { KEY_KNOWN_FOR_MS, pruneAnswers } from '../store/requests/idempotency.js';
import { pruneRevocations } from '../store/requests/revoked-sessions.js';
import { AUDIT_KEPT_MS, pruneAudit } from '../store/system/audit.js';
import {
  pruneStats,
  rollStats,
  STATS_FINE_FOR_MS,
  STATS_FINE_SPAN_MS,
  STATS_KEPT_MS,
  STATS_MINUTES_FOR_MS,
} from '../store/system/stats.js';
import { DAY, HOUR } from '../time.js';
import { DAILY_MS, OFTEN_MS, tooOldBefore, type Chore, type ChoreParts } from './chore.js';

/** How long a task that has ended is listed. */
const TASKS_KEPT_FOR_MS = 30 * DAY;

/** Discards deliveries that were pending for too long. */
export function discardWaiting({ database, maxAgeMs }: ChoreParts): Chore {
  return {
    name: 'discard-waiting',
    everyMs: OFTEN_MS,
    *batch(afterSeq, now) {
      const before = yield* tooOldBefore(database, maxAgeMs, now);
      const { events, isEnd } = yield* readOldEvents(database, { afterSeq, before });
      const { discarded, firstLeft } = yield* discardPending(database, events, now);
      if (firstLeft === null) return { position: events.at(-1)?.seq ?? afterSeq, isDone: isEnd, discarded };
      // Go back to the first event with pending work, for example a leased delivery, because this chore passes an
      // event only once.
      return { position: Math.max(afterSeq, firstLeft - 1), isDone: discarded.size === 0, discarded };
    },
  };
}

/** Erases rotated secrets that are no longer valid, and then deletes expired rows of the API and of tasks. */
export function eraseExpired({ database }: ChoreParts): Chore {
  return {
    name: 'erase-secrets',
    everyMs: DAILY_MS,
    *batch(after, now) {
      const last = yield* eraseSecrets(database, { now, after });
      if (last === null) {
        yield* pruneAnswers(database, now - KEY_KNOWN_FOR_MS);
        yield* pruneRevocations(database, now);
        yield* pruneTasks(database, now - TASKS_KEPT_FOR_MS);
      }
      return { position: last ?? 0, isDone: last === null };
    },
  };
}

export function pruneOldAudit({ database }: ChoreParts): Chore {
  return {
    name: 'prune-audit',
    everyMs: DAILY_MS,
    *batch(position, now) {
      return { position, isDone: !(yield* pruneAudit(database, now - AUDIT_KEPT_MS)) };
    },
  };
}

/** Adds up the statistics of minutes. */
export function rollMinutes({ database }: ChoreParts): Chore {
  return {
    name: 'roll-minute-stats',
    everyMs: HOUR,
    *batch(position, now) {
      const before = now - STATS_MINUTES_FOR_MS;
      const { last, hasMore } = yield* rollStats(database, position, { before, spanMs: STATS_FINE_SPAN_MS });
      return { position: last, isDone: !hasMore };
    },
  };
}

/** Adds the statistics up to hours, and deletes the oldest. */
export function rollHours({ database }: ChoreParts): Chore {
  return {
    name: 'roll-stats',
    everyMs: HOUR,
    *batch(position, now) {
      const { last, hasMore } = yield* rollStats(database, position, { before: now - STATS_FINE_FOR_MS, spanMs: HOUR });
      const mayPrune = yield* pruneStats(database, now - STATS_KEPT_MS);
      return { position: last, isDone: !hasMore && !mayPrune };
    },
  };
}
