import type { LoggerService } from '@nestjs/common';
import type { ImageConverter } from '../capture/triggers/image-converter.js';
import type { WebhookClock } from '../clock.js';
import type { Engine } from '../engine.js';
import type { DatabaseTime } from '../store/database/database-time.js';
import type { Database } from '../store/database/database.js';
import { readOutlook, type Outlook } from '../store/queue/read-outlook.js';
import type { AttemptStats } from './attempt-stats.js';
import { LEASE_MARGIN_MS, type Claims } from './claims.js';
import type { ExpectedWork } from './expected-work.js';
import type { Lanes } from './lanes.js';
import type { LoopPhase } from './loop-phase.js';
import type { Recorder } from './recorder.js';
import type { Releases } from './releases.js';
import type { Rounds } from './rounds.js';
import type { TaskLoop } from './task-loop.js';
import type { SendingSwitch } from './sending-switch.js';
import type { Heartbeat } from './heartbeat.js';
import type { Troubles, Work } from './troubles.js';
import type { Upkeep } from './upkeep.js';
import type { WakeUps } from './wake-ups/wake-ups.js';
import type { WorkSearch } from './work-search.js';

export interface LoopParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly time: DatabaseTime;
  readonly timeoutMs: number;
  readonly images: ImageConverter;
  readonly upkeep: Upkeep;
  readonly tasks: TaskLoop;
  readonly wakeUps: WakeUps | null;
  readonly logger: LoggerService;
  readonly lanes: Lanes;
  readonly recorder: Recorder;
  readonly releases: Releases;
  readonly claims: Claims;
  readonly search: WorkSearch;
  readonly rounds: Rounds;
  readonly troubles: Troubles;
  readonly phase: LoopPhase;
  readonly expected: ExpectedWork;
  readonly sendingSwitch: SendingSwitch;
  readonly heartbeat: Heartbeat;
  readonly stats: AttemptStats;
  readonly engine: Engine | null;
}

/** The loop of a running dispatcher. It searches for work, sleeps until it expects more work, and polls. */
export class Loop {
  private running: Promise<void> = Promise.resolve();
  /** When the last turn began, by `performance.now()`. */
  turnedAt = 0;

  constructor(private readonly parts: LoopParts) {}

  /** Starts the loop. Does nothing if the loop already runs. */
  start(): void {
    const { engine, phase, expected, wakeUps, upkeep, tasks, heartbeat } = this.parts;
    if (phase.isRunning) return;
    this.running = this.run(phase.start());
    heartbeat.start();
    wakeUps?.listen((isSwitched) => {
      expected.expectImages();
      if (isSwitched) expected.expectPoll();
      this.wake();
    });
    upkeep.start();
    tasks.start();
    engine?.start();
  }

  /** Call this method when there may be work. The loop then searches for work immediately and not only at the next poll. */
  wake(): void {
    const { expected } = this.parts;
    expected.expectEvents();
    expected.expectReady(0);
    expected.signal.raise();
  }

  /**
   * Stops the loop. The promise settles when deliveries in flight are recorded, or when their time limit and {@link
   * LEASE_MARGIN_MS} are over.
   */
  async stop(): Promise<void> {
    const { engine, phase, expected, lanes, releases, upkeep, tasks, timeoutMs, logger } = this.parts;
    phase.stop();
    expected.signal.raise();
    releases.add(lanes.evict());
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, timeoutMs + LEASE_MARGIN_MS, 'late');
    });
    if (
      (await Promise.race([this.complete(Promise.all([upkeep.stop(), tasks.stop(), engine?.stop()])), limit])) ===
      'late'
    ) {
      logger.error(
        'The dispatcher did not stop in time. Deliveries in flight are sent again when their leases expire.',
      );
    }
    clearTimeout(timer);
    phase.end();
  }

  private async complete(upkeepEnded: Promise<unknown>): Promise<void> {
    const { wakeUps, lanes, releases, rounds, heartbeat, stats } = this.parts;
    await wakeUps?.unlisten();
    await this.running;
    await heartbeat.stop();
    await upkeepEnded;
    releases.add(lanes.evict());
    await rounds.idle();
    await stats.write();
  }

  private async run(run: AbortSignal): Promise<void> {
    const { phase, search, troubles, expected } = this.parts;
    expected.expectImages();
    this.wake();
    let work: Work = 'claiming';
    let hasLooked = false;
    while (!run.aborted) {
      this.turnedAt = performance.now();
      try {
        work = 'claiming';
        phase.moveTo('looking', run);
        if (expected.failure) throw expected.failure.error;
        if (!hasLooked) await this.parts.sendingSwitch.look();
        hasLooked = true;
        if (!(await search.look())) {
          phase.moveTo('sleeping', run);
          await expected.signal.wait(expected.sleepMs);
        }
        work = 'polling';
        // Poll even under constant load. Otherwise the leases of a dead process would not be reclaimed.
        if (expected.mayPoll) {
          phase.moveTo('polling', run);
          await this.poll();
        }
      } catch (error) {
        phase.moveTo('resting', run);
        troubles.failed(work, 'The dispatcher cannot use its tables, and retries every second', error);
        await expected.routed();
        expected.expectAll();
        await phase.rest();
      }
    }
    await expected.routed();
  }

  private async poll(): Promise<void> {
    const { database, clock, time, images, recorder, claims, sendingSwitch, troubles, expected } = this.parts;
    expected.beginPoll();
    const began = performance.now();
    const outlook: Outlook = await time.from(() =>
      database.single(() => readOutlook(database, clock.now(), images.tablePaths), 'work'),
    );
    sendingSwitch.see(outlook.sending, began);
    const isExpired = outlook.leaseUntil !== null && outlook.leaseUntil <= clock.now();
    // While records are refused, an expired lease may belong to this process. Its request may already have been sent,
    // so do not reclaim the lease.
    if (isExpired && !recorder.isRefused) await claims.reclaim();
    if (outlook.hasImages) expected.expectImages();
    if (outlook.hasEvents) expected.expectEvents();
    if (outlook.hasWide) expected.expectWide();
    if (outlook.readyAt !== null) expected.expectReady(outlook.readyAt);
    troubles.succeeded('polling');
  }
}
