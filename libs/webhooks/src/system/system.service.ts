import type { WebhookClock } from '../clock.js';
import { BadRequestError } from '../errors.js';
import { textOf } from '../foreign-text.js';
import { ListenerNotFoundError } from '../listener-errors.js';
import { INVALID_OWNER_MESSAGE, OTHER_OWNER_MESSAGE, ownerText } from '../owner.js';
import { invalidValue } from '../show.js';
import type { Database } from '../store/database/database.js';
import type { Script } from '../store/database/script.js';
import { makeChoresDue, readChores } from '../store/database/chores.js';
import { page, readPage, type WebhookPage, type WebhookPageOptions } from '../store/database/page.js';
import type { OwnerScope } from '../store/listeners/listener-rows.js';
import { DAMAGED_SHOWN, readDamaged, retryDamaged } from '../store/outbox/damaged.js';
import { readFailingListeners } from '../store/queue/overview.js';
import { readOwnerFigures, readSystemFigures } from '../store/queue/system-overview.js';
import { listAudit, writeAudit, type AuditEntry } from '../store/system/audit.js';
import { readProcesses } from '../store/system/processes.js';
import { readSending, writeSending, type SendingState } from '../store/system/sending.js';
import {
  readBusiestListeners,
  readListenerStats,
  readStats,
  readStatsParts,
  type StatsOf,
  type TimedFigures,
} from '../store/system/stats.js';
import { SECOND } from '../time.js';
import { dateOrNull, toPause, toProcess, toSending } from './shown-system.js';
import { auditFilterRow, timeOf, toAuditItem, type AuditFilter, type AuditItem } from './audit-log.js';
import { DamagedNotFoundError } from './errors.js';
import {
  LISTENERS_SHOWN,
  statisticsFrom,
  statsBy,
  statsRange,
  type Statistics,
  type StatsOptions,
  type StatsReading,
} from './statistics.js';
import type { DamagedItem, FailingListenerSummary, Sending, SystemChore, SystemOverview } from './system-overview.js';

/** The parts that {@link SystemService} needs. @internal */
export interface SystemServiceParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  /** The maximum age of a delivery. */
  readonly maxAgeMs: number;
  /** The tables whose images this process converts. */
  readonly tablePaths: () => readonly string[];
  /** Called when this process has paused or resumed sending. */
  readonly switched: (state: SendingState) => void;
  /** Writes the statistics that this process has in memory. */
  readonly writeStats: () => Promise<void>;
  /** Called when chores became due. */
  readonly wakeChores: () => void;
  /** Called when a damaged event or image became pending again. */
  readonly retried: (kind: 'event' | 'image') => void;
}

const FAILING_SHOWN = 5;
const MAX_REASON_LENGTH = 500;
/** Times of owners are rounded: exact times would reveal how long a blocked attempt took. */
const SHOWN_TIME_MS = 10 * SECOND;

/**
 * Shows and controls an instance as a whole: pending work, processes that dispatch, and the switch that pauses all sending. `forOwner(id)`
 * returns a service that shows the pending work of one owner and controls nothing.
 */
export class SystemService {
  /** @internal */
  constructor(
    private readonly parts: SystemServiceParts,
    private readonly boundTo?: OwnerScope,
    private readonly actor: string | null = null,
  ) {}

  /** Returns this service bound to one owner (a string). @throws BadRequestError `INVALID_OWNER` */
  forOwner(owner: string): SystemService {
    const bound = typeof owner === 'string' ? ownerText(owner) : undefined;
    if (bound === undefined) throw new BadRequestError('INVALID_OWNER', INVALID_OWNER_MESSAGE);
    if (this.boundTo !== undefined && bound !== this.boundTo) {
      throw new BadRequestError('INVALID_OWNER', OTHER_OWNER_MESSAGE);
    }
    return new SystemService(this.parts, bound, this.actor);
  }

