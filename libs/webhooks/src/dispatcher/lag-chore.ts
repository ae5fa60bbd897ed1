import type { Database } from '../store/database/database.js';
import { readBacklog } from '../store/queue/read-backlog.js';
import { readSending, type SendingState } from '../store/system/sending.js';
import { MINUTE } from '../time.js';
import type { OperationalEvents } from './operational-events.js';
import type { Chore } from './chore.js';

/** A lag of this length or longer is high. The alert rules in docs/grafana have the same thresholds. */
const HIGH_OUTBOX_LAG_MS = MINUTE;
const HIGH_QUEUE_LAG_MS = 5 * MINUTE;
/** Positions of the chore that watches the lag. */
const [NORMAL, HIGH] = [0, 1];

/** Emits an event when the dispatchers are late, and one when they are no longer late. */
export function lagChore(
  database: Database,
  operational: OperationalEvents,
  tablePaths: () => readonly string[],
): Chore {
  return {
    name: 'lag',
    everyMs: MINUTE,
    *batch(position, now) {
      const backlog = yield* readBacklog(database, now, tablePaths());
      const queueLagMs = reportedLag(backlog.queueLagMs, yield* readSending(database), position === HIGH, now);
      // A high lag becomes normal at half of the threshold. So a lag near the threshold causes only a few events.
      const part = position === HIGH ? 0.5 : 1;
      const isHigh = backlog.outboxLagMs >= part * HIGH_OUTBOX_LAG_MS || queueLagMs >= part * HIGH_QUEUE_LAG_MS;
      if (isHigh !== (position === HIGH)) yield* operational.lag(isHigh, backlog, now);
      return { position: isHigh ? HIGH : NORMAL, isDone: true };
    },
  };
}

/**
 * The lag of the queue that people should know of. While an operator has paused sending, deliveries are late on purpose. After the pause, the
 * lag counts from its end, so that the dispatchers have time to send what waited. A lag that is reported already stays as it is.
 */
function reportedLag(lagMs: number, { paused, since }: SendingState, isReported: boolean, now: number): number {
  if (isReported || since === null) return lagMs;
  return paused ? 0 : Math.min(lagMs, now - since);
}
