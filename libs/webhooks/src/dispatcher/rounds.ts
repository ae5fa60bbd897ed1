import type { LoggerService } from '@nestjs/common';
import { messageOf } from '../foreign-text.js';
import type { Claims } from './claims.js';
import type { ExpectedWork } from './expected-work.js';
import type { Handshakes } from './handshakes.js';
import type { Lanes } from './lanes.js';
import type { LoopPhase } from './loop-phase.js';
import type { Recorder } from './recorder.js';
import type { Releases } from './releases.js';
import type { Router } from './router.js';
import type { Sender } from './sender.js';
import type { SendingSwitch } from './sending-switch.js';
import type { WorkSearch } from './work-search.js';

export interface RoundsParts {
  readonly eventsPerBatch: number;
  readonly pollIntervalMs: number;
  readonly timeoutMs: number;
  readonly logger: LoggerService;
  readonly lanes: Lanes;
  readonly phase: LoopPhase;
  readonly router: Router;
  readonly sender: Sender;
  readonly recorder: Recorder;
  readonly releases: Releases;
  readonly handshakes: Handshakes;
  readonly claims: Claims;
  readonly search: WorkSearch;
  readonly expected: ExpectedWork;
  readonly sendingSwitch: SendingSwitch;
}

/** The work that one round did. */
export interface RoundResult {
  /** Number of events that were taken from the outbox. */
  readonly events: number;
  /** Number of sent requests, including handshakes. */
  readonly attempts: number;
}

/** Does the dispatcher's work without the loop, in single rounds, or in rounds until no work is left. */
export class Rounds {
  constructor(private readonly parts: RoundsParts) {}

  /** Ends early if the loop is stopping: then everything that a round claims is released. @throws errors of the database */
  async drain(): Promise<RoundResult> {
    const { phase } = this.parts;
    phase.allowRounds();
    let events = 0;
    let attempts = 0;
    for (;;) {
      const round = await this.round();
      events += round.events;
      attempts += round.attempts;
      if (!this.isIdle) await this.idle();
      else if (phase.isStopping || (!round.events && !round.attempts && round.isExhaustive))
        return { events, attempts };
    }
  }

  /**
   * @returns also whether the round handled all pending work. The round may have read only listeners without due deliveries, or may have
   * made only one page of a wide event
   * @throws errors of the database
   */
  async round(): Promise<RoundResult & { readonly isExhaustive: boolean }> {
    const { router, claims, search, releases, handshakes, expected, eventsPerBatch, sendingSwitch } = this.parts;
    await sendingSwitch.look();
    await search.convertAll();
    await claims.reclaim();
    const routed = await router.route({ limit: eventsPerBatch });
    const hasWide = await router.routeWide(expected.pace.portion.page);
    const claimed = await claims.claim();
    await Promise.all([claims.takeAndWait(routed), claims.takeAndWait(claimed)]);
    await releases.releasing;
    await handshakes.settled();
    return {
      events: routed.events,
      attempts: routed.leased.length + claimed.leased.length + claimed.handshakes.length,
      isExhaustive: claimed.isExhaustive && !hasWide,
    };
  }

  /**
   * Routes these events, and makes the first attempts of their deliveries. The promise settles after `timeoutMs` at
   * the latest, and never rejects.
   */
  async deliverNow(eventIds: readonly string[]): Promise<void> {
    const { router, claims, sendingSwitch, timeoutMs, logger } = this.parts;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    const firstAttempts = async () => {
      await sendingSwitch.lookIfOld();
      await claims.takeAndWait(await router.route({ limit: eventIds.length, only: eventIds }));
    };
    try {
      await Promise.race([limit, firstAttempts()]);
    } catch (error) {
      logger.error(`An inline delivery failed and continues as a queued delivery: ${messageOf(error)}`);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until nothing is being sent, recorded or released. */
  async idle(): Promise<void> {
    const { lanes, sender, recorder, releases, handshakes, pollIntervalMs } = this.parts;
    while (!this.isIdle) {
      await recorder.recording;
      await releases.releasing;
      await handshakes.settled();
      if (sender.underWay || !lanes.isEmpty) await sender.ended.wait(pollIntervalMs);
    }
  }

  private get isIdle(): boolean {
    const { lanes, sender, recorder, releases, handshakes } = this.parts;
    return !sender.underWay && lanes.isEmpty && !recorder.recording && !releases.releasing && handshakes.isIdle;
  }
}
