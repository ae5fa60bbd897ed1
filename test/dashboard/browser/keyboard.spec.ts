import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Order, startShop, type Shop } from '../shop-app.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage } from './page-of.js';
import { settled } from './settled.js';

const MAX_TABS = 120;

/** The name of what has the focus: its label, or its text. */
function focusedName(page: Page): Promise<string> {
  return page.evaluate(() => {
    const element = document.activeElement as HTMLElement & { labels?: NodeListOf<HTMLLabelElement> };
    const label = element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent;
    return (label ?? element.textContent ?? '').trim();
  });
}

/** Presses Tab until something has the focus. */
async function tabTo(page: Page, name: string | RegExp): Promise<void> {
  const passed: string[] = [];
  for (let presses = 0; presses < MAX_TABS; presses++) {
    await page.keyboard.press('Tab');
    const focused = await focusedName(page);
    if (typeof name === 'string' ? focused === name : name.test(focused)) {
      const isVisible = await page.evaluate(() => document.activeElement?.matches(':focus-visible'));
      expect(isVisible, `${String(name)} shows that it has the focus`).toBe(true);
      return;
    }
    passed.push(focused.slice(0, 40));
  }
  throw new Error(`Tab does not reach ${String(name)}. It reaches: ${passed.join(' | ')}`);
}

async function chord(page: Page, letter: string, heading: string): Promise<void> {
  // Shortcuts do not act while one types.
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  await page.keyboard.press('g');
  await page.keyboard.press(letter);
  await page.getByRole('heading', { level: 1, name: heading }).waitFor();
  await settled(page);
}

describeInBrowser('a day without a mouse', () => {
  const browser = useBrowser();
  let shop: Shop;
  beforeAll(async () => {
    shop = await startShop();
    shop.receiver.respond(({ url }) =>
      url.endsWith('/broken') ? { status: 503, body: 'The database is being moved.' } : { status: 204 },
    );
  });
  afterAll(() => shop?.close());

  it(
    'creates a listener, tests it, sees it fail, reads why, mends it, resends, disables and enables, and recovers in bulk',
    { timeout: 120_000 },
    async () => {
      const { page, context, complaints } = await openPage(browser, shop, { owner: 'acme' }, '/deliveries');
      const { keyboard } = page;

      await chord(page, 'l', 'Endpoints');
      await tabTo(page, 'Add endpoint');
      await keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'Add endpoint' }).waitFor();
      await settled(page);
      await tabTo(page, 'URL');
      await keyboard.type(shop.url('hooks.acme.test/broken'));
      await page.getByText('Requests may be sent to this address.').waitFor();
      await tabTo(page, /^order\.updated/);
      await keyboard.press('Space');
      await tabTo(page, 'Add endpoint');
      await keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'The endpoint is created' }).waitFor();

      await tabTo(page, 'Send test event');
      await keyboard.press('Enter');
      await page.getByRole('tab', { name: 'Test', selected: true }).waitFor();
      await settled(page);
      await tabTo(page, 'Send test event');
      await keyboard.press('Enter');
      await page.getByText('Open delivery').waitFor();
      await shop.dispatcher.drain();
      await page.getByText('503', { exact: false }).first().waitFor();
      await tabTo(page, 'Open delivery');
      await keyboard.press('Enter');
      await page.getByText('The receiver answered with HTTP 503.').waitFor();
      await page.getByText('The database is being moved.').waitFor();

      // A real event fails, too.
      await shop.dataSource.getRepository(Order).save({ customer: 'acme', status: 'new', total: '5.00' });
      const [order] = await shop.dataSource.getRepository(Order).find();
      await shop.dataSource.getRepository(Order).save({ ...order, status: 'paid' });
      await shop.dispatcher.drain();

      await chord(page, 'l', 'Endpoints');
      await page.getByText('Failing').first().waitFor();
      await keyboard.press('j');
      await keyboard.press('Enter');
      await page.getByRole('tab', { name: 'Settings' }).waitFor();
      await settled(page);
      await tabTo(page, 'Edit');
      await keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'Edit endpoint' }).waitFor();
      await settled(page);
      await tabTo(page, 'URL');
      await keyboard.press('Control+a');
      await keyboard.type(shop.url('hooks.acme.test/mended'));
      await keyboard.press('Enter');
      await page.getByText('The endpoint is saved').waitFor();

      await chord(page, 'd', 'Deliveries');
      await keyboard.press('j');
      await keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'order.updated' }).waitFor();
      await settled(page);
      await keyboard.press('r');
      await page.getByText('The delivery is sent again').waitFor();
      await shop.dispatcher.drain();
      await page.getByText('Delivered').first().waitFor();

      await chord(page, 'l', 'Endpoints');
      await page.getByText('Healthy').first().waitFor();
      await keyboard.press('j');
      await keyboard.press('Enter');
      await page.getByRole('tab', { name: 'Settings' }).waitFor();
      await settled(page);
      await tabTo(page, 'Disable');
      await keyboard.press('Enter');
      await page.getByText('This endpoint is disabled', { exact: false }).waitFor();
      await tabTo(page, 'Enable');
      await keyboard.press('Enter');
      await page.getByText('This endpoint is active, and its last attempt did not fail.').waitFor();
      const [listener] = (await shop.listeners.list({ owner: 'acme' })).items;
      expect(listener).toMatchObject({ state: 'active', url: shop.url('hooks.acme.test/mended'), failuresInARow: 0 });

      // While the receiver was broken, every try was used up.
      await shop.dataSource.query(`UPDATE webhook_deliveries SET state = 'exhausted'`);
      const { length } = (await shop.deliveries.list({ state: 'exhausted' })).items;
      expect(length).toBeGreaterThan(1);
      await chord(page, 't', 'Tasks');
      await tabTo(page, 'New task');
      await keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'New task' }).waitFor();
      await settled(page);
      await tabTo(page, 'Count');
      await keyboard.press('Enter');
      await page.getByText(`${length} deliveries`, { exact: true }).waitFor();
      await tabTo(page, 'Start the task');
      await keyboard.press('Enter');
      await page.getByRole('alertdialog').waitFor();
      await tabTo(page, 'Start the task');
      await keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'Resend deliveries' }).waitFor();
      const [task] = (await shop.tasks.list()).items;
      await shop.tasks.run(task?.id ?? '');
      await page.getByText(`${length} of ${length}`).waitFor();
      await shop.dispatcher.drain();
      expect((await shop.deliveries.list({ state: 'succeeded' })).items).toHaveLength(length);

      await keyboard.press('?');
      await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
      await keyboard.press('Escape');
      await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor({ state: 'detached' });
      complaints.none();
      await context.close();
    },
  );
});
