import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { copiedId, copyRows } from '../copy-rows.js';
import { Order, startShop, type Shop } from '../shop-app.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';
import { show } from './settled.js';

const MANY = 100;
const ALL = 130;

describeInBrowser('a task for more than 100 deliveries', () => {
  const browser = useBrowser();
  let shop: Shop;
  let host: string;
  let listenerId: string;
  let opened: OpenPage;
  let page: Page;
  beforeAll(async () => {
    shop = await startShop();
    const url = shop.url('hooks.acme.test/orders');
    host = new URL(url).host;
    ({ id: listenerId } = await shop.listeners.create({ owner: 'acme', url, events: ['order.*'] }));
    await shop.dataSource.getRepository(Order).save({ customer: 'acme', status: 'new', total: '5.00' });
    await shop.dispatcher.drain();
    await copyRows(shop, 'webhook_deliveries', ALL, {
      id: copiedId('dlv', 'n.i'),
      event_seq: 'event_seq + n.i',
      created_at: 'created_at - n.i * 1000',
      state: `'exhausted'`,
      // So many of one type that their number is the limit.
      type: `CASE WHEN n.i <= ${MANY} THEN 'order.updated' ELSE 'order.created' END`,
    });
  });
  afterAll(() => shop?.close());
  beforeEach(async () => {
    opened = await openPage(browser, shop, 'operator', '/tasks');
    ({ page } = opened);
  });
  afterEach(async () => {
    opened?.complaints.none();
    await opened?.context.close();
    for (const { id } of await queued()) await shop.tasks.cancel(id);
  });

  const dialog = () => page.getByRole('alertdialog');
  const start = () => dialog().getByRole('button', { name: 'Start the task' });
  const queued = async () => (await shop.tasks.list({ state: 'queued' })).items;

  /** Counts, and asks to start what was counted. */
  async function ask(query: string, counted: string): Promise<void> {
    await show(page, `/tasks/new?kind=recover&${query}`);
    await page.getByRole('button', { name: 'Count' }).click();
    await page.getByText(counted, { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Start the task' }).click();
    await dialog().waitFor();
  }

  it('of one listener starts after its host is typed, and not before', async () => {
    await ask(`listenerId=${listenerId}`, `${ALL - 1} deliveries`);
    const field = dialog().getByLabel(`Type ${host} to confirm`);
    expect(await start().isDisabled()).toBe(true);
    for (const wrong of [host.slice(0, -1), `${host}x`, 'hooks.acme.test', String(ALL - 1)]) {
      await field.fill(wrong);
      expect(await start().isDisabled(), wrong).toBe(true);
      await field.press('Enter');
    }
    expect(await queued()).toEqual([]);

    await field.fill(host);
    await start().click();
    await page.getByRole('heading', { level: 1, name: 'Resend deliveries' }).waitFor();
    expect(await queued()).toMatchObject([{ kind: 'recover', estimate: ALL - 1 }]);
  });

  it('of several listeners starts after their number is typed, and not before', async () => {
    await ask('', `${ALL - 1} deliveries`);
    const field = dialog().getByLabel(`Type ${ALL - 1} to confirm`);
    await field.fill(host);
    expect(await start().isDisabled()).toBe(true);
    await field.fill(String(ALL - 1));
    await start().click();
    await page.getByRole('heading', { level: 1, name: 'Resend deliveries' }).waitFor();
    expect(await queued()).toMatchObject([{ kind: 'recover', estimate: ALL - 1 }]);
  });

  it('forgets what was typed when the dialog is cancelled', async () => {
    await ask(`listenerId=${listenerId}`, `${ALL - 1} deliveries`);
    await dialog().getByRole('textbox').fill(host);
    await dialog().getByRole('button', { name: 'Cancel' }).click();
    await dialog().waitFor({ state: 'detached' });
    expect(await queued()).toEqual([]);
    await page.getByRole('button', { name: 'Start the task' }).click();
    expect(await dialog().getByRole('textbox').inputValue()).toBe('');
    expect(await start().isDisabled()).toBe(true);
  });

  it('is asked for without typing if there are exactly 100', async () => {
    await ask(`types=order.updated&listenerId=${listenerId}`, `${MANY} deliveries`);
    expect(await dialog().getByRole('textbox').count()).toBe(0);
    await start().click();
    await page.getByRole('heading', { level: 1, name: 'Resend deliveries' }).waitFor();
    expect(await queued()).toMatchObject([{ kind: 'recover', estimate: MANY }]);
  });
});
