import type { ArchivedEvent } from '../archive/archive-lines.js';
import { readArchive, type ArchiveSource } from '../archive/read-archive.js';
import { milliseconds } from './milliseconds.js';

export type { ArchiveSource };

/** Options of `EventService.restore()`. */
export interface RestoreOptions {
  /** Sends the events to this listener, if it wants them and has no delivery of them. @defaultValue nothing is sent */
  listenerId?: string;
  /** Only events that happened at this time or later. */
  since?: Date;
  /** Only events that happened before this time. */
  until?: Date;
  /** Only events of these types. */
  types?: readonly string[];
  /** Checks every line and counts, and writes nothing. @defaultValue false */
  dryRun?: boolean;
}

/** The result of `EventService.restore()`. */
export interface RestoreResult {
  /** The number of events of the file that the options select. */
  readonly events: number;
  /** The number of these events that did not exist. In a dry run, they still do not exist. */
  readonly restored: number;
  /** The number of deliveries that wait to be sent now. 0 in a dry run. */
  readonly deliveries: number;
}

/** The limits of one transaction. */
const EVENTS_PER_BATCH = 100;
const CHARACTERS_PER_BATCH = 4 * 1_024 * 1_024;

/**
 * The events that a restore selects, in batches. Events that cannot be sent any more are left out: damaged, erased and test events.
 *
 * @throws BadRequestError `INVALID_ARCHIVE`, `INVALID_TIME`
 */
export async function* selectedEvents(source: ArchiveSource, options: RestoreOptions): AsyncGenerator<ArchivedEvent[]> {
  const since = options.since === undefined ? -Infinity : milliseconds(options.since, 'since');
  const until = options.until === undefined ? Infinity : milliseconds(options.until, 'until');
  let batch: ArchivedEvent[] = [];
  let characters = 0;
  for await (const event of readArchive(source)) {
    const at = Date.parse(event.timestamp);
    if (at < since || at >= until || options.types?.includes(event.type) === false || !canBeSent(event)) continue;
    batch.push(event);
    characters += (event.payload?.length ?? 0) + (event.thinPayload?.length ?? 0);
    if (batch.length < EVENTS_PER_BATCH && characters < CHARACTERS_PER_BATCH) continue;
    yield batch;
    batch = [];
    characters = 0;
  }
  if (batch.length) yield batch;
}

function canBeSent({ audience, erasedAt, damaged }: ArchivedEvent): boolean {
  return audience !== 'test' && erasedAt === null && damaged === null;
}
