import type { Page } from 'playwright-core';

/** Waits until nothing loads any more. */
export async function settled(page: Page): Promise<void> {
  await page.waitForFunction(() => {
    const isBusy = document.querySelector('[aria-busy]') !== null;
    return !isBusy && document.querySelector('h1') !== null;
  });
}

/** Opens a screen of the page, as a link would, and waits until it shows its data. */
export async function show(page: Page, path: string): Promise<void> {
  await go(page, path);
  await settled(page);
}

/** Opens a screen of the page, as a link would. */
export async function go(page: Page, path: string): Promise<void> {
  await page.evaluate((hash) => {
    window.location.hash = hash;
  }, path);
  // React draws the new screen in a later task, and the old one is settled.
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))));
}
