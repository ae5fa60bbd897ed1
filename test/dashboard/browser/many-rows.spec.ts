import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { copiedId, copyRows } from '../copy-rows.js';
import { Order, startShop, type Shop } from '../shop-app.js';
import { describeInBrowser, useBrowser } from './browser.js';
import { openPage, type OpenPage } from './page-of.js';

const DELIVERIES = 100_000;
const LISTENERS = 5000;
const TASK_MS = 50;
const FIRST_ROWS_MS = 1000;
/** What a page without rows takes on two cores that have nothing else to do. */
const PAGE_ALONE_MS = 400;
/** About 460 rows. */
const TURN_PX = 20_000;

/** A task of the page's thread, as Chromium traces it. */
interface Task {
  /** From its begin to its end. On a busy machine other programs have the processor for a part of it. */
  readonly ms: number;
  /** What the thread itself used of the processor. */
  readonly ownMs: number;
}

interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly dur?: number;
  readonly tdur?: number;
  readonly args: { readonly name?: string };
}

function median(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] as number;
}

describeInBrowser('long lists', () => {
  const browser = useBrowser();
  let shop: Shop;
  let opened: OpenPage | undefined;
  beforeAll(async () => {
    shop = await startShop();
    await fill(shop);
  });
  afterAll(() => shop?.close());
  afterEach(async () => {
    opened?.complaints.none();
    await opened?.context.close();
    opened = undefined;
  });

  describe.each([
    ['deliveries', DELIVERIES],
    ['listeners', LISTENERS],
  ])('of all %s', (path, all) => {
    it(`show the first of ${all} rows in less than ${FIRST_ROWS_MS} ms`, { timeout: 120_000 }, async () => {
      const times: number[] = [];
      const alone: number[] = [];
      for (let round = 0; round < 3; round++) {
        alone.push(await msUntil('h1', shop, '/nothing'));
        times.push(await msUntil('.grid-row', shop, `/${path}`));
      }
      // On a busy machine a page without rows takes longer, too. So much longer may a page with rows take.
      const limit = FIRST_ROWS_MS + Math.max(0, median(alone) - PAGE_ALONE_MS);
      expect(median(times), `each time: ${times.join(', ')}; without rows: ${alone.join(', ')}`).toBeLessThan(limit);
    });

    it(`scroll through ${all} rows without a task of ${TASK_MS} ms`, { timeout: 600_000 }, async () => {
      opened = await openPage(browser, shop, 'operator', `/${path}`);
      const { page } = opened;
      await page.locator('.grid-body').hover();
      const tasks = await tasksOf(page, async () => {
        while ((await rowsOf(page)) < all) {
          await page.mouse.wheel(0, TURN_PX);
          await drawn(page);
        }
        for (let turn = 0; turn < 40; turn++) {
          await page.mouse.wheel(0, -TURN_PX);
          await drawn(page);
        }
      });
      expect(tasks.length).toBeGreaterThan(all / 1000);
      // What the thread used of the processor: the rest of a long task says what other programs did meanwhile.
      const long = tasks.filter(({ ownMs }) => ownMs >= TASK_MS);
      expect(long).toEqual([]);
    });
  });

  /** Loads a page. Measured in the page, so that the way of an answer to this process does not count. */
  async function msUntil(selector: string, { origin, tokenOf }: Shop, path: string): Promise<number> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    await page.addInitScript((wanted) => {
      const look = () => {
        // The frame with the rows is on the screen when the next one begins.
        if (document.querySelector(wanted) === null) requestAnimationFrame(look);
        else requestAnimationFrame((now) => ((window as unknown as WithShownAt).shownAt = Math.round(now)));
      };
      look();
    }, selector);
    const fragment = new URLSearchParams({ t: await tokenOf('operator'), next: path });
    await page.goto(`${origin}/webhooks/dashboard#${fragment.toString()}`);
    const shownAt = await page.waitForFunction(() => (window as unknown as WithShownAt).shownAt);
    const ms = (await shownAt.jsonValue()) as number;
    await context.close();
    return ms;
  }
});

interface WithShownAt {
  /** Milliseconds since the page was asked for. */
  shownAt?: number;
}

/** How many rows the list has loaded: its height, because only the rows in view are in the document. */
function rowsOf(page: Page): Promise<number> {
  return page.locator('.grid-space').evaluate((space) => {
    const row = space.querySelector('.grid-row') as HTMLElement;
    return Math.round(space.clientHeight / row.offsetHeight);
  });
}

async function drawn(page: Page): Promise<void> {
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))));
}

/** @returns what the thread of the page did meanwhile */
async function tasksOf(page: Page, run: () => Promise<void>): Promise<Task[]> {
  const trace = await traceOf(page, run);
  const isOfPage = new Set(
    trace.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain').map(threadOf),
  );
  return trace
    .filter((event) => event.name === 'RunTask' && isOfPage.has(threadOf(event)))
    .map(({ dur = 0, tdur = dur }) => ({ ms: dur / 1000, ownMs: tdur / 1000 }));
}

async function traceOf(page: Page, run: () => Promise<void>): Promise<readonly TraceEvent[]> {
  const browser = page.context().browser() as Browser;
  await browser.startTracing(page, { categories: ['-*', 'disabled-by-default-devtools.timeline'] });
  let trace: Buffer;
  try {
    await run();
  } finally {
    // Otherwise the next test could not start one.
    trace = await browser.stopTracing();
  }
  return (JSON.parse(trace.toString()) as { traceEvents: readonly TraceEvent[] }).traceEvents;
}

function threadOf({ pid, tid }: TraceEvent): string {
  return `${pid}/${tid}`;
}

async function fill(shop: Shop): Promise<void> {
  await shop.listeners.create({
    ...{ owner: 'acme', name: 'Orders', url: shop.url('hooks.acme.test/'), events: ['order.*'] },
  });
  await shop.dataSource.getRepository(Order).save({ customer: 'acme', status: 'new', total: '5.00' });
  await shop.dispatcher.drain();
  await copyRows(shop, 'webhook_listeners', LISTENERS, {
    id: copiedId('lst', 'n.i'),
    name: `'Orders ' || n.i`,
    url: `url || n.i`,
    created_at: `created_at - n.i * 1000`,
  });
  await copyRows(shop, 'webhook_deliveries', DELIVERIES, {
    id: copiedId('dlv', 'n.i'),
    event_seq: `event_seq + n.i`,
    // More than the page reads of them at once.
    listener_id: copiedId('lst', 'n.i % 300 + 1'),
    created_at: `created_at - n.i * 1000`,
    last_status: `CASE n.i % 5 WHEN 0 THEN 503 ELSE 204 END`,
    state: `CASE n.i % 5 WHEN 0 THEN 'exhausted' WHEN 1 THEN 'discarded' ELSE 'succeeded' END`,
  });
}
