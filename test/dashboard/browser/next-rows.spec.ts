import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { copiedId, copyRows } from '../copy-rows.js';
import { Order, startShop, type Shop } from '../shop-app.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';
import { problem, REQUEST } from './problem.js';
import { show } from './settled.js';

const ROWS = 450;
const DAY = 24 * 3_600_000;
const NEXT_PAGE = /[?&]cursor=/;
/** Beyond every row that is loaded. */
const TURN_PX = 20_000;

/** The screen, and how many rows it reads first. */
const LISTS = [
  ['/deliveries', 100],
  ['/listeners', 100],
  ['/events', 100],
  ['/tasks', 50],
] as const;

describeInBrowser('a list that is longer than a page of the API', () => {
  const browser = useBrowser();
  let shop: Shop;
  let opened: OpenPage;
  let page: Page;
  beforeAll(async () => {
    shop = await startShop();
    await fill(shop);
  });
  afterAll(() => shop?.close());
  beforeEach(async () => {
    opened = await openPage(browser, shop, 'operator', '/nothing');
    ({ page } = opened);
  });
  afterEach(() => opened?.context.close());

  const end = () => page.locator('.list-end');
  const tryAgain = () => end().getByRole('button', { name: 'Try again' });

  /** Counts the questions for a next page, each of which fails. */
  async function failNextPages(): Promise<{ asked: number }> {
    const count = { asked: 0 };
    await page.route(NEXT_PAGE, (route) => {
      count.asked += 1;
      return problem(503, 'DATABASE_UNAVAILABLE')(route);
    });
    return count;
  }

  async function scroll(byPx: number): Promise<void> {
    await page.locator('.grid-body').hover();
    await page.mouse.wheel(0, byPx);
  }

  describe.each(LISTS)('%s, whose next rows cannot be loaded', (path, first) => {
    it('says so at its end with the code and the id of the request, and asks once', async () => {
      const count = await failNextPages();
      await show(page, path);
      await scroll(TURN_PX);
      await end().getByText('The next rows could not be loaded').waitFor();
      await end().getByText('About DATABASE_UNAVAILABLE.').waitFor();
      await end().getByText(`DATABASE_UNAVAILABLE · ${REQUEST}`).waitFor();
      await scroll(-TURN_PX);
      await scroll(TURN_PX);
      await page.locator(`[aria-rowindex="${first + 1}"]`).waitFor();
      expect(count.asked).toBe(1);
      expect(await loadedRows(page)).toBe(first);
    });

    it('goes on from there, up to its last row', async () => {
      const count = await failNextPages();
      await show(page, path);
      await scroll(TURN_PX);
      await tryAgain().click();
      await expect.poll(() => count.asked).toBe(2);
      // It fails again, and says so again.
      await page.locator('.list-end button:not([aria-disabled])').waitFor();
      await page.unrouteAll();
      await tryAgain().click();
      await end().waitFor({ state: 'detached' });
      await expect.poll(() => loadedRows(page)).toBeGreaterThan(first);
      await expect
        .poll(async () => {
          await scroll(TURN_PX);
          return page.locator(`[aria-rowindex="${ROWS + 1}"]`).count();
        })
        .toBe(1);
      expect(await loadedRows(page)).toBe(ROWS);
      expect(await page.locator('.grid-table').getAttribute('aria-rowcount')).toBe(String(ROWS + 1));
    });
  });

  it('takes a reader without a mouse from the button to the first of the new rows', async () => {
    await failNextPages();
    await show(page, '/events');
    await scroll(TURN_PX);
    await tryAgain().focus();
    await page.unrouteAll();
    await page.keyboard.press('Enter');
    await expect.poll(() => focusedRow(page)).toBe(101);
  });

  it('of the audit log keeps its rows when the next ones cannot be loaded', async () => {
    await failNextPages();
    await show(page, '/system?tab=audit');
    await page.getByRole('button', { name: 'Show more' }).click();
    await end().getByText(`DATABASE_UNAVAILABLE · ${REQUEST}`).waitFor();
    expect(await page.locator('tbody tr').count()).toBe(50);
    await page.unrouteAll();
    await tryAgain().click();
    await page.locator('tbody tr').nth(99).waitFor();
    expect(await end().count()).toBe(0);
    await page.getByRole('button', { name: 'Show more' }).waitFor();
  });

  describe('with the focus on a row', () => {
    /** Until the rows of the first view are no part of the document. */
    async function scrollAway(): Promise<void> {
      await scroll(TURN_PX);
      await page.locator('[aria-rowindex="20"]').waitFor({ state: 'detached' });
    }

    it('keeps it while the reader scrolls away, and goes on from there', async () => {
      await show(page, '/deliveries');
      await page.keyboard.press('j');
      await page.keyboard.press('j');
      expect(await focusedRow(page)).toBe(2);
      await scrollAway();
      expect(await focusedRow(page)).toBe(2);

      await page.keyboard.press('j');
      expect(await focusedRow(page)).toBe(3);
      await page.locator('[aria-rowindex="20"]').waitFor();
      await scrollAway();
      await page.keyboard.press('Shift+Tab');
      await page.keyboard.press('Shift+Tab');
      expect(await focusedRow(page)).toBe(2);
    });

    it('leaves no row behind when the reader goes elsewhere', async () => {
      await show(page, '/deliveries');
      await page.keyboard.press('j');
      await page.getByRole('button', { name: 'Pause' }).focus();
      await scroll(TURN_PX);
      await page.locator('[aria-rowindex="101"]').waitFor();
      await expect.poll(() => page.locator('[aria-rowindex="2"]').count()).toBe(0);
    });

    it('keeps it when new rows come above', async () => {
      await show(page, '/tasks?state=queued');
      await page.keyboard.press('j');
      const id = await focusedTarget(page);
      const task = await newTask(shop);
      await page.locator(`.row-link[href="#/tasks/${task.id}"]`).waitFor();
      expect(await focusedTarget(page)).toBe(id);
      expect(await focusedRow(page)).toBe(2);
    });

    it('hands it to the row that takes its place when it leaves the list', async () => {
      await show(page, '/tasks?state=queued');
      await page.keyboard.press('j');
      await page.keyboard.press('j');
      const focused = page.locator(`.row-link[href="${await focusedTarget(page)}"]`);
      const after = await page.locator('[aria-rowindex="4"] .row-link').getAttribute('href');
      await shop.tasks.cancel((await focusedTarget(page)).replace('#/tasks/', ''));
      await focused.waitFor({ state: 'detached' });
      expect(await focusedRow(page)).toBe(2);
      expect(await focusedTarget(page)).toBe(after);
    });
  });
});

