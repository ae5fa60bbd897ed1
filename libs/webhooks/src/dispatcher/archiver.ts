import { Readable } from 'node:stream';
import type { LoggerService } from '@nestjs/common';
import type { WebhookArchive } from '../archive/webhook-archive.js';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import { messageOf } from '../foreign-text.js';
import type { Database } from '../store/database/database.js';
import type { PagePosition } from '../store/database/page.js';
import { dayOf, dayText } from '../store/database/partition-names.js';
import {
  firstEventTime,
  readArchivedEvents,
  readArchivedKeys,
  selectDay,
  startOf,
  type ArchiveSelection,
} from '../store/queue/archive-rows.js';
import {
  markArchiving,
  readArchiveState,
  writeArchiveState,
  type ArchiveState,
  type FileInWork,
} from '../store/queue/archive-state.js';
import { prune } from '../store/queue/old-events.js';
import { dropDay, forgetKeys, hasDay, hasTask, readPartitions, type DayResult } from '../store/queue/partitions.js';
import { DAY, MINUTE, pause } from '../time.js';
import { TroubleLog } from '../webhooks-logger.js';
import { linesOfFile, type FileContents } from './archive-file.js';
import { HeldChore } from './held-chore.js';
import { KEYS_PER_BATCH } from './partition-chore.js';

/** Dependencies of {@link Archiver}. @internal */
export interface ArchiverParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly archive: WebhookArchive;
  /** The longer age of retention, in ms. */
  readonly keptMs: number;
  readonly logger: LoggerService;
  readonly diagnostics: Diagnostics;
}

/** The rows that were deleted one by one. */
interface Deleted {
  events: number;
  deliveries: number;
}

const CHORE = 'archive';
/** How often to look for a day that is over, and to try again after an error. */
const LOOK_EVERY_MS = 5 * MINUTE;
/** How often to look for rows of days that have a file. Few rows come later, for example by `resend`. */
const SEARCH_EVERY_MS = DAY;

/**
 * Takes the place of retention if the application has an archive. When a day is older than every age of retention, its rows are given to
 * the archive as one file. Only then are they deleted, or the partitions of the day dropped. Rows that ended later come in a further file.
 *
 * It works beside the dispatcher and the chores: a slow archive delays nothing else. One process at a time does the work. @internal
 */
export class Archiver {
  private readonly trouble = new TroubleLog();
  private running: Promise<void> | null = null;
  private stopping = new AbortController();

  constructor(private readonly parts: ArchiverParts) {}

  /** Marks that this process archives, so that processes without an archive delete no rows. @throws errors of the database */
  async mark(): Promise<void> {
    const { clock, database } = this.parts;
    await database.transaction(() => markArchiving(database, clock.now()), 'work');
  }

  /** Works in the background, if the work is due and does not run yet. */
  look(): void {
    this.running ??= this.guarded().finally(() => {
      this.running = null;
    });
  }

  /** Ends the work. An incomplete file is made again later. */
  async stop(): Promise<void> {
    this.stopping.abort(new Error('the process stops'));
    await this.running;
    this.stopping = new AbortController();
  }

  /**
   * Does the work that is due, unless it runs already.
   * @throws errors of the archive and of the database
   */
  async runDue(): Promise<Deleted> {
    const deleted = { events: 0, deliveries: 0 };
    const { clock, database } = this.parts;
    const chore = await HeldChore.take({ database, clock, signal: this.stopping.signal }, CHORE);
    if (!chore) return deleted;
    try {
      await chore.transaction(() => markArchiving(database, clock.now()));
      await this.work(chore, deleted);
    } finally {
      await chore.release(clock.now() + LOOK_EVERY_MS);
      this.publish(deleted);
    }
    return deleted;
  }

  private async guarded(): Promise<void> {
    const { diagnostics, logger } = this.parts;
    try {
      await this.runDue();
      if (this.trouble.recovered()) logger.log('The archive works again.');
    } catch (error) {
      if (this.stopping.signal.aborted) return;
      if (diagnostics.listens('trouble')) diagnostics.publish('trouble', { work: 'upkeep' });
      if (this.trouble.failed()) {
        logger.error(`The archive failed and is retried. The rows stay until it works: ${messageOf(error)}`);
      }
    }
  }

  private async work(chore: HeldChore, deleted: Deleted): Promise<void> {
    const { clock, database } = this.parts;
    const state = await chore.transaction(() => readArchiveState(database));
    const mustSearch = clock.now() - state.searchedAt >= SEARCH_EVERY_MS;
    let day = mustSearch ? 0 : state.through;
    for (let file = state.file ?? (await this.nextFile(chore, day)); file; file = await this.nextFile(chore, day)) {
      const stored = file.isStored ? file : await this.store(chore, file);
      if (!(await this.delete(chore, stored, deleted))) return;
      await this.change(chore, (before) => ({
        ...before,
        through: Math.max(before.through, stored.day + 1),
        file: null,
      }));
      day = Math.max(day, stored.day + 1);
    }
    if (mustSearch) await this.change(chore, (before) => ({ ...before, searchedAt: clock.now() }));
  }

  /** Begins the file of the first day that is over and has rows to archive. @param from days before this one are left out */
  private async nextFile(chore: HeldChore, from: number): Promise<FileInWork | null> {
    const { clock, database, keptMs } = this.parts;
    const now = clock.now();
    const before = Math.floor((now - keptMs) / DAY) * DAY;
    const { through } = await chore.transaction(() => readArchiveState(database));
    for (let day = from; ; day++) {
      const period = { from: day * DAY, before };
      const at = await chore.transaction(() => firstEventTime(database, period));
      if (at === null) return null;
      day = dayOf(at);
      const selection = await chore.transaction(() => selectDay(database, day, { now, keptMs }));
      // The first files are made in the order of the days, so a day whose events are not routed yet is waited for.
      if (!selection && day >= through) return null;
      if (selection && (await this.hasEvents(chore, selection))) return await this.begin(chore, selection);
    }
  }