  /**
   * Returns this service with the name of a person or program, which the audit log stores with each change. `null` stands for the
   * application itself.
   */
  withActor(actor: string | null): SystemService {
    return new SystemService(this.parts, this.boundTo, actor);
  }

  /**
   * The pending work, the failing listeners, and the processes that dispatch. Each count stops at 10,000. A service that is bound to an
   * owner returns only the figures of this owner, and no `processes`.
   */
  async overview(): Promise<SystemOverview> {
    const { database, clock, tablePaths } = this.parts;
    const now = clock.now();
    const scope = this.boundTo;
    return database.single(function* () {
      const figures =
        scope === undefined
          ? yield* readSystemFigures(database, now, tablePaths())
          : roundedLag(yield* readOwnerFigures(database, scope, now));
      const failing = yield* readFailingListeners(database, FAILING_SHOWN, scope);
      const sending = yield* readSending(database);
      const processes = scope === undefined ? yield* readProcesses(database) : [];
      return {
        ...figures,
        failing: failing.map((one) => toFailing(one, scope)),
        paused: sending.paused,
        pause: toPause(sending, scope),
        processes: processes.map(toProcess),
      };
    });
  }

  /** Whether sending is paused, and why. */
  async sending(): Promise<Sending> {
    this.refuseOwners();
    const { database } = this.parts;
    return toSending(await database.single(() => readSending(database)));
  }

  /**
   * Pauses all sending, in every process: deliveries, test events, handshakes. Events are stored and routed, their deliveries wait, and
   * requests in flight are completed. Processes see the switch within `dispatcher.pollIntervalMs`, and immediately on PostgreSQL. If sending
   * is already paused, only the reason changes.
   *
   * @param options `reason`: shown to operators, at most 500 characters
   * @throws BadRequestError `INVALID_REASON`; `INVALID_OWNER` from a service that is bound to an owner
   */
  pauseSending({ reason }: { reason?: string } = {}): Promise<Sending> {
    return this.switch(true, reason);
  }

  /**
   * Resumes sending. Pending deliveries are then sent by the usual rules. The duration of the pause does not count towards
   * `dispatcher.maxAgeMs`.
   *
   * @throws BadRequestError `INVALID_OWNER` from a service that is bound to an owner
   */
  resumeSending(): Promise<Sending> {
    return this.switch(false, undefined);
  }

  /**
   * Attempts over time, of every listener that the service sees. Each process stores its figures every 10 seconds, so the latest figures of
   * other processes may be missing. A process that is killed loses the figures of up to 10 seconds.
   *
   * @throws BadRequestError `INVALID_STATS_RANGE`, `INVALID_STATS_BY`, `INVALID_TIME`
   */
  statistics(options: StatsOptions = {}): Promise<Statistics> {
    return this.readStatistics(this.boundTo === undefined ? 'all' : { owner: this.boundTo }, options);
  }

  /**
   * Attempts over time, to one listener.
   *
   * @param listener the result of `get()` or `list()` of a `ListenerService`
   * @throws BadRequestError `INVALID_STATS_RANGE`, `INVALID_STATS_BY`, `INVALID_TIME`
   */
  statisticsOf(
    { id, owner }: { readonly id: string; readonly owner: string | null },
    options: StatsOptions = {},
  ): Promise<Statistics> {
    if (this.boundTo !== undefined && owner !== this.boundTo) throw new ListenerNotFoundError(textOf(id));
    return this.readStatistics({ listenerId: textOf(id) }, options);
  }

  /**
   * The changes that were made by the services, the API and the command line, newest first. They are kept for a year.
   *
   * @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`, `INVALID_TIME`; `INVALID_OWNER` from a service that is bound to an owner
   */
  async audit(options: AuditFilter & WebhookPageOptions = {}): Promise<WebhookPage<AuditItem>> {
    this.refuseOwners();
    const { limit, after } = readPage(options);
    const { database } = this.parts;
    const filter = auditFilterRow(options);
    const rows = await database.single(() => listAudit(database, filter, after, limit + 1));
    return page(rows, limit, ({ createdAt, seq }) => ({ at: Number(createdAt), seq: String(seq) }), toAuditItem);
  }

