import type { LoggerService } from '@nestjs/common';
import { messageOf } from '../foreign-text.js';
import { showsTiming, type Outcome } from '../sending/outcome.js';
import { chunks } from '../store/database/chunks.js';
import type { Database } from '../store/database/database.js';
import { execute } from '../store/database/script.js';
import {
  addFigures,
  addStats,
  ALL_LISTENERS,
  DURATION_BOUNDS,
  ENTRIES_PER_STATEMENT,
  noFigures,
  STATS_SPAN_MS,
  type StatsEntry,
  type StatsFigures,
} from '../store/system/stats.js';
import { countPart } from '../store/system/stats-parts.js';
import { SECOND } from '../time.js';
import type { ClaimedDelivery } from '../store/queue/claimed-delivery.js';
import type { Attempted } from './recorded-attempt.js';

export interface AttemptStatsParts {
  readonly database: Database;
  readonly logger: LoggerService;
}

/** How often the figures are written. A process that is killed loses the figures of this time. */
const WRITE_EVERY_MS = 10 * SECOND;

/**
 * Adds up the figures of attempts in memory, and writes them every 10 seconds, and when the dispatcher stops. So a delivery writes no row
 * of its own for the statistics. A delivery that waits for nothing has no timer: the timer runs only while there are figures to write.
 */
export class AttemptStats {
  /** The figures by the start of their period, and then by listener. */
  private figures = new Map<number, Map<string, StatsFigures>>();
  private timer: NodeJS.Timeout | null = null;
  private writing: Promise<void> = Promise.resolve();

  constructor(private readonly parts: AttemptStatsParts) {}

  /** @param moved the deliveries whose state changed */
  add(batch: readonly Attempted[], moved: ReadonlySet<ClaimedDelivery>): void {
    for (const { record, outcome } of batch) {
      const { delivery, startedAt, next } = record;
      const isExhausted = next.state === 'exhausted' && moved.has(delivery);
      const startsAt = Math.floor(startedAt / STATS_SPAN_MS) * STATS_SPAN_MS;
      for (const of of [delivery.listener.id, ALL_LISTENERS])
        count(this.figuresOf(startsAt, of), { outcome, type: delivery.type, startedAt, isExhausted });
    }
    this.timer ??= setTimeout(() => void this.write(), WRITE_EVERY_MS).unref();
  }

  /** Writes the figures. Never rejects: figures that could not be written are written later. */
  write(): Promise<void> {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    this.writing = this.writing.then(() => this.writeAll());
    return this.writing;
  }

  private figuresOf(startsAt: number, listenerId: string): StatsFigures {
    let listeners = this.figures.get(startsAt);
    if (!listeners) {
      listeners = new Map();
      this.figures.set(startsAt, listeners);
    }
    let figures = listeners.get(listenerId);
    if (!figures) {
      figures = noFigures();
      listeners.set(listenerId, figures);
    }
    return figures;
  }

  private async writeAll(): Promise<void> {
    const { database, logger } = this.parts;
    const entries = this.take();
    let written = 0;
    try {
      for (const some of chunks(entries, ENTRIES_PER_STATEMENT)) {
        await database.single(() => execute(addStats(database, some)), 'work');
        written += some.length;
      }
    } catch (error) {
      logger.debug?.(`The statistics could not be written, and are written later: ${messageOf(error)}`);
      for (const { startsAt, listenerId, figures } of entries.slice(written))
        addFigures(this.figuresOf(startsAt, listenerId), figures);
      this.timer ??= setTimeout(() => void this.write(), WRITE_EVERY_MS).unref();
    }
  }

  /** In an order that all processes share, so that their statements do not wait for each other in a circle. */
  private take(): StatsEntry[] {
    const entries: StatsEntry[] = [];
    for (const [startsAt, listeners] of this.figures)
      for (const [listenerId, figures] of listeners) entries.push({ listenerId, startsAt, figures });
    this.figures = new Map();
    return entries.toSorted((a, b) =>
      a.listenerId < b.listenerId ? -1 : a.listenerId > b.listenerId ? 1 : a.startsAt - b.startsAt,
    );
  }
}

interface CountedAttempt {
  readonly outcome: Outcome;
  readonly type: string;
  readonly startedAt: number;
  readonly isExhausted: boolean;
}

function count(figures: StatsFigures, { outcome, type, startedAt, isExhausted }: CountedAttempt): void {
  figures[outcome.kind]++;
  countPart(figures.parts, type, outcome.kind);
  if (outcome.errorCode !== null) countPart(figures.parts, outcome.errorCode, outcome.kind);
  if (isExhausted) figures.exhausted++;
  if (outcome.kind === 'accepted') figures.lastAcceptedAt = Math.max(figures.lastAcceptedAt ?? 0, startedAt);
  if (!showsTiming(outcome)) return;
  figures.durationMs += outcome.durationMs;
  let bucket = 0;
  while (outcome.durationMs > (DURATION_BOUNDS[bucket] as number)) bucket++;
  figures.histogram[bucket] = (figures.histogram[bucket] as number) + 1;
}
