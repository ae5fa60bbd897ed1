import type { LoggerService } from '@nestjs/common';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { Database } from '../store/database/database.js';
import type { Script } from '../store/database/script.js';
import { pausedTime, readSending } from '../store/system/sending.js';
import { DAY, MINUTE } from '../time.js';
import type { Archives } from './archives.js';
import type { OperationalEvents } from './operational-events.js';

/** Dependencies of the chores. @internal */
export interface ChoreParts {
  readonly database: Database;
  readonly maxAgeMs: number;
  readonly retention: ResolvedWebhooksOptions['retention'];
  /** Whether an archiver deletes the old rows in place of the chores. */
  readonly archives: Archives;
  readonly logger: LoggerService;
  /** `null` if the option `operationalEvents` is off. */
  readonly operational: OperationalEvents | null;
  /** The tables whose images this process converts. */
  readonly tablePaths: () => readonly string[];
}

/** Result of one transaction of a chore. */
export interface ChoreBatch {
  /** Where the next batch begins, such as the sequence of an event or a listener. */
  readonly position: number;
  /** Whether no work is left until the chore is due again. */
  readonly isDone: boolean;
  readonly discarded?: ReadonlyMap<string, number>;
  readonly deliveries?: number;
  readonly events?: number;
  /** To call after the commit, because the transaction may run twice. */
  readonly committed?: () => void;
}

/** Periodic work. One process at a time does it, in batches of one transaction each. */
export interface Chore {
  readonly name: string;
  readonly everyMs: number;
  /** @param position of the batch before; 0 for the first batch */
  batch(position: number, now: number): Script<ChoreBatch>;
}

export const OFTEN_MS = 5 * MINUTE;
export const DAILY_MS = DAY;

/**
 * The time before which pending deliveries are too old. The time that sending was paused does not count: a pause must not discard
 * deliveries.
 */
export function* tooOldBefore(database: Database, maxAgeMs: number, now: number): Script<number> {
  return now - maxAgeMs - pausedTime(yield* readSending(database), now, maxAgeMs);
}