  /** The periodic work. @throws BadRequestError `INVALID_OWNER` from a service that is bound to an owner */
  async chores(): Promise<SystemChore[]> {
    this.refuseOwners();
    const { database, clock } = this.parts;
    const now = clock.now();
    const chores = await database.single(() => readChores(database));
    return chores
      .filter(({ dueAt }) => dueAt > 0)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map(({ name, dueAt, leaseUntil }) => ({ name, dueAt: new Date(dueAt), isRunning: leaseUntil > now }));
  }

  /**
   * Makes every chore due that is not running. A process whose dispatcher runs does the work: this process immediately, another process
   * within two minutes.
   *
   * @throws BadRequestError `INVALID_OWNER` from a service that is bound to an owner
   */
  async runChores(): Promise<SystemChore[]> {
    this.refuseOwners();
    const { database, clock, wakeChores } = this.parts;
    const { actor } = this;
    const now = clock.now();
    await database.transaction(function* () {
      yield* makeChoresDue(database, now);
      yield* writeAudit(database, { actor, action: 'chores.run', target: null }, now);
    });
    wakeChores();
    return this.chores();
  }

  /**
   * The newest events and images of triggers that could not be read, at most 100 of each kind.
   *
   * @throws BadRequestError `INVALID_OWNER` from a service that is bound to an owner
   */
  async damaged(): Promise<{ items: DamagedItem[]; capped: boolean }> {
    this.refuseOwners();
    const { database } = this.parts;
    const rows = await database.single(() => readDamaged(database));
    const shown = (kind: DamagedItem['kind']) => rows.filter((row) => row.kind === kind).slice(0, DAMAGED_SHOWN);
    const kept = new Set([...shown('event'), ...shown('image')]);
    const items = rows.filter((row) => kept.has(row));
    return {
      items: items.map(({ createdAt, ...row }) => ({ ...row, createdAt: new Date(createdAt) })),
      capped: items.length < rows.length,
    };
  }

  /**
   * Tries a damaged event or image again, for example after its row or the code was repaired. If it still cannot be read, it is marked as
   * damaged again.
   *
   * @param id `evt_…`, or the `img_…` of {@link damaged}
   * @throws DamagedNotFoundError; BadRequestError `INVALID_OWNER` from a service that is bound to an owner
   */
  async retryDamaged(id: string): Promise<void> {
    this.refuseOwners();
    const { database, clock, retried } = this.parts;
    const { actor } = this;
    const kind = await database.transaction(function* () {
      const found = yield* retryDamaged(database, textOf(id));
      if (found) yield* writeAudit(database, { actor, action: 'damaged.retried', target: textOf(id) }, clock.now());
      return found;
    });
    if (!kind) throw new DamagedNotFoundError(textOf(id));
    retried(kind);
  }

  /** Adds a change to the audit log that is stored nowhere else, such as a new session. @internal */
  async note(entry: Omit<AuditEntry, 'actor'>): Promise<void> {
    const { database, clock } = this.parts;
    const { actor } = this;
    await database.transaction(() => writeAudit(database, { ...entry, actor }, clock.now()));
  }

  /**
   * The figures of {@link statistics}, before they are added up, so that they can be added to those of other instances.
   *
   * @throws BadRequestError as {@link statistics} @internal
   */
  figures(options: StatsOptions = {}): Promise<StatsReading> {
    return this.readFigures(this.boundTo === undefined ? 'all' : { owner: this.boundTo }, options);
  }

  private async readStatistics(of: StatsOf, options: StatsOptions): Promise<Statistics> {
    return statisticsFrom([await this.readFigures(of, options)]);
  }

