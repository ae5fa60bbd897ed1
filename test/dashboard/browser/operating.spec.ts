import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { createWebhooksClient } from 'nestjs-entity-webhooks/client';
import { Order, startShop, type Shop } from '../shop-app.js';
import { playTraffic } from '../shop-traffic.js';
import { describeInBrowser, useBrowser, watch, type Complaints } from './browser.js';
import { openPage } from './page-of.js';
import { settled, show } from './settled.js';

const HOURS = 3_600_000;

describeInBrowser('an operator in the browser', () => {
  const browser = useBrowser();
  let shop: Shop;
  let context: BrowserContext;
  let page: Page;
  let complaints: Complaints;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 2 * HOURS });
    await playTraffic(shop, 6);
  });
  afterAll(() => shop?.close());
  beforeEach(async () => {
    context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    page = await context.newPage();
    complaints = await watch(page, [shop.origin]);
    await page.goto(`${shop.origin}/webhooks/dashboard#t=${await shop.tokenOf('operator')}`);
    await settled(page);
  });
  afterEach(async () => {
    complaints?.none();
    await context?.close();
  });

  const button = (name: string | RegExp) => page.getByRole('button', { name, exact: typeof name === 'string' });
  const dialog = () => page.getByRole('alertdialog');

  it('pauses all sending with a reason, sees it on the overview, and resumes', async () => {
    await show(page, '/system');
    await button('Pause sending').click();
    await dialog().getByLabel('Reason').fill('The receivers are being moved');
    await dialog().getByRole('button', { name: 'Pause sending' }).click();
    await page.getByRole('heading', { name: 'Sending is paused', level: 2 }).waitFor();
    expect(await sending()).toMatchObject({
      ...{ paused: true, reason: 'The receivers are being moved', actor: 'operator@example.test' },
    });

    await show(page, '/overview');
    await page.getByText('The receivers are being moved').waitFor();
    await page.getByText(/by operator@example\.test/).waitFor();
    await page.getByRole('link', { name: 'Open System' }).click();
    await button('Resume sending').click();
    await dialog().getByRole('button', { name: 'Resume sending' }).click();
    await page.getByRole('heading', { name: 'Webhooks are sent' }).waitFor();
    expect(await sending()).toMatchObject({ paused: false });

    await page.getByRole('tab', { name: 'Audit log' }).click();
    await page.getByRole('cell', { name: 'sending.resumed' }).waitFor();
    await page.getByRole('cell', { name: 'sending.paused' }).waitFor();
  });

  it('reads from the overview alone who paused sending and why, and a customer reads only that it is paused', async () => {
    await setSending({ paused: true, reason: 'The receivers are being moved' });
    const asked: string[] = [];
    page.on('request', (request) => asked.push(new URL(request.url()).pathname));
    await show(page, '/overview');
    await page.getByText('The receivers are being moved').waitFor();
    expect(asked).toContain('/webhooks/v1/overview');
    expect(asked.filter((path) => path.endsWith('/sending'))).toEqual([]);

    const portal = await openPage(browser, shop, { owner: 'acme' }, '/overview');
    await portal.page.getByText('Sending is paused').waitFor();
    expect(await portal.page.getByText(/receivers are being moved|operator@/).count()).toBe(0);
    expect(await portal.page.getByRole('link', { name: 'Open System' }).count()).toBe(0);
    portal.complaints.none();
    await portal.context.close();

    await setSending({ paused: false });
    await show(page, '/nothing');
    await show(page, '/overview');
    await page.getByText('Sending is paused').waitFor({ state: 'detached' });
  });

  it('sees the last hour minute by minute', async () => {
    await shop.dataSource.getRepository(Order).save({ customer: 'acme', status: 'new', total: '5.00' });
    shop.clock.advance(Date.now() - shop.clock.now());
    await shop.dispatcher.drain();
    await show(page, '/overview?range=1h');
    await button('Table').first().click();
    const table = page.getByRole('region', { name: 'Attempts each minute' });
    const name = await table.getByRole('rowheader').first().textContent();
    const [from, until] = [...(name ?? '').matchAll(/(\d+):(\d\d)/g)].map(
      ([, hour, minute]) => Number(hour) * 60 + Number(minute),
    );
    expect((Number(until) - Number(from) + 720) % 720, name ?? '').toBe(1);
  });

  it.each([1024, 1200])('sees every column of every list on a screen of %i pixels', async (width) => {
    await page.setViewportSize({ width, height: 800 });
    for (const path of ['/deliveries', '/listeners', '/events', '/tasks']) {
      await show(page, path);
      const beyond = await page
        .locator('.grid-head')
        .evaluateAll((heads) =>
          heads.map(
            (head) => (head.lastElementChild?.getBoundingClientRect().right ?? 0) - head.getBoundingClientRect().right,
          ),
        );
      expect(Math.max(...beyond), path).toBeLessThanOrEqual(0);
    }
  });

  it('sees the tab that is open, also where there is no room for all of them', async () => {
    await page.setViewportSize({ width: 390, height: 800 });
    await show(page, '/system?tab=sender');
    const [tab, tabs] = await Promise.all(
      [page.getByRole('tab', { selected: true }), page.getByRole('tablist')].map((one) => one.boundingBox()),
    );
    expect((tab?.x ?? 0) + (tab?.width ?? 0)).toBeLessThanOrEqual((tabs?.x ?? 0) + (tabs?.width ?? 0));
  });

  it('reads the details of a change in full after it has opened them', async () => {
    await show(page, '/system?tab=audit');
    const details = page
      .getByRole('row', { name: /session\.created/ })
      .first()
      .locator('summary');
    const isCut = () => details.evaluate((one) => one.scrollWidth > one.clientWidth);
    expect(await isCut()).toBe(true);
    await details.focus();
    await page.keyboard.press('Enter');
    await expect.poll(isCut).toBe(false);
    await details.getByText(/deliveries:resend/).waitFor();
  });

  it('changes nothing when the dialog is cancelled', async () => {
    await show(page, '/system');
    await button('Pause sending').click();
    await dialog().getByRole('button', { name: 'Cancel' }).click();
    await dialog().waitFor({ state: 'detached' });
    expect(await sending()).toMatchObject({ paused: false });
  });

  it('counts what a task would do, starts it, and sees its progress', async () => {
    const disabled = (await shop.listeners.list({ state: 'disabled' })).items[0];
    const held = (await shop.deliveries.list({ state: 'held', limit: 200 })).items.length;
    expect(held).toBeGreaterThan(3);
    await show(page, `/tasks/new?kind=discard&listenerId=${disabled?.id}`);
    await page.getByLabel('At most per second').fill('1000');
    await button('Count').click();
    await page.getByText(`${held} deliveries`).waitFor();
    // The dry run has created nothing.
    expect((await shop.tasks.list()).items).toEqual([]);

    await button('Start the task').click();
    await dialog().getByRole('button', { name: 'Start the task' }).click();
    await page.getByRole('heading', { name: 'Discard deliveries', level: 1 }).waitFor();
    await page.getByText(`0 of ${held}`).waitFor();
    const [task] = (await shop.tasks.list()).items;
    expect(task).toMatchObject({ kind: 'discard', state: 'queued', estimate: held, actor: 'operator@example.test' });
    expect(new URL(page.url()).hash).toBe(`#/tasks/${task?.id}`);

    await shop.tasks.run(task?.id ?? '');
    await page.getByText(`${held} of ${held}`).waitFor();
    await page.getByText('Done', { exact: true }).first().waitFor();
    expect(await button('Cancel task').count()).toBe(0);
    expect((await shop.deliveries.list({ state: 'held' })).items).toEqual([]);
  });

  it('must count again after the selection has changed', async () => {
    await show(page, '/tasks/new?kind=recover');
    await button('Count').click();
    await page.getByText('Nothing matches').waitFor();
    expect(await button('Start the task').count()).toBe(0);
    await page.getByLabel('Event types').fill('order.*');
    await page.getByText('Count again').waitFor();
  });

  it('cancels a task that waits', async () => {
    const since = new Date(shop.clock.now() - 24 * HOURS);
    const { id } = await shop.tasks.create({ kind: 'recover', since });
    await show(page, `/tasks/${id}`);
    await button('Cancel task').click();
    await dialog().getByRole('button', { name: 'Cancel task' }).click();
    await page.getByText('Cancelled', { exact: true }).waitFor();
    expect(await shop.tasks.get(id)).toMatchObject({ state: 'cancelled' });
  });

  it('resends the deliveries that are selected, and hears which ones were left', async () => {
    await show(page, '/deliveries?state=succeeded');
    const boxes = page.getByRole('checkbox', { name: /^Select order/ });
    await boxes.nth(0).check();
    await boxes.nth(1).check();
    await page.getByText('2 selected').waitFor();
    await button('Resend').click();
    await dialog().getByRole('button', { name: 'Resend' }).click();
    await page.getByText('2 deliveries are sent again').waitFor();
    expect(
      (await shop.deliveries.list({ state: 'due' })).items.filter(({ attemptCount }) => attemptCount === 1),
    ).toHaveLength(2);
    await shop.dispatcher.drain();

    await page.getByRole('checkbox', { name: 'Select all' }).check();
    await button('Discard').click();
    await dialog().getByRole('button', { name: 'Discard' }).click();
    await page.getByText('0 deliveries are discarded').waitFor();
    await page.getByText(/were left as they are/).waitFor();
    // The console of the browser notes each refusal, and nothing else.
    expect(complaints.all.filter((one) => !one.includes('status of 409'))).toEqual([]);
    complaints.all.length = 0;
  });

  it('goes from a bar of the chart to its deliveries', async () => {
    await show(page, '/overview?range=24h');
    await page.locator('.chart canvas').first().waitFor();
    const over = page.locator('.chart .u-over').first();
    const { width, height } = (await over.boundingBox()) ?? { width: 0, height: 0 };
    // The traffic is at the end of the day that the chart shows, and its bars stand on the axis.
    for (let share = 0.98; share > 0.8 && !page.url().includes('/deliveries?'); share -= 0.02) {
      await over.click({ position: { x: width * share, y: height - 4 } });
    }
    expect(page.url()).toMatch(/#\/deliveries\?state=succeeded&since=.+&until=.+/);
    await settled(page);
    expect(await page.locator('.grid-row').count()).toBeGreaterThan(0);
  });

  it('reads the figures of a chart as a table, with links', async () => {
    await show(page, '/overview');
    await button('Table').first().click();
    await page.getByRole('region', { name: 'Attempts each hour' }).getByRole('link').first().click();
    await page.waitForURL(/#\/deliveries\?since=/);
  });

  it('opens each screen by its keys', async () => {
    for (const [key, title] of [
      ['t', 'Tasks'],
      ['y', 'System'],
      ['o', 'Overview'],
      ['d', 'Deliveries'],
    ] as const) {
      await page.keyboard.press('g');
      await page.keyboard.press(key);
      await page.getByRole('heading', { name: title, level: 1 }).waitFor();
    }
    await page.keyboard.press('?');
    const help = page.getByRole('dialog');
    for (const name of ['Overview', 'Tasks', 'System']) await help.getByText(name, { exact: true }).waitFor();
  });

  async function setSending(body: { paused: boolean; reason?: string }): Promise<void> {
    const client = createWebhooksClient({ url: `${shop.origin}/webhooks/v1`, headers: { 'x-user': 'operator' } });
    await client.setSending({ body });
  }

  async function sending(): Promise<unknown> {
    const response = await fetch(`${shop.origin}/webhooks/v1/sending`, { headers: { 'x-user': 'operator' } });
    return response.json();
  }
});

