import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Order, startShop, type Shop } from '../shop-app.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';

describeInBrowser('a waiting delivery and a pending listener, in the browser', () => {
  const browser = useBrowser();
  let shop: Shop;
  let opened: OpenPage;
  beforeAll(async () => {
    shop = await startShop();
  });
  afterAll(() => shop?.close());
  afterEach(async () => {
    opened?.complaints.none();
    await opened?.context.close();
  });

  it('a delivery is discarded after a question', async () => {
    const url = shop.url('hooks.acme.test/orders');
    const { id: listenerId } = await shop.listeners.create({ owner: 'acme', url, events: ['order.*'] });
    await shop.dataSource.getRepository(Order).save({ customer: 'acme', status: 'new', total: '5.00' });
    await shop.listeners.disable(listenerId);
    await shop.dispatcher.drain();
    const [held] = (await shop.deliveries.list({ listenerId, state: 'held' })).items;
    opened = await openPage(browser, shop, { owner: 'acme' }, `/deliveries/${held?.id}`);
    const { page } = opened;
    await page.getByRole('button', { name: 'Discard' }).click();
    const dialog = page.getByRole('alertdialog');
    await dialog.getByText('Discard the delivery of order.created?').waitFor();
    await dialog.getByRole('button', { name: 'Discard' }).click();
    await page.getByText('Discarded', { exact: true }).first().waitFor();
    expect(await page.getByRole('button', { name: 'Discard' }).count()).toBe(0);
    expect(await shop.deliveries.get(held?.id ?? '')).toMatchObject({ state: 'discarded' });
  });

  it('a pending listener is asked again at once, and says why it is pending', async () => {
    shop.receiver.respond({ status: 404 });
    const { id } = await shop.listeners.create({
      ...{ owner: 'acme', url: shop.url('hooks.acme.test/agree'), events: ['order.*'], handshake: 'challenge' },
    });
    await shop.dispatcher.drain();
    opened = await openPage(browser, shop, { owner: 'acme' }, `/listeners/${id}`);
    const { page } = opened;
    await page.getByText(/has not agreed to receive webhooks/).waitFor();
    const { revision } = await shop.listeners.get(id);
    await page.getByRole('button', { name: 'Ask again' }).click();
    await page.getByText('The receiver is asked again').waitFor();
    expect((await shop.listeners.get(id)).revision).toBeGreaterThan(revision);
  });
});
