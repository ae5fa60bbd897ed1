import { setTimeout as sleep } from 'node:timers/promises';
import type { Conversion, ImageConverter } from '../capture/triggers/image-converter.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import type { Engine } from '../engine.js';
import type { Claims } from './claims.js';
import type { ExpectedWork } from './expected-work.js';
import { REST_AFTER_ERROR_MS } from './loop-phase.js';
import type { Router } from './router.js';
import type { Troubles } from './troubles.js';

export interface WorkSearchParts {
  readonly images: ImageConverter;
  readonly router: Router;
  readonly claims: Claims;
  readonly troubles: Troubles;
  readonly expected: ExpectedWork;
  readonly diagnostics: Diagnostics;
  readonly engine: Engine | null;
}

/**
 * Pause before the next search for images while another process converts images. The other process may have searched before the newest
 * images were written.
 */
const CONVERTED_ELSEWHERE_MS = 25;

/** Searches for work: converts images, routes events, and claims deliveries for which the lanes have room. */
export class WorkSearch {
  constructor(private readonly parts: WorkSearchParts) {}

  /**
   * Does one step of each kind of work that is expected now.
   * @returns whether to search once more without sleeping
   * @throws errors of the database
   */
  async look(): Promise<boolean> {
    const { router, troubles, expected } = this.parts;
    let isBusy = await this.convertSome();
    if (expected.mayRoute) router.routeInBackground();
    if (expected.mayPage) {
      const began = performance.now();
      await router.page(expected.pace.portion.page);
      expected.pace.ended(began, true);
      isBusy ||= expected.mayPage;
    }
    if (expected.mayClaim) {
      const count = this.parts.engine?.isAvailable ? await this.claimGiven(this.parts.engine) : await this.claimReady();
      isBusy ||= count > 0 && expected.mayClaim;
    }
    if (!expected.isRouting) troubles.succeeded('claiming');
    return isBusy || expected.mayRoute;
  }

  /** Claims the listeners that are ready in the database. @returns the number of deliveries */
  private async claimReady(): Promise<number> {
    const { claims, expected } = this.parts;
    const began = performance.now();
    expected.beginClaim();
    const claimed = await claims.claim();
    expected.pace.ended(began, !claimed.isExhaustive || expected.hasWide);
    claims.take(claimed);
    if (!claimed.isExhaustive || claimed.leased.length) expected.expectReady(0);
    return claimed.leased.length;
  }

  /** Claims the listeners that the engine gives to this process. @returns the number of deliveries */
  private async claimGiven(engine: Engine): Promise<number> {
    const { claims, expected } = this.parts;
    const began = performance.now();
    const count = await claims.claimGiven(engine.take(expected.pace.portion.claim));
    expected.pace.ended(began, engine.hasWaiting || expected.hasWide);
    return count;
  }

  /**
   * Converts all images. If another process converts some of them, the method waits for that process. @throws errors of
   * the database
   */
  async convertAll(): Promise<void> {
    for (;;) {
      const made = await this.convert();
      if (made === 'nothing') return;
      if (made === 'elsewhere') await sleep(CONVERTED_ELSEWHERE_MS);
    }
  }

  /** @throws errors of the database */
  private convert(): Promise<Conversion> {
    const { diagnostics, images } = this.parts;
    // Without triggers, there is no step to measure.
    return images.tablePaths.length ? diagnostics.step('convert', () => images.convert()) : images.convert();
  }

  /**
   * Converts one batch of images, if images are expected.
   * @returns whether there may be more images
   */
  private async convertSome(): Promise<boolean> {
    const { troubles, expected } = this.parts;
    if (!expected.mayConvert) return false;
    expected.beginConversion();
    let made: Conversion;
    try {
      made = await this.convert();
    } catch (error) {
      // The images stay pending. Events that are already in the outbox need not wait for these images.
      troubles.failed(
        'converting',
        'Rows captured by triggers cannot be turned into events; the dispatcher retries every second',
        error,
      );
      expected.expectImages(REST_AFTER_ERROR_MS);
      return false;
    }
    troubles.succeeded('converting');
    if (made === 'elsewhere') expected.expectImages(CONVERTED_ELSEWHERE_MS);
    if (made !== 'some') return false;
    expected.expectImages();
    expected.expectEvents();
    return true;
  }
}
