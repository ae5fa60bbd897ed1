import { mkdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startShop, type Shop } from '../shop-app.js';
import { fillProcesses, fillStatistics } from '../fill-statistics.js';
import { playTraffic } from '../shop-traffic.js';
import { settled, show } from './settled.js';
import { describeInBrowser, useBrowser, watch } from './browser.js';
import { screensOf, type Screens } from './screens-of.js';

// Draws every screen into a folder, for people who look at them:
//
//   LOOK=/tmp/pictures npm run test:browser -- pictures
//
// FULL=1 draws the whole height. LOCALE=ja chooses a language. PAGES, SIZES, THEMES and ONLY choose: PAGES=portal SIZES=390 THEMES=dark ONLY=delivery,listeners
const FOLDER = process.env['LOOK'] ?? '';
const chosen = (name: string, all: string) => (process.env[name] || all).split(',');

describe.runIf(FOLDER)('pictures', () => {
  describeInBrowser('of every screen', () => {
    const browser = useBrowser();
    let shop: Shop;
    let screens: Screens;
    beforeAll(async () => {
      shop = await startShop({ startsAt: Date.now() - 4 * 3_600_000 });
      await playTraffic(shop);
      shop.clock.advance(Math.max(0, Date.now() - shop.clock.now()));
      await fillStatistics(shop);
      await fillProcesses(shop);
      screens = await screensOf(shop);
      mkdirSync(FOLDER, { recursive: true });
    });
    afterAll(() => shop?.close());

    it('are drawn', { timeout: 300_000 }, async () => {
      for (const page of chosen('PAGES', 'dashboard,portal')) {
        for (const colorScheme of chosen('THEMES', 'light,dark') as ('light' | 'dark')[]) {
          for (const width of chosen('SIZES', '1440,1024,390').map(Number)) await draw(page, colorScheme, width);
        }
      }
    });

    async function draw(page: string, colorScheme: 'light' | 'dark', width: number): Promise<void> {
      const token = await shop.tokenOf(page === 'dashboard' ? 'operator' : { owner: 'acme' });
      const context = await browser.newContext({
        colorScheme,
        locale: process.env['LOCALE'] || 'en-US',
        viewport: { width, height: width < 500 ? 844 : 900 },
      });
      const tab = await context.newPage();
      const complaints = await watch(tab, [shop.origin]);
      await tab.goto(`${shop.origin}/webhooks/${page}#t=${token}`);
      await settled(tab);
      for (const [name, path] of Object.entries(screens)) {
        if (!chosen('ONLY', name).includes(name)) continue;
        await show(tab, path);
        await tab.screenshot({
          path: `${FOLDER}/${page}-${name}-${width}-${colorScheme}.png`,
          fullPage: Boolean(process.env['FULL']),
        });
      }
      await context.close();
      expect(complaints.all).toEqual([]);
    }
  });
});