/** How many rows the list has loaded: its height, because only the rows in view are in the document. */
function loadedRows(page: Page): Promise<number> {
  return page.locator('.grid-space').evaluate((space) => {
    const row = space.querySelector('.grid-row') as HTMLElement;
    return Math.round(space.clientHeight / row.offsetHeight);
  });
}

/** The number of the row that has the focus, from 1; 0 if no row has it. */
function focusedRow(page: Page): Promise<number> {
  return page.evaluate(() => {
    const row = document.activeElement?.closest('[aria-rowindex]');
    return row ? Number(row.getAttribute('aria-rowindex')) - 1 : 0;
  });
}

function focusedTarget(page: Page): Promise<string> {
  return page.evaluate(() => document.activeElement?.getAttribute('href') ?? '');
}

function newTask({ tasks, clock }: Shop) {
  return tasks.create({ kind: 'recover', since: new Date(clock.now() - DAY) });
}

/** So many rows in each list. */
async function fill(shop: Shop): Promise<void> {
  await shop.listeners.create({ name: 'Orders', url: shop.url('hooks.acme.test/'), events: ['order.*'] });
  await shop.dataSource.getRepository(Order).save({ customer: 'acme', status: 'new', total: '5.00' });
  await shop.dispatcher.drain();
  await newTask(shop);
  const older = { created_at: `created_at - n.i * 1000` };
  await copyRows(shop, 'webhook_listeners', ROWS, { ...older, id: copiedId('lst', 'n.i') });
  await copyRows(shop, 'webhook_events', ROWS, { ...older, id: copiedId('evt', 'n.i') });
  await copyRows(shop, 'webhook_deliveries', ROWS, {
    ...older,
    ...{ id: copiedId('dlv', 'n.i'), event_seq: 'event_seq + n.i', state: `'succeeded'` },
  });
  await copyRows(shop, 'webhook_tasks', ROWS, { ...older, id: copiedId('tsk', 'n.i') });
  await copyRows(shop, 'webhook_audit', ROWS, { at: 'at - n.i * 1000' });
}
