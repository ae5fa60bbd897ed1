import type { BrowserContext } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { startShop, type Shop } from '../shop-app.js';
import { describeInBrowser, useBrowser, watch } from './browser.js';
import { openPage } from './page-of.js';
import { settled } from './settled.js';

describeInBrowser('the sessions in the dashboard', () => {
  const browser = useBrowser();
  const contexts: BrowserContext[] = [];
  let shop: Shop;
  beforeAll(async () => {
    shop = await startShop();
  });
  afterAll(() => shop?.close());
  afterEach(async () => {
    for (const context of contexts.splice(0)) await context.close();
  });

  it('are listed, and a revoked session is over at its next request', async () => {
    const { page: portal, context } = await openPage(browser, shop, { owner: 'acme' }, '/listeners');
    contexts.push(context);
    await shop.tokenOf({ owner: 'globex' });
    // With the login of the application, because no session may revoke another.
    const login = await browser.newContext({ extraHTTPHeaders: { 'x-user': 'operator' } });
    contexts.push(login);
    const page = await login.newPage();
    const complaints = await watch(page, [shop.origin]);
    await page.goto(`${shop.origin}/webhooks/dashboard#/system?tab=sessions`);
    await settled(page);
    const row = page.getByRole('row', { name: /acme/ });
    await row.getByRole('button', { name: 'Revoke' }).click();
    const dialog = page.getByRole('alertdialog');
    await dialog.getByText('acme must sign in again.').waitFor();
    await dialog.getByRole('button', { name: 'Revoke' }).click();
    await page.getByText('The session is revoked').waitFor();
    await row.waitFor({ state: 'detached' });
    expect(await page.getByRole('row', { name: /globex/ }).count()).toBe(1);
    complaints.none();

    await portal.evaluate(() => {
      window.location.hash = '/deliveries';
    });
    await portal.getByRole('heading', { name: 'Your session is over' }).waitFor();
  });

  it('are all listed, also those after the first page of the log', async () => {
    const MANY = 201;
    await shop.tokenOf({ owner: 'oldest' });
    for (let number = 0; number < MANY; number++) await shop.tokenOf({ owner: `customer ${number}` });
    const { page, context } = await openPage(browser, shop, 'operator', '/system?tab=sessions');
    contexts.push(context);
    await page.getByRole('row', { name: `customer ${MANY - 1}` }).waitFor();
    expect(await page.getByRole('row', { name: /^oldest/ }).count()).toBe(1);
  });

  it('have no button for an operator who may not revoke them', async () => {
    const { page, context } = await openPage(browser, shop, 'operator', '/system?tab=sessions');
    contexts.push(context);
    await page.getByRole('row', { name: /globex/ }).waitFor();
    expect(await page.getByRole('button', { name: 'Revoke' }).count()).toBe(0);
  });

  it('let a customer replace the signing key of a listener, and show until when the old one signs', async () => {
    const url = shop.url('hooks.acme.test/signed');
    const schemes = ['standard', 'standard-v1a'];
    const { id, publicKeys } = await shop.listeners.create({ owner: 'acme', url, events: ['order.*'], schemes });
    const { page, context } = await openPage(browser, shop, { owner: 'acme' }, `/listeners/${id}?tab=settings`);
    contexts.push(context);
    await page.getByRole('button', { name: 'Rotate signing key' }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Rotate signing key' }).click();
    await page
      .getByText(/The old signing key also signs until .*\d/)
      .first()
      .waitFor();
    const after = await shop.listeners.get(id);
    expect(after.publicKeys).toHaveLength(2);
    expect(after.publicKeys[1]).toBe(publicKeys[0]);
    await page.getByText(after.publicKeys[0] as string).waitFor();
  });
});