  private async readFigures(of: StatsOf, { since, until, step, by: given }: StatsOptions): Promise<StatsReading> {
    const { database, clock, writeStats } = this.parts;
    const by = statsBy(given);
    const asked = { since: timeOf(since, 'since'), until: timeOf(until, 'until'), step };
    const range = statsRange(asked, clock.now());
    // Write this process's figures first, so that with a single process the result includes every attempt.
    await writeStats();
    return database.single(function* (): Script<StatsReading> {
      const empty = { range, by, listeners: new Map<string, TimedFigures[]>(), parts: [] };
      // Read all figures last, because figures are added meanwhile.
      if (by === 'outcome') return { ...empty, all: yield* readStats(database, of, range) };
      if (by !== 'listener') {
        const parts = yield* readStatsParts(database, of, range);
        return { ...empty, parts, all: yield* readStats(database, of, range) };
      }
      const { listeners } = empty;
      const ids =
        of !== 'all' && 'listenerId' in of
          ? [of.listenerId]
          : yield* readBusiestListeners(database, of, range, LISTENERS_SHOWN);
      for (const id of ids) listeners.set(id, []);
      for (const row of yield* readListenerStats(database, ids, range)) listeners.get(row.listenerId)?.push(row);
      return { ...empty, all: yield* readStats(database, of, range) };
    });
  }

  private async switch(paused: boolean, givenReason: string | undefined): Promise<Sending> {
    this.refuseOwners();
    const reason = givenReason === undefined ? null : assertReason(givenReason);
    const { database, clock, maxAgeMs, switched } = this.parts;
    const { actor } = this;
    const state = await database.transaction(function* () {
      const now = clock.now();
      const written = yield* writeSending(database, { paused, reason, actor, now, maxAgeMs });
      if (paused || written.isChanged) {
        const action = paused ? 'sending.paused' : 'sending.resumed';
        yield* writeAudit(
          database,
          { actor, action, target: null, ...(reason === null ? {} : { details: { reason } }) },
          now,
        );
      }
      return written.state;
    });
    switched(state);
    return toSending(state);
  }

  private refuseOwners(): void {
    if (this.boundTo !== undefined) throw new BadRequestError('INVALID_OWNER', OTHER_OWNER_MESSAGE);
  }
}

/** @throws BadRequestError `INVALID_REASON` */
function assertReason(reason: unknown): string {
  const text = textOf(reason).replaceAll('\0', '').trim();
  if (typeof reason === 'string' && text !== '' && text.length <= MAX_REASON_LENGTH) return text;
  throw new BadRequestError(
    'INVALID_REASON',
    invalidValue('reason', reason, `a text of 1 to ${MAX_REASON_LENGTH} characters`),
  );
}

function roundedLag<T extends { readonly outboxLagMs: number; readonly queueLagMs: number }>(figures: T): T {
  const rounded = (ms: number) => Math.floor(ms / SHOWN_TIME_MS) * SHOWN_TIME_MS;
  return { ...figures, outboxLagMs: rounded(figures.outboxLagMs), queueLagMs: rounded(figures.queueLagMs) };
}

function toFailing(
  listener: Omit<FailingListenerSummary, 'failingSince' | 'pausedUntil'> & {
    readonly failingSince: number | null;
    readonly pausedUntil: number | null;
  },
  scope: OwnerScope,
): FailingListenerSummary {
  const { url, failingSince, pausedUntil } = listener;
  const shown = (at: number) => (scope === undefined ? at : Math.ceil(at / SHOWN_TIME_MS) * SHOWN_TIME_MS);
  return {
    ...listener,
    // The query of a URL may contain a token.
    url: url.replace(/\?.*$/s, ''),
    failingSince: dateOrNull(failingSince),
    pausedUntil: pausedUntil === null ? null : new Date(shown(pausedUntil)),
  };
}
