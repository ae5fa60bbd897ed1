import { mkdirSync } from 'node:fs';
import type { Page } from 'playwright-core';
import { afterEach, beforeAll, describe, it } from 'vitest';
import { createWebhooksClient } from 'nestjs-entity-webhooks/client';
import { startShop, type Shop } from '../shop-app.js';
import { fillProcesses, fillStatistics } from '../fill-statistics.js';
import { playTraffic } from '../shop-traffic.js';
import { settled } from './settled.js';
import { FAULTS, showIn } from './states-of.js';
import { describeInBrowser, useBrowser, watch } from './browser.js';
import { screensOf, type Screens } from './screens-of.js';

// Draws every screen into a folder, for people who look at them:
//
//   LOOK=/tmp/pictures npm run test:browser -- pictures
//
// FULL=1 draws the whole height. LOCALE=ja chooses a language, and DIR=rtl the direction. PAGES, SIZES, THEMES and ONLY choose:
// PAGES=portal SIZES=390 THEMES=dark ONLY=delivery,listeners. STATES=empty,paused,error chooses states: empty (nobody has used the
// application), paused, and those of states-of.ts.
const FOLDER = process.env['LOOK'] ?? '';
const chosen = (name: string, all: string) => (process.env[name] || all).split(',');

interface Look {
  readonly page: string;
  readonly colorScheme: 'light' | 'dark';
  readonly width: number;
}

/** The screens that an application has from its first minute. */
const WITHOUT_DATA: Screens = {
  ...{ overview: '/overview', deliveries: '/deliveries', events: '/events', listeners: '/listeners' },
  ...{ 'listener-new': '/listeners/new', types: '/catalogue', tasks: '/tasks', 'task-new': '/tasks/new' },
  ...{ system: '/system', 'system-damaged': '/system?tab=damaged', 'system-audit': '/system?tab=audit' },
};

async function fill(shop: Shop): Promise<Screens> {
  await playTraffic(shop);
  shop.clock.advance(Math.max(0, Date.now() - shop.clock.now()));
  await fillStatistics(shop);
  await fillProcesses(shop);
  return screensOf(shop);
}

function pause({ origin }: Shop): Promise<unknown> {
  const client = createWebhooksClient({ url: `${origin}/webhooks/v1`, headers: { 'x-user': 'operator' } });
  return client.setSending({
    body: { paused: true, reason: 'The receivers of acme are being moved to a new data centre' },
  });
}

describe.runIf(FOLDER)('pictures', () => {
  describeInBrowser('of every screen', () => {
    const browser = useBrowser();
    let shop: Shop | undefined;
    beforeAll(() => mkdirSync(FOLDER, { recursive: true }));
    afterEach(() => shop?.close());

    it.each(chosen('STATES', 'usual'))('are drawn in the state %s', { timeout: 300_000 }, async (state) => {
      shop = await startShop({ startsAt: Date.now() - 4 * 3_600_000 });
      const screens = state === 'empty' ? WITHOUT_DATA : await fill(shop);
      if (state === 'paused') await pause(shop);
      for (const page of chosen('PAGES', 'dashboard,portal')) {
        for (const colorScheme of chosen('THEMES', 'light,dark') as ('light' | 'dark')[]) {
          for (const width of chosen('SIZES', '1440,1024,390').map(Number)) {
            await draw(shop, screens, state, { page, colorScheme, width });
          }
        }
      }
    });

    async function draw(app: Shop, screens: Screens, state: string, look: Look): Promise<void> {
      const { page, colorScheme, width } = look;
      const token = await app.tokenOf(page === 'dashboard' ? 'operator' : { owner: 'acme' });
      const context = await browser.newContext({
        colorScheme,
        locale: process.env['LOCALE'] || 'en-US',
        viewport: { width, height: width < 500 ? 844 : 900 },
      });
      try {
        for (const [name, path] of Object.entries(screens)) {
          if (!chosen('ONLY', name).includes(name)) continue;
          // A page of its own, so that it knows nothing of the screen before.
          const tab = await context.newPage();
          const complaints = await watch(tab, [app.origin]);
          await open(tab, `${app.origin}/webhooks/${page}#t=${token}&next=/nothing`);
          await showIn(state, tab, path);
          const of = state === 'usual' ? name : `${name}-${state}`;
          await tab.screenshot({
            path: `${FOLDER}/${page}-${of}-${width}-${colorScheme}.png`,
            fullPage: Boolean(process.env['FULL']),
          });
          await tab.close();
          // The browser itself complains about answers that failed.
          if (!(state in FAULTS)) complaints.none();
        }
      } finally {
        await context.close();
      }
    }

    async function open(tab: Page, url: string): Promise<void> {
      await tab.goto(url);
      await settled(tab);
      await tab.evaluate((dir) => (document.documentElement.dir = dir), process.env['DIR'] || 'ltr');
    }
  });
});