describeInBrowser('a customer in the browser', () => {
  const browser = useBrowser();
  let shop: Shop;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 2 * HOURS });
    await playTraffic(shop, 6);
  });
  afterAll(() => shop?.close());

  it('sees own figures only, no process, and not the system', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const complaints = await watch(page, [shop.origin]);
    const bodies: string[] = [];
    page.on('response', (response) => {
      if (response.url().includes('/v1/'))
        void response.text().then(
          (text) => bodies.push(text),
          () => undefined,
        );
    });
    await page.goto(`${shop.origin}/webhooks/portal#t=${await shop.tokenOf({ owner: 'acme' })}`);
    await settled(page);
    await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
    await page.getByRole('link', { name: /warehouse/ }).waitFor();
    expect(await page.getByText('Processes').count()).toBe(0);
    expect(await page.getByRole('link', { name: 'System' }).count()).toBe(0);
    await show(page, '/system');
    await page.getByRole('heading', { name: 'You may not see this', level: 1 }).waitFor();
    expect(bodies.length).toBeGreaterThan(2);
    expect(bodies.filter((body) => /globex|initech/.test(body))).toEqual([]);
    complaints.none();
    await context.close();
  });

  it('with read-only capabilities has no box, no new task and no button', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const can = ['listeners:read', 'deliveries:read', 'stats:read'] as const;
    await page.goto(`${shop.origin}/webhooks/portal#t=${await shop.tokenOf({ owner: 'acme', can })}`);
    await settled(page);
    await show(page, '/deliveries');
    expect(await page.locator('.grid-row').count()).toBeGreaterThan(0);
    expect(await page.getByRole('checkbox').count()).toBe(0);
    await show(page, '/tasks');
    expect(await page.getByRole('link', { name: 'New task' }).count()).toBe(0);
    await show(page, '/tasks/new');
    await page.getByText('You may not see this').waitFor();
    await context.close();
  });
});
