import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startShop, type Shop } from '../shop-app.js';
import { playTraffic } from '../shop-traffic.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';
import { settled, show } from './settled.js';

const HOURS = 3_600_000;
const VIEW = ['listeners:read', 'deliveries:read', 'stats:read', 'catalog:read'] as const;

describeInBrowser('the editor of listeners', () => {
  const browser = useBrowser();
  let shop: Shop;
  let open: OpenPage;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 5 * HOURS });
    await playTraffic(shop, 6);
  });
  afterAll(() => shop?.close());
  afterEach(() => open?.context.close());

  const urlOf = (path: string) => shop.url(`hooks.acme.test/${path}`);
  const listenerOf = (path: string, more: object = {}) =>
    shop.listeners.create({ owner: 'acme', url: urlOf(path), events: ['order.updated'], ...more });

  it('creates one: it says what the guard thinks of the URL and what would have matched, and shows the secret once', async () => {
    open = await openPage(browser, shop, { owner: 'acme' }, '/listeners/new');
    const { page, complaints } = open;
    const url = page.getByLabel('URL', { exact: true });
    await url.fill('https://10.0.0.7/hooks');
    await page.getByText('The URL points to an address to which webhooks may not be sent.').waitFor();
    expect(await url.getAttribute('aria-invalid')).toBe('true');
    await url.fill(urlOf('new'));
    await page.getByText('Requests may be sent to this address.').waitFor();
    const save = page.getByRole('button', { name: 'Add endpoint' });
    expect(await save.isDisabled()).toBe(true);
    await page.getByLabel('order.updated').check();
    await page.getByText(/^Matches 2 of the last 6 events$/).waitFor();
    await page.getByRole('button', { name: 'Add condition' }).click();
    const condition = page.getByRole('group', { name: 'Condition 1' });
    await condition.getByLabel('Property').fill('stat');
    await page
      .getByText(/there is no property "stat"/)
      .first()
      .waitFor();
    await condition.getByLabel('Property').fill('status');
    await condition.getByLabel('Comparison').selectOption('changedTo');
    await condition.getByLabel('Value').fill('shipped');
    await page.getByText(/^Matches 0 of the last 6 events$/).waitFor();
    await page.getByText('Does not hold: status.changedTo').first().waitFor();
    await save.click();
    await page.getByRole('heading', { name: 'The endpoint is created' }).waitFor();
    const secret = (await page.locator('.secret code').textContent()) ?? '';
    expect(secret).toMatch(/^whsec_/);
    expect(await page.getByRole('button', { name: 'Django' }).count()).toBe(1);
    await page.getByRole('link', { name: 'I have stored it' }).click();
    await page.getByRole('tab', { name: 'Settings' }).click();
    await settled(page);
    expect(await page.content()).not.toContain(secret);
    const [created] = (await shop.listeners.list({ owner: 'acme' })).items;
    expect(created).toMatchObject({ url: urlOf('new'), where: { status: { changedTo: 'shipped' } }, owner: 'acme' });
    // The browser notes that the API refused the preview of the unfinished property.
    expect(complaints.all.filter((one) => !one.includes('status of 400'))).toEqual([]);
  });

  it('says beside the field why a listener was not saved', async () => {
    open = await openPage(browser, shop, { owner: 'acme' }, '/listeners/new?type=order.created');
    const { page } = open;
    await page.getByLabel('URL', { exact: true }).fill('https://10.0.0.7/');
    await page.getByRole('button', { name: 'Add endpoint' }).click();
    await page.getByText('URL_ADDRESS_BLOCKED').waitFor();
    await page.getByText('The field with the mistake says what is wrong.').waitFor();
  });

  it('chooses the version of a type, and then always the newest', async () => {
    open = await openPage(browser, shop, { owner: 'acme' }, '/listeners/new?type=report.ready');
    const { page } = open;
    await page.getByLabel('URL', { exact: true }).fill(urlOf('versions'));
    const versions = page.getByRole('group', { name: 'Versions' });
    const version = versions.getByLabel('report.ready');
    await version.waitFor();
    expect(await version.inputValue()).toBe('2');
    await version.selectOption('1');
    await page.getByRole('button', { name: 'Add endpoint' }).click();
    await page.getByRole('heading', { name: 'The endpoint is created' }).waitFor();
    const created = async () => (await shop.listeners.list({ owner: 'acme', search: 'versions' })).items[0];
    const { id, versions: pins } = (await created()) ?? { id: '' };
    expect(pins).toEqual({ 'report.ready': 1 });
    await show(page, `/listeners/${id}/edit`);
    expect(await version.inputValue()).toBe('1');
    await versions.getByLabel('Always the newest version').check();
    expect(await version.count()).toBe(0);
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('report.ready').first().waitFor();
    await page.getByText('Always the newest version').waitFor();
    expect((await created())?.versions).toBe('latest');
  });

  it('changes what was changed, and keeps the credentials that it cannot see', async () => {
    const { id } = await listenerOf('kept', {
      ...{ headers: { 'x-a': '1', 'x-b': '2' }, auth: { type: 'bearer', token: 'hidden' }, name: 'Before' },
    });
    open = await openPage(browser, shop, 'operator', `/listeners/${id}/edit`);
    const { page, complaints } = open;
    await page.getByLabel('Name', { exact: true }).fill('After');
    await page.getByRole('button', { name: 'Remove header 1' }).click();
    await page.getByLabel('Limit the rate of requests').check();
    await page.getByLabel('In seconds').fill('30');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('The listener is saved').waitFor();
    expect(await shop.listeners.get(id)).toMatchObject({
      ...{ name: 'After', headers: { 'x-b': '2' }, rateLimit: { limit: 100, perSeconds: 30 } },
      auth: { type: 'bearer', token: '***' },
    });
    complaints.none();
  });

  describe('when somebody else saved the listener meanwhile', () => {
    const conflict = async () => {
      const { id } = await listenerOf('conflict', { name: 'First' });
      open = await openPage(browser, shop, { owner: 'acme' }, `/listeners/${id}/edit`);
      const { page } = open;
      await page.getByLabel('Name', { exact: true }).fill('Mine');
      await shop.listeners.update(id, { name: 'Theirs', description: 'Also theirs' });
      await page.getByRole('button', { name: 'Save' }).click();
      const dialog = page.getByRole('dialog', { name: 'Somebody else has changed this endpoint' });
      await dialog.waitFor();
      const rows = await dialog.locator('tbody tr').allInnerTexts();
      expect(rows.map((row) => row.split('\t'))).toEqual([
        ['Name', 'Theirs', 'Mine'],
        ['Description', 'Also theirs', '–'],
      ]);
      return { id, page, dialog };
    };

    it('shows both, and saves mine over what it showed', async () => {
      const { id, page, dialog } = await conflict();
      await dialog.getByRole('button', { name: 'Save mine' }).click();
      await page.getByText('The endpoint is saved').waitFor();
      expect(await shop.listeners.get(id)).toMatchObject({ name: 'Mine', description: 'Also theirs' });
    });

    it('or takes theirs into the form', async () => {
      const { id, page, dialog } = await conflict();
      await dialog.getByRole('button', { name: 'Take what is saved' }).click();
      await dialog.waitFor({ state: 'hidden' });
      expect(await page.getByLabel('Name', { exact: true }).inputValue()).toBe('Theirs');
      await page.getByLabel('Name', { exact: true }).fill('Ours');
      await page.getByRole('button', { name: 'Save' }).click();
      await page.getByText('The endpoint is saved').waitFor();
      expect(await shop.listeners.get(id)).toMatchObject({ name: 'Ours', description: 'Also theirs' });
    });
  });

  it('is absent for those who may only look', async () => {
    const { id } = await listenerOf('seen');
    open = await openPage(browser, shop, { owner: 'acme', can: VIEW }, '/listeners');
    const { page } = open;
    expect(await page.getByRole('link', { name: 'Add endpoint' }).count()).toBe(0);
    await show(page, `/listeners/${id}?tab=settings`);
    const buttons = await page.locator('.page-actions').getByRole('button').count();
    expect([buttons, await page.locator('.page-actions').getByRole('link').count()]).toEqual([0, 0]);
    await show(page, `/listeners/${id}/edit`);
    await page.getByText('You may not see this').waitFor();
    await show(page, '/listeners/new');
    expect(await page.getByRole('textbox').count()).toBe(0);
  });

  it('is what an empty portal offers, and a test event as soon as there is a listener', async () => {
    open = await openPage(browser, shop, { owner: 'newcomer' }, '/deliveries');
    const { page } = open;
    await page.getByRole('link', { name: 'Add endpoint' }).click();
    await page.getByRole('heading', { name: 'Add endpoint' }).waitFor();
    await shop.listeners.create({ owner: 'newcomer', url: urlOf('first'), events: ['order.*'] });
    await page.reload();
    expect(await page.getByText('Your session is over').isVisible()).toBe(true);
    await open.context.close();
    open = await openPage(browser, shop, { owner: 'newcomer' }, '/deliveries');
    await open.page.getByRole('link', { name: 'Send test event' }).click();
    await open.page.getByRole('button', { name: 'Send test event' }).waitFor();
  });
});
