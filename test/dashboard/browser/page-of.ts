import type { BrowserContext, BrowserContextOptions, Page, ViewportSize } from 'playwright-core';
import type { Shop } from '../shop-app.js';
import { watch, type Complaints } from './browser.js';
import { settled } from './settled.js';

/** A page of the shop in a browser of its own. */
export interface OpenPage {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly complaints: Complaints;
}

interface Contexts {
  newContext(options?: BrowserContextOptions): Promise<BrowserContext>;
}

interface OpenOptions {
  readonly viewport?: ViewportSize;
  /** The language of the browser. */
  readonly locale?: string;
}

/** Opens a page as an operator or as a customer. */
export async function openPage(
  browser: Contexts,
  shop: Pick<Shop, 'origin' | 'tokenOf'>,
  who: Parameters<Shop['tokenOf']>[0],
  path = '/',
  { viewport = { width: 1280, height: 900 }, locale = 'en-US' }: OpenOptions = {},
): Promise<OpenPage> {
  const context = await browser.newContext({ viewport, locale });
  const page = await context.newPage();
  // Below the limit of a test, so that its error names the step.
  page.setDefaultTimeout(20_000);
  const complaints = await watch(page, [shop.origin]);
  const name = who === 'operator' ? 'dashboard' : 'portal';
  const fragment = new URLSearchParams({ t: await shop.tokenOf(who), next: path });
  await page.goto(`${shop.origin}/webhooks/${name}#${fragment.toString()}`);
  await settled(page);
  return { page, context, complaints };
}
