import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startShop, type Shop } from '../shop-app.js';
import { playTraffic } from '../shop-traffic.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage } from './page-of.js';
import { screensOf, type Screens } from './screens-of.js';
import { show } from './settled.js';

const WIDTHS = [1440, 1024, 390] as const;
const MAX_FRAMES = 60;

describeInBrowser('a page that is read from right to left', () => {
  const browser = useBrowser();
  let shop: Shop;
  let screens: Screens;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 5 * 3_600_000 });
    await playTraffic(shop, 6);
    screens = await screensOf(shop);
  });
  afterAll(() => shop?.close());

  describe.each(['dashboard', 'portal'] as const)('of the %s', (name) => {
    it(
      `has its navigation on the right and nothing beyond its edges, at ${WIDTHS.join(', ')} pixels`,
      { timeout: 240_000 },
      async () => {
        const who = name === 'dashboard' ? 'operator' : { owner: 'acme' };
        const { page, context, complaints } = await openPage(browser, shop, who);
        await page.evaluate(() => (document.documentElement.dir = 'rtl'));
        const faults: string[] = [];
        for (const [screen, path] of Object.entries(screens)) {
          await show(page, path);
          for (const width of WIDTHS) {
            await page.setViewportSize({ width, height: 900 });
            for (const fault of await beyondEdgesAtLast(page)) faults.push(`${screen} at ${width}: ${fault}`);
            const isMirrored = await (
              name === 'dashboard' && width > 1100 ? isSidebarOnTheRight : isFirstEntryOnTheRight
            )(page);
            if (!isMirrored) faults.push(`${screen} at ${width}: the navigation is on the left`);
          }
        }
        expect(faults).toEqual([]);
        complaints.none();
        await context.close();
      },
    );
  });

  it('still shows code, ids and URLs from left to right', async () => {
    const { page, context } = await openPage(browser, shop, 'operator', screens['delivery']);
    await page.evaluate(() => (document.documentElement.dir = 'rtl'));
    const directions = await page
      .locator('pre, code, .mono')
      .evaluateAll((all) => [...new Set(all.map((one) => getComputedStyle(one).direction))]);
    expect(directions).toEqual(['ltr']);
    // The button that copies does not cover where the code begins.
    const code = page.locator('.code').filter({ has: page.locator('.code-copy') });
    const [block, copy] = await Promise.all([code, code.locator('.code-copy')].map((one) => one.first().boundingBox()));
    expect(copy?.x).toBeGreaterThan((block?.x ?? 0) + (block?.width ?? 0) / 2);
    await context.close();
  });
});

/** A chart takes its new width in a later frame. */
async function beyondEdgesAtLast(page: Page): Promise<string[]> {
  let beyond = await beyondEdges(page);
  for (let frames = 0; beyond.length > 0 && frames < MAX_FRAMES; frames++) {
    await page.evaluate(() => new Promise(requestAnimationFrame));
    beyond = await beyondEdges(page);
  }
  return beyond;
}

/** What one could not see without scrolling the page sideways, or at all. Parts that scroll by themselves may be wider. */
function beyondEdges(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const { clientWidth } = document.documentElement;
    const clips = (element: Element) => getComputedStyle(element).overflowX !== 'visible';
    const isClipped = (element: Element): boolean => {
      for (let above = element.parentElement; above !== null && above !== document.body; above = above.parentElement) {
        if (clips(above)) return true;
      }
      return false;
    };
    return [...document.querySelectorAll('#root *, body > *')]
      .filter((element) => {
        const { left, right, width } = element.getBoundingClientRect();
        return width > 1 && (left < -1 || right > clientWidth + 1) && !isClipped(element);
      })
      .map((element) => `${element.tagName.toLowerCase()}.${element.getAttribute('class') ?? ''}`);
  });
}

function isSidebarOnTheRight(page: Page): Promise<boolean> {
  return page.evaluate(() => {
    const leftOf = (selector: string) => document.querySelector(selector)?.getBoundingClientRect().left ?? Number.NaN;
    return leftOf('.sidebar') > leftOf('.main');
  });
}

function isFirstEntryOnTheRight(page: Page): Promise<boolean> {
  return page.evaluate(() => {
    const [first, second] = [...document.querySelectorAll('.nav a')].map((one) => one.getBoundingClientRect().left);
    return Number(first) > Number(second);
  });
}
