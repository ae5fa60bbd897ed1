import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Order, startShop, type Shop } from '../shop-app.js';
import { playTraffic } from '../shop-traffic.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';
import { settled, show } from './settled.js';

describeInBrowser('an event in the browser', () => {
  const browser = useBrowser();
  let shop: Shop;
  let opened: OpenPage | undefined;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 2 * 3_600_000 });
    await playTraffic(shop, 3);
  });
  afterAll(() => shop?.close());
  afterEach(async () => {
    opened?.complaints.none();
    await opened?.context.close();
    opened = undefined;
  });

  async function someEvent(type: string): Promise<string> {
    const [delivery] = (await shop.deliveries.list({ type, owner: 'acme' })).items;
    if (!delivery) throw new Error(`The shop has no delivery of ${type}.`);
    return delivery.eventId as string;
  }

  it('is sent by its owner to a listener that was created later', async () => {
    const eventId = await someEvent('order.created');
    const url = shop.url('hooks.acme.test/ledger');
    const ledger = await shop.listeners.create({ owner: 'acme', name: 'Ledger', url, events: ['order.created'] });
    const { page } = (opened = await openPage(browser, shop, { owner: 'acme' }, `/events/${eventId}`));
    const dialog = page.getByRole('alertdialog');
    await page.getByRole('button', { name: 'Send to an endpoint' }).click();
    await dialog.getByText('Send order.created to an endpoint?').waitFor();
    const send = dialog.getByRole('button', { name: 'Send to an endpoint' });
    expect(await send.isDisabled()).toBe(true);
    await dialog.getByLabel('Endpoint').selectOption('Ledger');
    // Only those of this customer that receive the type.
    const options = await dialog.getByLabel('Endpoint').locator('option').allTextContents();
    expect(options.slice(1).toSorted()).toEqual(['Ledger', 'Order sync']);
    await send.click();
    await page.waitForURL(/#\/deliveries\/dlv_/);
    await page.getByRole('heading', { level: 1, name: 'order.created' }).waitFor();
    const sent = (await shop.deliveries.list({ eventId, listenerId: ledger.id })).items;
    expect(sent.map(({ state }) => state)).toEqual(['due']);
  });

  it('is copied as a fixture for a test of a receiver', async () => {
    const eventId = await someEvent('order.updated');
    opened = await openPage(browser, shop, { owner: 'acme' }, `/events/${eventId}`);
    const { page, context } = opened;
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.getByRole('button', { name: 'Copy as fixture' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    const [request] = shop.receiver.requests.filter(({ headers }) => headers['webhook-id'] === eventId);
    const copied: unknown = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
    expect(copied).toEqual({ id: eventId, payload: request?.json });
  });

  it('loses its content for good after an operator has confirmed it', async () => {
    const eventId = await someEvent('order.updated');
    const { page } = (opened = await openPage(browser, shop, 'operator', `/events/${eventId}`));
    const dialog = page.getByRole('alertdialog');
    await page.getByRole('button', { name: 'Erase content' }).click();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await dialog.waitFor({ state: 'detached' });
    await page.getByText('"status"').first().waitFor();

    await page.getByRole('button', { name: 'Erase content' }).click();
    await dialog.getByText('Erase the content of order.updated?').waitFor();
    await dialog.getByRole('button', { name: 'Erase content' }).click();
    await page.getByText('This event has no data').waitFor();
    await page.getByText('Erased', { exact: true }).waitFor();
    expect(await page.getByRole('button', { name: /Erase content|Send to a listener/ }).count()).toBe(0);
    const client = await fetch(`${shop.origin}/webhooks/v1/events/${eventId}`, { headers: { 'x-user': 'operator' } });
    expect(await client.json()).toMatchObject({ data: null, erasedAt: expect.any(String) });
  });

  it('says which endpoints did not get it and why, and shows the history of its row', async () => {
    const orders = shop.dataSource.getRepository(Order);
    const order = await orders.save({ customer: 'acme', status: 'new', total: '10.00' });
    await orders.save({ ...order, status: 'paid' });
    await shop.dispatcher.drain();
    const eventId = await someEvent('order.updated');
    const url = shop.url('hooks.acme.test/big');
    await shop.listeners.create({
      owner: 'acme',
      name: 'Big orders',
      url,
      events: ['order.*'],
      where: { total: { gt: '9000000' } },
    });
    await shop.listeners.create({ owner: 'acme', name: 'Too late', url, events: ['order.*'] });
    await shop.listeners.create({ owner: 'globex', name: 'Foreign', url, events: ['order.*'] });
    const { page } = (opened = await openPage(browser, shop, { owner: 'acme' }, `/events/${eventId}`));
    const skipped = page.locator('section', { hasText: 'Endpoints that did not get this event' });
    await skipped.getByText('The filter does not match: total.gt', { exact: true }).waitFor();
    const rows = (await skipped.getByRole('listitem').allTextContents()).toSorted();
    expect(rows).toContain('Big ordersThe filter does not match: total.gt');
    expect(rows).toContain('Too lateCreated after the event');
    expect(rows.join()).not.toContain('Foreign');
    const history = page.locator('section', { hasText: 'History of this row' });
    await history.getByText('This event').waitFor();
    await history.getByRole('link', { name: /order\.created/ }).click();
    await page.getByRole('heading', { level: 1, name: 'order.created' }).waitFor();
    expect(await history.locator('[aria-current="page"]').allTextContents()).toEqual([
      expect.stringContaining('order.created'),
    ]);
  });

  it('has no action for a customer who may only read', async () => {
    const can = ['payloads:read', 'deliveries:read', 'listeners:read'] as const;
    const eventId = await someEvent('order.created');
    const { page } = (opened = await openPage(browser, shop, { owner: 'acme', can }, `/events/${eventId}`));
    await page.getByText('Deliveries of this event').waitFor();
    expect(await page.getByRole('button', { name: /Erase|Send/ }).count()).toBe(0);
  });

  it('leads from its type to the listeners that receive it', async () => {
    const { page } = (opened = await openPage(browser, shop, 'operator', '/catalogue/shipment.created'));
    await page.getByRole('link', { name: 'Show listeners' }).click();
    await page.getByRole('heading', { level: 1, name: 'Listeners' }).waitFor();
    await settled(page);
    expect(new URL(page.url()).hash).toBe('#/listeners?type=shipment.created');
    const names = await page.locator('.row-link').allTextContents();
    expect(names.toSorted()).toEqual(['Analytics', 'Old CRM']);
    const all = (await shop.listeners.list()).items.length;
    await page.getByLabel('Event type').selectOption('');
    await expect.poll(() => page.locator('.row-link').count()).toBe(all);
    await show(page, '/listeners?type=report.ready&health=failing');
    await page.getByRole('button', { name: 'Clear filters' }).click();
    await expect.poll(() => page.locator('.row-link').count()).toBe(all);
  });
});
