import type { LoggerService } from '@nestjs/common';
import { dayText } from '../store/database/partition-names.js';
import type { Database } from '../store/database/database.js';
import type { Script } from '../store/database/script.js';
import {
  dropDay,
  forgetKeys,
  isUnfinished,
  makeDay,
  missingDays,
  NO_ROWS,
  pastDays,
  readPartitions,
  type DayResult,
  type Partition,
} from '../store/queue/partitions.js';
import { DAY, MINUTE } from '../time.js';
import type { Archives } from './archives.js';
import type { Chore, ChoreBatch } from './chore.js';

/** Dependencies of {@link PartitionChore}. @internal */
export interface PartitionParts {
  readonly database: Database;
  readonly logger: LoggerService;
  /** The longer age of retention, in ms; `null`: nothing is ever deleted. */
  readonly keptMs: number | null;
  readonly daysAhead: number;
  /** Whether only days without rows are dropped: if the application archives, the archiver drops the others. @defaultValue never */
  readonly onlyEmpty?: Archives;
}

/** How many days have a partition before they begin. If no dispatcher runs for longer, rows go to the default partition. */
export const DAYS_AHEAD = 30;
/** How often to look. A look reads the catalogue. What another transaction has blocked is tried again at the next look. */
const LOOK_EVERY_MS = 5 * MINUTE;
/** Events whose idempotency keys one transaction deletes. */
export const KEYS_PER_BATCH = 2_000;

/**
 * The time before which retention deletes rows, if whole days are dropped at this age. A day is over at its end, so its first row becomes
 * older than the age. The drop then has a day to succeed, before rows are deleted one by one.
 *
 * @param before the time that the age gives, in ms since 1970
 */
export function rowsBefore(before: number): number {
  return Math.floor(before / DAY) * DAY - DAY;
}

/**
 * The chore of partitioned tables: makes the days that are ahead, and drops the days that are past every age of retention. Each transaction
 * makes or drops one day. @internal
 */
export class PartitionChore implements Chore {
  readonly name = 'partitions';
  readonly everyMs = LOOK_EVERY_MS;
  /** The days that this run has tried. A day that was not made or dropped is tried again by the next run. */
  private readonly days = { made: new Set<number>(), dropped: new Set<number>() };
  /** The failures that are logged already. */
  private readonly logged = new Set<string>();

  /** @internal */
  constructor(private readonly parts: PartitionParts) {}

  /** One transaction of the chore. @param position the event whose idempotency key was deleted last */
  *batch(position: number, now: number): Script<ChoreBatch> {
    const { database, keptMs, daysAhead } = this.parts;
    const partitions = yield* readPartitions(database);
    const missing = missingDays(partitions, now, daysAhead).find((day) => !this.days.made.has(day));
    if (missing !== undefined) {
      const result = yield* makeDay(database, partitions, missing);
      return { position: 0, isDone: false, committed: () => this.tried('made', missing, result) };
    }
    const past = keptMs === null ? [] : pastDays(partitions, now - keptMs);
    const day = past.find((one) => !this.days.dropped.has(one));
    if (day !== undefined) return yield* this.drop(partitions, day, position, now);
    return { position: 0, isDone: true, committed: () => this.end() };
  }

  private *drop(partitions: readonly Partition[], day: number, position: number, now: number): Script<ChoreBatch> {
    const { database } = this.parts;
    const ended = (result: DayResult) => ({
      ...{ position: 0, isDone: false },
      committed: () => this.tried('dropped', day, result),
    });
    if (yield* isUnfinished(database, partitions, day)) return ended('kept');
    const onlyEmpty = this.parts.onlyEmpty !== undefined && (yield* this.parts.onlyEmpty(now));
    if (!onlyEmpty) {
      const last = yield* forgetKeys(database, partitions, { day, afterSeq: position, limit: KEYS_PER_BATCH });
      if (last !== null) return { position: last, isDone: false };
    }
    return ended(yield* dropDay(database, partitions, day, { beyond: onlyEmpty ? NO_ROWS : undefined }));
  }

  private end(): void {
    this.days.made.clear();
    this.days.dropped.clear();
  }

  private tried(verb: 'made' | 'dropped', day: number, result: DayResult): void {
    const { logger } = this.parts;
    this.days[verb].add(day);
    if (verb === 'dropped' && result === 'done') logger.log(`Dropped the partitions of ${dayText(day)}.`);
    if (result === 'done' || result === 'busy' || result === 'kept') return;
    if (this.logged.has(result)) return;
    this.logged.add(result);
    const why =
      result === 'denied'
        ? 'the database user does not own the webhook tables. Until it does, new rows go to the default partitions, and retention deletes rows one by one: see docs/partitions.md'
        : result;
    logger.warn(`The partitions of ${dayText(day)} could not be ${verb}: ${why}. (Logged once.)`);
  }
}
