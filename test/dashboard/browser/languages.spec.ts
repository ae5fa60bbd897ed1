// Words of other languages. cspell:ignore Endpunkte terminaison
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startShop, type Shop } from '../shop-app.js';
import { describeInBrowser, useBrowser, watch } from './browser.js';
import { openPage } from './page-of.js';
import { playTraffic } from '../shop-traffic.js';
import { settled, show } from './settled.js';

const TITLES = [
  ['de', 'Endpunkte'],
  ['fr', 'Points de terminaison'],
  ['es', 'Endpoints'],
  ['pt-BR', 'Endpoints'],
  ['ja', 'エンドポイント'],
] as const;

describeInBrowser('a page in the language of its reader', () => {
  const browser = useBrowser();
  let shop: Shop;
  beforeAll(async () => {
    shop = await startShop({ startsAt: Date.now() - 2 * 3_600_000 });
    await playTraffic(shop, 3);
    await shop.listeners.create({ owner: 'acme', url: shop.url('hooks.acme.test/x'), events: ['order.*'] });
    await shop.tasks.create({ kind: 'recover', since: new Date(shop.clock.now() - 3_600_000) });
  });
  afterAll(() => shop?.close());

  async function open(session: object, browserLocale = 'en-GB') {
    const context = await browser.newContext({ locale: browserLocale });
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const complaints = await watch(page, [shop.origin]);
    const scripts: string[] = [];
    page.on('request', (request) => {
      const [name] = /[^/]+\.js$/.exec(request.url()) ?? [];
      if (name !== undefined) scripts.push(name);
    });
    await page.goto(
      `${shop.origin}/webhooks/portal#t=${await shop.tokenOf({ owner: 'acme', ...session })}&next=/listeners`,
    );
    await settled(page);
    const title = await page.locator('h1').textContent();
    const language = await page.locator('html').getAttribute('lang');
    const state = await page.locator('.badge').first().textContent();
    await context.close();
    complaints.none();
    return { title, language, state, scripts };
  }

  it.each(TITLES)(
    'speaks %s because its session says so, and loads the words of this language only',
    async (locale, title) => {
      const english = await open({});
      expect(english).toMatchObject({ title: 'Endpoints', language: 'en', state: 'Healthy' });
      const other = await open({ locale });
      expect(other).toMatchObject({ title, language: locale });
      expect(other.state).not.toBe('Healthy');
      const more = other.scripts.filter((name) => !english.scripts.includes(name));
      expect(more.map((name) => name.replace(/-.{8}\.js$/, ''))).toEqual([locale]);
    },
  );

  it.each(['en', ...TITLES.map(([locale]) => locale)])('ends its sentences once, in %s', async (locale) => {
    const url = shop.url('hooks.acme.test/old');
    const { id } = await shop.listeners.create({ owner: 'acme', url, events: ['order.*'] });
    await shop.listeners.disable(id, 'The contract has ended.');
    const { page, context } = await openPage(browser, shop, { owner: 'acme', locale }, `/listeners/${id}`);
    const text = await page.locator('main').textContent();
    expect(text).toContain('The contract has ended');
    expect(text).not.toMatch(/[.。]{2}/);
    await context.close();
  });

  it.each(['en', ...TITLES.map(([locale]) => locale)])(
    'shows each heading of its lists in full, in %s',
    async (locale) => {
      const viewport = { width: 1024, height: 800 };
      const { page, context, complaints } = await openPage(browser, shop, 'operator', '/', { viewport, locale });
      const cut: string[] = [];
      for (const path of ['/deliveries', '/listeners', '/events', '/tasks']) {
        await show(page, path);
        cut.push(
          ...(await page
            .locator('[role="columnheader"], .grid-row > :has(.badge), .segments button')
            .evaluateAll((all) =>
              all
                .filter((one) => one.textContent !== '' && one.scrollWidth > one.clientWidth + 1)
                .map((one) => one.textContent ?? ''),
            )),
        );
      }
      expect(cut).toEqual([]);
      complaints.none();
      await context.close();
    },
  );

  it('follows the browser if the session says nothing, and speaks English if the language is not there', async () => {
    expect(await open({}, 'pt-PT')).toMatchObject({ language: 'pt-BR' });
    expect(await open({}, 'fi-FI')).toMatchObject({ language: 'en' });
    expect(await open({ locale: 'en' }, 'de-DE')).toMatchObject({ language: 'en' });
  });
});
