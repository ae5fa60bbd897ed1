import type { WebhookClock } from '../clock.js';
import type { Database } from '../store/database/database.js';
import { releaseDeliveries } from '../store/queue/record-attempts.js';
import type { ExpectedWork } from './expected-work.js';
import type { LanedDelivery } from './lanes.js';
import type { LoopPhase } from './loop-phase.js';
import type { Troubles } from './troubles.js';

export interface ReleasesParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly troubles: Troubles;
  readonly phase: LoopPhase;
  readonly expected: ExpectedWork;
}

/** Releases leased deliveries, unsent, so that another process can claim them before their leases expire. */
export class Releases {
  private readonly toRelease: LanedDelivery[] = [];
  private running: Promise<void> | null = null;

  constructor(private readonly parts: ReleasesParts) {}

  /** Settles when everything is released; `null` when there is nothing to release. */
  get releasing(): Promise<void> | null {
    return this.running;
  }

  /** Releases deliveries without delay, with one statement for all that come together. */
  add(laned: readonly LanedDelivery[]): void {
    if (!laned.length) return;
    this.toRelease.push(...laned);
    this.running ??= this.releaseAll();
  }

  private async releaseAll(): Promise<void> {
    const { database, clock, troubles, phase, expected } = this.parts;
    await Promise.resolve();
    while (this.toRelease.length) {
      const batch = this.toRelease.splice(0);
      const leases = batch.map(({ delivery }) => delivery);
      try {
        await database.transaction(() => releaseDeliveries(database, leases, clock.now()), 'work');
        troubles.succeeded('releasing');
      } catch (error) {
        troubles.failed(
          'releasing',
          `${batch.length} deliveries could not be released; they are sent when their leases expire, at the latest`,
          error,
        );
        if (phase.keepsRunning) {
          this.toRelease.unshift(...batch);
          await phase.rest();
          continue;
        }
      }
      for (const { settled } of batch) settled?.();
    }
    this.running = null;
    expected.expectReady(0);
  }
}
