import type { InFlightDeliveries } from '../deliveries/in-flight.js';
import type { WebhookClock } from '../clock.js';
import type { Database } from '../store/database/database.js';
import { releaseDeliveries } from '../store/queue/release-deliveries.js';
import { settleLeases } from '../store/outbox/leases.js';
import type { ExpectedWork } from './expected-work.js';
import type { LanedDelivery } from './lanes.js';
import type { LoopPhase } from './loop-phase.js';
import type { OneAtATime } from './one-at-a-time.js';
import type { Troubles } from './troubles.js';

export interface ReleasesParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly leases: OneAtATime;
  readonly inFlight: InFlightDeliveries;
  readonly troubles: Troubles;
  readonly phase: LoopPhase;
  readonly expected: ExpectedWork;
}

/** Releases leased deliveries that were not sent. Another process can claim released deliveries before their leases expire. */
export class Releases {
  private readonly toRelease: LanedDelivery[] = [];
  private running: Promise<void> | null = null;

  constructor(private readonly parts: ReleasesParts) {}

  /** A promise that settles when everything is released; `null` when there is nothing to release. */
  get releasing(): Promise<void> | null {
    return this.running;
  }

  /** Releases deliveries without delay. One statement releases all deliveries that arrive at the same time. */
  add(laned: readonly LanedDelivery[]): void {
    if (!laned.length) return;
    this.toRelease.push(...laned);
    this.running ??= this.releaseAll();
  }

  private async releaseAll(): Promise<void> {
    const { database, clock, leases, inFlight, troubles, phase, expected } = this.parts;
    await Promise.resolve();
    while (this.toRelease.length) {
      const batch = this.toRelease.splice(0);
      const released = batch.map(({ delivery }) => delivery);
      try {
        await leases.run(async () => {
          await database.transaction(() => releaseDeliveries(database, released, clock.now()), 'work');
          settleLeases(released);
        });
        troubles.succeeded('releasing');
        expected.expectReady(0, [...new Set(released.map(({ listener }) => listener.id))]);
      } catch (error) {
        troubles.failed(
          'releasing',
          `${batch.length} deliveries could not be released; these deliveries are sent when their leases expire`,
          error,
        );
        if (phase.keepsRunning) {
          this.toRelease.unshift(...batch);
          await phase.rest();
          continue;
        }
      }
      for (const { delivery, settled } of batch) {
        inFlight.delete(delivery);
        settled?.();
      }
    }
    this.running = null;
    expected.expectReady(0);
  }
}
