import { setTimeout as sleep } from 'node:timers/promises';
import type { Conversion, ImageConverter } from '../capture/triggers/image-converter.js';
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
}

/**
 * Pause before the next look for images while another process converts some: it may have looked before the newest were
 * written.
 */
const CONVERTED_ELSEWHERE_MS = 25;

/** Looks for work: converts images, routes events, and claims deliveries, as far as the lanes have room. */
export class WorkSearch {
  constructor(private readonly parts: WorkSearchParts) {}

  /**
   * Does one step of each kind of work that is expected now.
   * @returns whether to search once more without sleeping
   * @throws errors of the database
   */
  async look(): Promise<boolean> {
    const { router, claims, troubles, expected } = this.parts;
    let isBusy = await this.convertSome();
    if (expected.mayRoute) router.routeInBackground();
    if (expected.mayPage) {
      const began = performance.now();
      await router.page(expected.pace.portion.page);
      expected.pace.ended(began, true);
      isBusy ||= expected.mayPage;
    }
    if (expected.mayClaim) {
      const began = performance.now();
      expected.beginClaim();
      const claimed = await claims.claim();
      expected.pace.ended(began, !claimed.isExhaustive || expected.hasWide);
      claims.take(claimed);
      if (!claimed.isExhaustive || claimed.leased.length) expected.expectReady(0);
      isBusy ||= claimed.leased.length > 0 && expected.mayClaim;
    }
    if (!expected.isRouting) troubles.succeeded('claiming');
    return isBusy || expected.mayRoute;
  }

  /** Converts all images, and waits for another process that converts some. @throws errors of the database */
  async convertAll(): Promise<void> {
    for (;;) {
      const made = await this.parts.images.convert();
      if (made === 'nothing') return;
      if (made === 'elsewhere') await sleep(CONVERTED_ELSEWHERE_MS);
    }
  }

  /**
   * Converts one batch of images, if any are expected.
   * @returns whether there may be more
   */
  private async convertSome(): Promise<boolean> {
    const { images, troubles, expected } = this.parts;
    if (!expected.mayConvert) return false;
    expected.beginConversion();
    let made: Conversion;
    try {
      made = await images.convert();
    } catch (error) {
      // The images stay pending. Events that are already in the outbox need not wait for them.
      troubles.failed(
        'converting',
        'Rows captured by triggers cannot be turned into events; this is retried every second',
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
