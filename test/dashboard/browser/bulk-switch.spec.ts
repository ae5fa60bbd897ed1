import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { startShop, type Shop } from '../shop-app.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';
import { show } from './settled.js';

const NAMES = ['Billing', 'Orders', 'Warehouse', 'Analytics'];

describeInBrowser('several listeners at once', () => {
  const browser = useBrowser();
  let shop: Shop;
  let opened: OpenPage;
  let page: Page;
  beforeEach(async () => {
    shop ??= await startShop();
    for (const { id } of (await shop.listeners.list()).items) await shop.listeners.remove(id);
    for (const name of NAMES) {
      const url = shop.url(`hooks.acme.test/${name.toLowerCase()}`);
      await shop.listeners.create({ owner: 'acme', name, url, events: ['order.*'] });
    }
    opened = await openPage(browser, shop, { owner: 'acme' }, '/listeners');
    ({ page } = opened);
  });
  afterEach(() => opened?.context.close());
  afterAll(() => shop?.close());

  const box = (name: string) => page.getByRole('checkbox', { name: `Select ${name}` });
  const button = (name: string) => page.getByRole('button', { name, exact: true });
  const dialog = () => page.getByRole('alertdialog');
  const row = (name: string) => page.getByRole('row').filter({ has: page.getByRole('link', { name }) });

  async function disabledNames(): Promise<(string | null)[]> {
    const { items } = await shop.listeners.list({ state: 'disabled' });
    return items.map(({ name }) => name).toSorted();
  }

  it('are disabled and enabled again, after a question', async () => {
    await box('Billing').check();
    await box('Orders').check();
    await page.getByText('2 selected').waitFor();
    await button('Disable').click();
    await dialog().getByText('Disable 2 endpoints?').waitFor();
    expect(await disabledNames()).toEqual([]);
    await dialog().getByRole('button', { name: 'Disable' }).click();
    await page.getByText('2 endpoints are disabled').waitFor();
    expect(await disabledNames()).toEqual(['Billing', 'Orders']);
    await row('Billing').getByText('Disabled').waitFor();
    await row('Warehouse').getByText('Healthy').waitFor();
    // Nothing is selected any more, so nothing is changed twice by mistake.
    expect(await box('Billing').isChecked()).toBe(false);

    await page.getByRole('checkbox', { name: 'Select all' }).check();
    await button('Enable').click();
    await dialog().getByRole('button', { name: 'Enable' }).click();
    await page.getByText('4 endpoints are enabled').waitFor();
    expect(await disabledNames()).toEqual([]);
    await row('Billing').getByText('Healthy').waitFor();
    opened.complaints.none();
  });

  it('stay as they are when the question is cancelled', async () => {
    await box('Billing').check();
    await button('Disable').click();
    await dialog().getByRole('button', { name: 'Cancel' }).click();
    await dialog().waitFor({ state: 'detached' });
    expect(await disabledNames()).toEqual([]);
    expect(await box('Billing').isChecked()).toBe(true);
  });

  it('are named with the reason if they could not be changed, and stay selected; the others are changed', async () => {
    await page.getByRole('checkbox', { name: 'Select all' }).check();
    const gone = (await shop.listeners.list()).items.find(({ name }) => name === 'Orders');
    await shop.listeners.remove(gone?.id ?? '');
    await button('Disable').click();
    await dialog().getByRole('button', { name: 'Disable' }).click();
    const alert = page.getByRole('alert').filter({ hasText: '1 endpoint was not changed' });
    await alert.getByText('Orders', { exact: true }).waitFor();
    expect(await alert.getByRole('listitem').allTextContents()).toEqual([expect.stringMatching(/^Orders: .+/)]);
    expect(await disabledNames()).toEqual(['Analytics', 'Billing', 'Warehouse']);
    await page.getByText('1 selected').waitFor();
    expect(await box('Orders').isChecked()).toBe(true);
    await alert.getByRole('button', { name: 'Close' }).click();
    await alert.waitFor({ state: 'detached' });
  });

  it('show how many are done while they are changed', async () => {
    await page.getByRole('checkbox', { name: 'Select all' }).check();
    let release = (): void => undefined;
    const isReleased = new Promise<void>((resolve) => (release = resolve));
    const held = (await shop.listeners.list()).items.find(({ name }) => name === 'Warehouse');
    await page.route(`**/${held?.id}/disable`, async (route) => {
      await isReleased;
      await route.continue();
    });
    await button('Disable').click();
    await dialog().getByRole('button', { name: 'Disable' }).click();
    await page.getByText('3 of 4 done').waitFor();
    expect(await button('Enable').isDisabled()).toBe(true);
    release();
    await page.getByText('4 endpoints are disabled').waitFor();
  });

  it('are selected and disabled without a mouse', async () => {
    const { keyboard } = page;
    await keyboard.press('j');
    await keyboard.press('x');
    await keyboard.press('j');
    await keyboard.press('x');
    await page.getByText('2 selected').waitFor();
    // The table comes before its buttons.
    while (!(await button('Disable').evaluate((one) => one === document.activeElement))) await keyboard.press('Tab');
    await keyboard.press('Enter');
    await dialog().waitFor();
    while (
      !(await dialog()
        .getByRole('button', { name: 'Disable' })
        .evaluate((one) => one === document.activeElement))
    ) {
      await keyboard.press('Tab');
    }
    await keyboard.press('Enter');
    await page.getByText('2 endpoints are disabled').waitFor();
    expect(await disabledNames()).toHaveLength(2);
    opened.complaints.none();
  });

  it('have no box for people who may not change them', async () => {
    const can = ['listeners:read', 'deliveries:read'] as const;
    const { page: reader, context } = await openPage(browser, shop, { owner: 'acme', can }, '/listeners');
    await show(reader, '/listeners');
    await reader.getByRole('link', { name: 'Billing' }).waitFor();
    expect(await reader.getByRole('checkbox').count()).toBe(0);
    await context.close();
  });
});
