import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Order, startShop, type Shop } from '../shop-app.js';
import { playTraffic } from '../shop-traffic.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage } from './page-of.js';
import { screensOf } from './screens-of.js';
import { settled, show } from './settled.js';

const HOURS = 3_600_000;

describeInBrowser('the browser of an owner', () => {
  const browser = useBrowser();
  let shop: Shop;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 5 * HOURS });
    await playTraffic(shop, 6);
  });
  afterAll(() => shop?.close());

  /** Everything that a page received while it showed each screen, and tried to open what belongs to others. */
  async function receivedBy(who: 'operator' | { owner: string }, others: readonly string[]): Promise<string> {
    const bodies: Promise<string>[] = [];
    const { page, context } = await openPage(browser, shop, who, '/deliveries');
    page.on('response', (response) => bodies.push(response.text().catch(() => '')));
    for (const path of [...Object.values(await screensOf(shop)), ...others]) await show(page, path);
    const texts = await Promise.all(bodies);
    await context.close();
    return texts.join('\n');
  }

  it('never receives a byte about another owner', { timeout: 120_000 }, async () => {
    const { items: listeners } = await shop.listeners.list();
    const { items: deliveries } = await shop.deliveries.list({ limit: 200 });
    const foreign = [
      ...listeners.filter(({ owner }) => owner !== 'acme').flatMap(({ id, url }) => [id, new URL(url).hostname]),
      ...deliveries.filter(({ owner }) => owner !== 'acme').map(({ id }) => id),
      ...['globex', 'initech', 'Old CRM', 'The contract ended'],
    ];
    expect(foreign.length).toBeGreaterThan(15);
    const other = deliveries.find(({ owner }) => owner === 'globex');
    const paths = [
      `/deliveries?listenerId=${listeners.find(({ owner }) => owner === 'globex')?.id}`,
      `/deliveries/${other?.id}`,
      `/events/${other?.eventId}`,
      `/listeners/${other?.listenerId}`,
      `/listeners/${other?.listenerId}/edit`,
    ];
    const found = (text: string) => foreign.filter((one) => text.includes(one));
    expect(found(await receivedBy({ owner: 'acme' }, []))).toEqual([]);
    // Whoever asks for an id of somebody else gets a refusal with this id, as for an id that nobody has, and nothing more.
    const refused = found(await receivedBy({ owner: 'acme' }, paths));
    expect(refused.filter((one) => !paths.some((path) => path.includes(one)))).toEqual([]);
    // Proves that the search finds something.
    expect(found(await receivedBy('operator', paths)).length).toBeGreaterThan(10);
  });
});

const HTML = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
const CONTROL = 'a\u0007b\u001b[31mc\u0001d';
const BIDI = 'invoice\u202Efdp.exe\u2066\u200B';

describeInBrowser('what strangers wrote', () => {
  const browser = useBrowser();
  let shop: Shop;
  let paths: readonly string[];
  beforeAll(async () => {
    shop = await startShop();
    shop.receiver.respond({
      status: 500,
      headers: { 'content-type': 'text/html' },
      body: `${HTML}${BIDI}`.padEnd(4096, '<b>'),
    });
    const long = shop.url(`hooks.acme.test/${'x'.repeat(1900)}?<script>alert(1)</script>`);
    const { id } = await shop.listeners.create({
      ...{ owner: 'acme', url: long, events: ['order.*'], name: `${HTML}${BIDI}`, description: CONTROL + HTML },
      headers: { 'x-html': HTML },
    });
    expect(long.length).toBeGreaterThan(1950);
    const orders = shop.dataSource.getRepository(Order);
    const order = await orders.save({
      customer: 'acme',
      status: HTML,
      total: '1.00',
      items: [{ text: CONTROL }, { [HTML]: BIDI }],
    });
    await orders.save({ ...order, status: BIDI });
    await orders.save({ customer: 'acme', status: 'long', total: '1.00', items: [HTML.repeat(3400)] });
    await shop.dispatcher.drain();
    await shop.listeners.disable(id, `${HTML}${BIDI}`);
    const { items } = await shop.deliveries.list({ owner: 'acme' });
    paths = [
      ...['/deliveries', '/events', '/listeners', `/listeners/${id}`, `/listeners/${id}?tab=settings`],
      ...[`/listeners/${id}?tab=test`, `/listeners/${id}?tab=code`, `/listeners/${id}/edit`],
      ...items.flatMap((one) => [`/deliveries/${one.id}`, `/events/${one.eventId}`]),
    ];
  });
  afterAll(() => shop?.close());

  const faultsOf = (page: Page) =>
    page.evaluate(() => {
      const root = document.querySelector('#root') as HTMLElement;
      // What one reads: values of fields show their characters as they are, so that one can edit them.
      const text = root.innerText;
      return {
        hacked: 'hacked' in window,
        elements: root.querySelectorAll('script, img[src="x"], [onerror]').length,
        // oxlint-disable-next-line no-control-regex -- these characters must not be there
        invisible: /[\u0000-\u0008\u000e-\u001f\u202a-\u202e\u2066-\u2069\u200b]/.test(text),
        isWide: document.documentElement.scrollWidth > window.innerWidth,
      };
    });

  describe.each([1280, 390])('at a width of %i', (width) => {
    it('is shown as text, and as nothing else', { timeout: 120_000 }, async () => {
      const { page, context, complaints } = await openPage(browser, shop, { owner: 'acme' }, '/deliveries');
      const dialogs: string[] = [];
      page.on('dialog', (dialog) => {
        dialogs.push(dialog.message());
        void dialog.dismiss();
      });
      await page.setViewportSize({ width, height: 900 });
      const faults: object[] = [];
      for (const path of paths) {
        await show(page, path);
        const found = await faultsOf(page);
        if (Object.values(found).some(Boolean)) faults.push({ path, ...found });
      }
      expect(faults).toEqual([]);
      expect(dialogs).toEqual([]);
      await show(page, paths.find((path) => path.startsWith('/deliveries/')) ?? '');
      await settled(page);
      expect(await page.content()).toContain('&lt;img src=x');
      expect(await page.locator('#root').innerText()).toContain('\\u202e');
      complaints.none();
      await context.close();
    });
  });
});