  private async hasEvents(chore: HeldChore, selection: ArchiveSelection): Promise<boolean> {
    const { database } = this.parts;
    for (let after: PagePosition | null = startOf(selection); after;) {
      const from: PagePosition = after;
      const { events, next } = await chore.transaction(() => readArchivedEvents(database, selection, from));
      if (events.length) return true;
      after = next;
    }
    return false;
  }

  private async begin(chore: HeldChore, selection: ArchiveSelection): Promise<FileInWork> {
    const text = dayText(selection.day);
    const state = await this.change(chore, (before) => {
      const isFirst = selection.day >= before.through;
      const parts = before.parts + (isFirst ? 0 : 1);
      const name = isFirst ? `${text}.ndjson` : `${text}.part-${parts}.ndjson`;
      return { ...before, parts, file: { ...selection, name, isStored: false, isWhole: false } };
    });
    return state.file as FileInWork;
  }

  private async store(chore: HeldChore, file: FileInWork): Promise<FileInWork> {
    const contents: FileContents = { events: 0, deliveries: 0, attempts: 0, isWhole: true };
    await this.give(chore, file, contents);
    const { events, deliveries, attempts, isWhole } = contents;
    const stored = { ...file, isStored: true, isWhole };
    await this.change(chore, (before) => ({ ...before, file: stored }));
    this.parts.logger.log(
      `Archived ${file.name} with ${events} events, ${deliveries} deliveries and ${attempts} attempts.`,
    );
    return stored;
  }

  /** Gives a file to the archive of the application, and waits until it is stored. */
  private async give(chore: HeldChore, file: FileInWork, contents: FileContents): Promise<void> {
    const { archive, database } = this.parts;
    const { name, day } = file;
    // A signal for each file: its listeners end with the file, and one run may make many files.
    const signal = AbortSignal.any([chore.signal]);
    const lines = Readable.from(linesOfFile(chore, database, { name, selection: file, contents }), {
      objectMode: false,
    });
    // Without a listener, an error of a stream that nobody reads any more would end the process.
    lines.on('error', () => undefined);
    try {
      const storing = (async () => archive.store({ name, day: dayText(day), signal }, lines))();
      await Promise.race([storing, abortOf(signal, lines)]);
      if (!lines.readableEnded) {
        throw new Error(`store() of ${archive.constructor.name} ended before it had read every line of ${name}`);
      }
    } finally {
      lines.destroy();
    }
  }

  /** Deletes the rows of a file. @returns whether all of them are gone. If not, the work continues later */
  private async delete(chore: HeldChore, file: FileInWork, deleted: Deleted): Promise<boolean> {
    const { database } = this.parts;
    const result = database.isPartitioned && file.isWhole ? await this.drop(chore, file) : 'kept';
    if (result === 'done') this.parts.logger.log(`Dropped the partitions of ${dayText(file.day)}.`);
    if (result === 'done' || result === 'busy') return result === 'done';
    for (let after: PagePosition | null = startOf(file); after;) {
      const from: PagePosition = after;
      const startedAt = performance.now();
      const batch = await chore.transaction(function* () {
        const { events, next } = yield* readArchivedKeys(database, file, from);
        const pruned = yield* prune(database, events, {
          succeededBefore: Number.MAX_SAFE_INTEGER,
          failedBefore: Number.MAX_SAFE_INTEGER,
          endedBefore: file.endedBefore,
        });
        return { ...pruned, next };
      });
      deleted.events += batch.events;
      deleted.deliveries += batch.deliveries;
      if (!batch.hasMore) after = batch.next;
      await pause(performance.now() - startedAt);
    }
    return true;
  }

  private async drop(chore: HeldChore, { day, last, endedBefore }: FileInWork): Promise<DayResult> {
    const { clock, database } = this.parts;
    // A task keeps every day. To delete the rows one by one is worth it only if tasks never end.
    if (clock.now() - endedBefore < DAY && (await chore.transaction(() => hasTask(database)))) return 'busy';
    const partitions = await chore.transaction(() => readPartitions(database));
    if (!hasDay(partitions, day)) return 'kept';
    for (let position: number | null = 0; position !== null;) {
      const afterSeq: number = position;
      const page = { day, afterSeq, limit: KEYS_PER_BATCH };
      position = await chore.transaction(() => forgetKeys(database, partitions, page));
    }
    return await chore.transaction(() => dropDay(database, partitions, day, { beyond: last }));
  }

  private change(chore: HeldChore, to: (before: ArchiveState) => ArchiveState): Promise<ArchiveState> {
    const { clock, database } = this.parts;
    return chore.transaction(function* () {
      const after = to(yield* readArchiveState(database));
      yield* writeArchiveState(database, after, clock.now());
      return after;
    });
  }

  private publish(deleted: Deleted): void {
    const { diagnostics } = this.parts;
    const isEmpty = deleted.events + deleted.deliveries === 0;
    if (!isEmpty && diagnostics.listens('upkeep')) diagnostics.publish('upkeep', { chore: CHORE, deleted });
  }
}

/** Rejects and ends the lines when the signal is aborted. */
function abortOf(signal: AbortSignal, lines: Readable): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => {
      const error = signal.reason as Error;
      lines.destroy(error);
      reject(error);
    };
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}
