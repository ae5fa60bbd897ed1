import { BadRequestError } from '../errors.js';
import { textOf } from '../foreign-text.js';
import { failedConditions } from '../routing/failed-conditions.js';
import type { Filter } from '../routing/filter.js';
import { matchesAnyPattern, reaches } from '../routing/route-key.js';
import { invalidValue } from '../show.js';
import { chunks } from '../store/database/chunks.js';
import { readEvent, typesOf, type ReadEvent } from '../store/outbox/outbox-events.js';
import { listEvents, readContents, type ListedEventRow } from '../store/outbox/listed-events.js';
import type { OwnerScope } from '../store/listeners/listener-rows.js';
import type { ListenerChecks } from './listener-checks.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { Where } from './listener.js';

/** The stored events that a listener would receive. */
export interface PreviewInput {
  events: readonly string[];
  /** @defaultValue {} */
  where?: Where;
  /** Only events at this time or later. @defaultValue no limit */
  since?: Date;
  /** How many events are looked at, 1 to 500. @defaultValue 500 */
  limit?: number;
}

/** One event that was looked at. */
export interface PreviewSample {
  readonly eventId: string;
  readonly type: string;
  readonly timestamp: Date;
  readonly matched: boolean;
  /** The conditions that did not hold, such as `status.changedTo`, or `type`. Empty if the event matches. */
  readonly failedOn: readonly string[];
}

/** Which of the newest events match. */
export interface ListenerPreview {
  /** Number of events that were looked at: the newest that may reach the listener. */
  readonly examined: number;
  readonly matched: number;
  /** When the oldest of them happened; `null`: there was none. */
  readonly since: Date | null;
  /** When the newest of them happened. */
  readonly until: Date | null;
  /** At most ten that match and ten that do not, newest first. */
  readonly samples: readonly PreviewSample[];
}

const MAX_EVENTS = 500;
const SAMPLES_OF_A_KIND = 10;
/** Payloads may be large, so only a few are in memory at once. */
const CONTENTS_AT_ONCE = 25;

/** Tries the types and the filter of a listener on the newest stored events, without a listener. */
export class ListenerPreviews {
  /** @internal */
  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo: OwnerScope,
    private readonly checks: ListenerChecks,
  ) {}

  /** @throws the errors of `create()` about `events` and `where`; BadRequestError `INVALID_LIMIT`, `INVALID_TIME` */
  async preview({ events, where = {}, since, limit = MAX_EVENTS }: PreviewInput): Promise<ListenerPreview> {
    assertLimit(limit);
    const owner = this.boundTo ?? null;
    const { values } = this.checks.subscription(events, where, owner);
    const patterns = JSON.parse(values.patterns) as string[];
    const filter = JSON.parse(values.filter) as Filter;
    const { database } = this.parts;
    const scope = this.boundTo;
    const transaction = this.parts.transactions.here();
    const rows = await transaction.run(function* () {
      const range = since === undefined ? {} : { since: timeOf(since) };
      return (yield* listEvents(database, { scope, ...range }, null, limit)).rows;
    });
    const reached = rows.filter((row) => reaches(row, owner));
    const ofType = reached.filter((row) => matchesAnyPattern(patterns, typesOf(row)));
    const failures = new Map<string, readonly string[]>();
    for (const some of chunks(ofType, CONTENTS_AT_ONCE)) {
      const contents = await transaction.run(() =>
        readContents(
          database,
          some.map(({ seq }) => seq),
        ),
      );
      for (const content of contents) failures.set(content.id, failuresOf(filter, content));
    }
    return toPreview(reached, (row) => failures.get(row.id) ?? ['type']);
  }
}

/** The conditions that do not hold; `payload` for an event that cannot be read. */
function failuresOf(filter: Filter, content: Parameters<typeof readEvent>[0]): string[] {
  let event: ReadEvent;
  try {
    event = readEvent(content);
  } catch {
    return ['payload'];
  }
  return failedConditions(filter, event);
}

function toPreview(
  rows: readonly ListedEventRow[],
  failedOn: (row: ListedEventRow) => readonly string[],
): ListenerPreview {
  const samples = rows.map((row): PreviewSample => {
    const failed = failedOn(row);
    const { id: eventId, type, createdAt } = row;
    return { eventId, type, timestamp: new Date(Number(createdAt)), matched: failed.length === 0, failedOn: failed };
  });
  const matched = samples.filter((one) => one.matched);
  // Show events that nearly match before events of other types, because they help more.
  const unmatched = samples
    .filter((one) => !one.matched)
    .toSorted((a, b) => Number(isOtherType(a)) - Number(isOtherType(b)));
  const shown = new Set([...matched.slice(0, SAMPLES_OF_A_KIND), ...unmatched.slice(0, SAMPLES_OF_A_KIND)]);
  return {
    examined: samples.length,
    matched: matched.length,
    since: samples.at(-1)?.timestamp ?? null,
    until: samples[0]?.timestamp ?? null,
    samples: samples.filter((one) => shown.has(one)),
  };
}

function isOtherType({ failedOn }: PreviewSample): boolean {
  return failedOn[0] === 'type';
}

/** @throws BadRequestError `INVALID_LIMIT` */
function assertLimit(limit: number): void {
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_EVENTS) return;
  throw new BadRequestError('INVALID_LIMIT', invalidValue('limit', limit, `a whole number from 1 to ${MAX_EVENTS}`));
}

/** @throws BadRequestError `INVALID_TIME` */
function timeOf(since: Date): number {
  const at = since instanceof Date ? since.getTime() : Number.NaN;
  if (Number.isSafeInteger(at)) return at;
  throw new BadRequestError('INVALID_TIME', invalidValue('since', textOf(since), 'a valid Date'));
}
