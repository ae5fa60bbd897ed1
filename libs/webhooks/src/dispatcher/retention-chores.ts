import type { Database } from '../store/database/database.js';
import {
  discardPending,
  LISTENERS_PER_BATCH,
  prune,
  pruneListeners,
  readOldEvents,
} from '../store/queue/old-events.js';
import { pruneImages } from '../store/outbox/images.js';
import { DAILY_MS, OFTEN_MS, tooOldBefore, type Chore, type ChoreParts } from './chore.js';
import { rowsBefore } from './partition-chore.js';

/** While the application archives, only an archiver deletes the rows. */
const NOTHING_PRUNED = { deliveries: 0, events: 0, hasMore: false };

/**
 * The chores of the option `retention`. The first passes each event when the shorter retention period is over, the second when both are. The
 * second begins daily at the first event that still exists. Few of the old events still exist, for example because they had unfinished
 * deliveries. While the application archives, the first does nothing, and the second deletes no events.
 */
export function retentionChores(parts: ChoreParts): Chore[] {
  if (!parts.retention) return [];
  const ages = new Ages(parts.database, parts.retention);
  return [pruneEarly(parts, ages), pruneRest(parts, ages)];
}

/** The two ages of the option `retention`, as times. */
class Ages {
  private readonly shorterMs: number;
  private readonly longerMs: number;

  constructor(
    private readonly database: Database,
    private readonly retention: Exclude<ChoreParts['retention'], false>,
  ) {
    const { succeededMs, failedMs } = retention;
    this.shorterMs = Math.min(succeededMs, failedMs);
    this.longerMs = Math.max(succeededMs, failedMs);
  }

  /** Older deliveries are deleted. */
  limits(now: number): { succeededBefore: number; failedBefore: number } {
    const { succeededMs, failedMs } = this.retention;
    return { succeededBefore: this.before(now, succeededMs), failedBefore: this.before(now, failedMs) };
  }

  /** Images of older events are deleted. */
  imagesBefore(now: number): number {
    return now - this.retention.failedMs;
  }

  shorter(now: number): number {
    return this.before(now, this.shorterMs);
  }

  longer(now: number): number {
    return this.before(now, this.longerMs);
  }

  /** Whole days are dropped at the longer age, so rows of that age are deleted only if a day could not be dropped. */
  private before(now: number, ageMs: number): number {
    const isDropped = this.database.isPartitioned && ageMs === this.longerMs;
    return isDropped ? rowsBefore(now - ageMs) : now - ageMs;
  }
}

function pruneEarly({ database, archives }: ChoreParts, ages: Ages): Chore {
  return {
    name: 'prune',
    everyMs: OFTEN_MS,
    *batch(afterSeq, now) {
      if (yield* archives(now)) return { position: afterSeq, isDone: true };
      const { events, isEnd } = yield* readOldEvents(database, { afterSeq, before: ages.shorter(now) });
      const { hasMore, ...pruned } = yield* prune(database, events, ages.limits(now));
      if (hasMore) return { position: afterSeq, isDone: false, ...pruned };
      return { position: events.at(-1)?.seq ?? afterSeq, isDone: isEnd, ...pruned };
    },
  };
}

function pruneRest({ database, maxAgeMs, archives }: ChoreParts, ages: Ages): Chore {
  return {
    name: 'prune-rest',
    everyMs: DAILY_MS,
    *batch(afterSeq, now) {
      const before = ages.longer(now);
      const { events, isEnd } = yield* readOldEvents(database, { afterSeq, before });
      const ageLimit = yield* tooOldBefore(database, maxAgeMs, now);
      const tooOld = events.filter(({ agedFrom }) => agedFrom < ageLimit);
      const { discarded, firstLeft } = yield* discardPending(database, tooOld, now);
      const { hasMore, ...pruned } = (yield* archives(now))
        ? NOTHING_PRUNED
        : yield* prune(database, events, ages.limits(now));
      const result = { discarded, ...pruned };
      if (hasMore || (firstLeft !== null && discarded.size > 0)) {
        return { position: afterSeq, isDone: false, ...result };
      }
      const position = events.at(-1)?.seq ?? afterSeq;
      if (!isEnd) return { position, isDone: false, ...result };
      yield* pruneImages(database, ages.imagesBefore(now));
      const listeners = yield* pruneListeners(database, before);
      if (listeners === LISTENERS_PER_BATCH) return { position, isDone: false, ...result };
      return { position: 0, isDone: true, ...result };
    },
  };
}
