import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WORKSPACE } from '../../support/scratch-project.js';
import { startShop, type Shop } from '../shop-app.js';
import { fillProcesses, fillStatistics } from '../fill-statistics.js';
import { playTraffic } from '../shop-traffic.js';
import { describeInBrowser, useBrowser, watch } from './browser.js';
import { screensOf } from './screens-of.js';
import { settled, show } from './settled.js';

const FOLDER = join(WORKSPACE, 'docs/images');
const KIB = 1024;
const MAX_BYTES = 120 * KIB;

const PICTURES = [
  ['overview', 'dashboard', 'overview'],
  ['delivery', 'dashboard', 'delivery'],
  ['editor', 'portal', 'listener-edit'],
] as const;

// Draws the pictures of README.md: npm run pictures
describe.runIf(process.env['README_PICTURES'])('pictures of README.md', () => {
  describeInBrowser('from the real pages', () => {
    const browser = useBrowser();
    let shop: Shop;
    beforeAll(async () => {
      shop = await startShop({ startsAt: Date.now() - 5 * 3_600_000 });
      await playTraffic(shop);
      shop.clock.advance(Math.max(0, Date.now() - shop.clock.now()));
      await fillStatistics(shop);
      await fillProcesses(shop);
      mkdirSync(FOLDER, { recursive: true });
    });
    afterAll(() => shop?.close());

    it.each(PICTURES)('%s.png is drawn, and small', async (file, name, screen) => {
      const context = await browser.newContext({ colorScheme: 'light', viewport: { width: 1200, height: 720 } });
      const page = await context.newPage();
      const complaints = await watch(page, [shop.origin]);
      const token = await shop.tokenOf(name === 'dashboard' ? 'operator' : { owner: 'acme' });
      await page.goto(`${shop.origin}/webhooks/${name}#t=${token}`);
      await settled(page);
      await show(page, (await screensOf(shop))[screen] ?? '');
      // The editor asks for its preview after one has stopped typing.
      if (screen === 'listener-edit') await page.getByText(/^Matches \d+ of the last/).waitFor();
      const path = join(FOLDER, `${file}.png`);
      await page.screenshot({ path });
      expect(statSync(path).size).toBeLessThan(MAX_BYTES);
      complaints.none();
      await context.close();
    });
  });
});
