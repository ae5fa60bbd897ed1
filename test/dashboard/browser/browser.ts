import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { CHROMIUM } from '../../support/installed-chromium.js';

/** Suites that need a browser. Without one they are skipped, and the last line of the run says so. */
export const describeInBrowser = CHROMIUM === undefined ? describe.skip : describe;

/** One browser for the suites of a file. */
export function useBrowser(): { newContext(options?: BrowserContextOptions): Promise<BrowserContext> } {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: CHROMIUM ?? '',
      // As root, Chromium runs without its sandbox only.
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--force-color-profile=srgb'],
      ...{ handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false },
    });
  });
  afterAll(() => browser?.close());
  return { newContext: (options) => browser.newContext({ reducedMotion: 'reduce', ...options }) };
}

/** What a page must never do. */
export interface Complaints {
  readonly all: string[];
  /** Fails if there are any. */
  none(): void;
}

/** Collects errors in the console, violations of the policy, errors of scripts, and requests to other origins. */
export async function watch(page: Page, origins: readonly string[]): Promise<Complaints> {
  const all: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') all.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => all.push(`script: ${error.message}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!/^(?:data|blob):/.test(url) && !origins.includes(new URL(url).origin)) all.push(`foreign request: ${url}`);
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
      console.error(`policy: ${violatedDirective} ${blockedURI}`);
    });
  });
  return { all, none: () => expect(all).toEqual([]) };
}
