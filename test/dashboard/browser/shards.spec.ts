import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { startShardedShop, type ShardedShop } from '../sharded-shop.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';

describeInBrowser('the dashboard of two shards, in the browser', () => {
  const browser = useBrowser();
  let api: ShardedShop;
  let opened: OpenPage;
  beforeAll(async () => {
    api = await startShardedShop();
  });
  afterAll(() => api?.close());
  afterEach(async () => {
    opened?.complaints.none();
    await opened?.context.close();
  });

  const open = (path: string) => openPage(browser, api, 'operator', path);
  /** Opens another screen and comes back. A reload would lose the token. */
  const readAgain = async (page: Page) => {
    await page.getByRole('link', { name: 'Tasks' }).click();
    await page.getByRole('link', { name: 'Listeners' }).click();
  };

  it('an operator sees the listeners of all shards, and chooses one shard', async () => {
    opened = await open('/listeners');
    const { page } = opened;
    await page.getByText('us-1 · us').waitFor();
    await page.getByText('eu-1 · eu').waitFor();
    await page.getByLabel('Shard').selectOption('us');
    await page.getByText('eu-1 · eu').waitFor({ state: 'detached' });
    await page.getByText('of us').first().click();
    await page.getByRole('heading', { name: 'of us' }).waitFor();
  });

  it('the processes of each shard are listed with the name of the shard', async () => {
    opened = await open('/system');
    for (const shard of ['eu', 'us'])
      await opened.page
        .getByText(new RegExp(` · ${shard}$`))
        .first()
        .waitFor();
  });

  it('a shard that does not answer is named, and the rows of the others stay', async () => {
    opened = await open('/listeners');
    const { page } = opened;
    await page.getByText('eu-1 · eu').waitFor();
    await api.eu.dataSource.query('alter table webhook_listeners rename to webhook_gone');
    try {
      await readAgain(page);
      await page.getByText('No answer from: eu').waitFor();
      await page.getByText('us-1 · us').waitFor();
      expect(await page.getByText('eu-1 · eu').count()).toBe(0);
    } finally {
      await api.eu.dataSource.query('alter table webhook_gone rename to webhook_listeners');
    }
    await readAgain(page);
    await page.getByText('eu-1 · eu').waitFor();
    expect(await page.getByText('No answer from: eu').count()).toBe(0);
  });
});
