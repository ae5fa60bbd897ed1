import axe from 'axe-core';
import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startShop, type Shop } from '../shop-app.js';
import { playTraffic } from '../shop-traffic.js';
import { describeInBrowser, useBrowser, watch, type Complaints } from './browser.js';
import { screensOf, type Screens } from './screens-of.js';
import { settled, show } from './settled.js';

const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const HOURS = 3_600_000;

async function faultsOf(page: Page): Promise<string[]> {
  return page.evaluate(async (values) => {
    const { violations } = await (window as unknown as { axe: typeof axe }).axe.run(document, {
      runOnly: { type: 'tag', values },
      resultTypes: ['violations'],
    });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`);
  }, RULES);
}

describeInBrowser('every screen', () => {
  const browser = useBrowser();
  let shop: Shop;
  let screens: Screens;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 5 * HOURS });
    await playTraffic(shop, 6);
    screens = await screensOf(shop);
  });
  afterAll(() => shop?.close());

  describe.each([
    ['dashboard', 'light'],
    ['dashboard', 'dark'],
    ['portal', 'light'],
    ['portal', 'dark'],
  ] as const)('of the %s, in %s colours', (name, colorScheme) => {
    let context: BrowserContext;
    let page: Page;
    let complaints: Complaints;
    beforeEach(async () => {
      context = await browser.newContext({ colorScheme, viewport: { width: 1280, height: 900 } });
      page = await context.newPage();
      complaints = await watch(page, [shop.origin]);
      const token = await shop.tokenOf(name === 'dashboard' ? 'operator' : { owner: 'acme' });
      await page.goto(`${shop.origin}/webhooks/${name}#t=${token}`);
      await settled(page);
    });
    afterEach(() => context?.close());

    it('has no fault that axe finds, no error, and asks no other server', { timeout: 120_000 }, async () => {
      // The application stays in one document, so axe is loaded once.
      await page.evaluate(axe.source);
      const faults: string[] = [];
      for (const [screen, path] of Object.entries(screens)) {
        await show(page, path);
        for (const fault of await faultsOf(page)) faults.push(`${screen}: ${fault}`);
      }
      expect(faults).toEqual([]);
      complaints.none();
    });

    it('does not keep the token in the URL or in the storage of the browser', async () => {
      expect(page.url()).not.toContain('whs_');
      const stored = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
      expect(stored).toEqual([0, 0, '']);
    });
  });
});
