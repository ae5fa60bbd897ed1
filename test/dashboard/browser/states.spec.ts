import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startShop, type Shop } from '../shop-app.js';
import { playTraffic } from '../shop-traffic.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';
import { problem, REQUEST } from './problem.js';
import { showWith } from './states-of.js';

/** The screens of the navigation, and what each shows when all is well. */
const SCREENS = [
  ['/overview', '.tile'],
  ['/deliveries', '.grid-row'],
  ['/events', '.grid-row'],
  ['/listeners', '.grid-row'],
  ['/catalogue', 'a[href^="#/catalogue/"]'],
  ['/tasks', '.empty'],
  ['/system', 'h2:text-is("Webhooks are sent")'],
  ['/listeners/new', '.type-groups'],
] as const;

describeInBrowser('a screen that cannot show its data', () => {
  const browser = useBrowser();
  let shop: Shop;
  let opened: OpenPage;
  let page: Page;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 2 * 3_600_000 });
    await playTraffic(shop, 3);
  });
  afterAll(() => shop?.close());
  afterEach(() => opened?.context.close());

  describe.each(SCREENS)('%s', (path, shown) => {
    // A screen of another kind, so that nothing of this one is known yet.
    beforeEach(async () => {
      opened = await openPage(browser, shop, 'operator', '/nothing');
      ({ page } = opened);
    });

    it('says what failed with the code and the id of the request, and tries again', async () => {
      await showWith(page, path, problem(500, 'INTERNAL'));
      const alert = page.getByRole('alert').first();
      await alert.getByText('This did not work').waitFor();
      await alert.getByText('About INTERNAL.').waitFor();
      await alert.getByText(`INTERNAL · ${REQUEST}`).waitFor();
      await page.unrouteAll();
      await tryAgain();
      await page.locator(shown).first().waitFor();
    });

    it('says that the server cannot be reached, and shows the data when it can', async () => {
      await showWith(page, path, (route) => route.abort());
      await page.getByRole('alert').first().getByText('The server cannot be reached').waitFor();
      await page.unrouteAll();
      await tryAgain();
      await page.locator(shown).first().waitFor();
    });

    it('says what the person may not see', async () => {
      await showWith(page, path, problem(403, 'FORBIDDEN'));
      const alert = page.getByRole('alert').first();
      await alert.getByText('You may not see this').waitFor();
      await alert.getByText(`FORBIDDEN · ${REQUEST}`).waitFor();
      expect(await page.locator(`${shown}:not(.red)`).count()).toBe(0);
    });

    it('says that the session is over, and keeps nothing on the screen', async () => {
      await showWith(page, path, problem(401, 'UNAUTHENTICATED'));
      await page.getByRole('heading', { name: 'Your session is over' }).waitFor();
      expect(await page.getByRole('navigation').count()).toBe(0);
      expect(await page.locator('.grid-row, table').count()).toBe(0);
    });
  });

  /** Presses the buttons of all parts of the screen at once, because a part may load again by itself. */
  async function tryAgain(): Promise<void> {
    await page
      .getByRole('button', { name: 'Try again' })
      .evaluateAll((buttons) => buttons.forEach((button) => (button as HTMLElement).click()));
  }
});
