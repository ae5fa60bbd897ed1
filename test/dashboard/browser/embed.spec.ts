import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { BrowserContext, Page } from 'playwright-core';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { buildPages } from '../built-pages.js';
import { startShop, type ShopOptions } from '../shop-app.js';
import { describeInBrowser, useBrowser, watch } from './browser.js';

const MINUTE = 60_000;

/** A server on loopback. */
async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return (server.address() as AddressInfo).port;
}

/** The application of a customer: another host name, so another site than the shop at 127.0.0.1. */
class ParentApp {
  /** What its route for sessions answers; `null`: 403. */
  tokenOf: () => Promise<string | null> = () => Promise.resolve(null);
  readonly given: string[] = [];
  portalScript = '';
  origin = '';
  private readonly server = createServer((request, response) => {
    if (request.url !== '/session') {
      response.setHeader('content-type', 'text/html').end(this.html());
      return;
    }
    void this.tokenOf().then((token) => {
      if (token !== null) this.given.push(token);
      response.statusCode = token === null ? 403 : 200;
      response.end(JSON.stringify({ token }));
    });
  });

  async start(): Promise<this> {
    this.origin = `http://localhost:${await listen(this.server)}`;
    return this;
  }

  close(): void {
    this.server.close();
    this.server.closeAllConnections();
  }

  private html(): string {
    return `<!doctype html><title>Customer</title><link rel="icon" href="data:,">
      <script>
        window.seen = [];
        for (const name of ['navigate', 'error', 'token-needed'])
          addEventListener('webhooks:' + name, ({ detail }) => seen.push({ name, ...detail }));
        window.messages = [];
        addEventListener('message', ({ data, origin }) => messages.push({ data, origin }));
      </script>
      <script src="${this.portalScript}"></script>
      <webhooks-portal fetch-session="/session" next="/listeners" label="Your webhooks"></webhooks-portal>`;
  }
}

/** A proxy that serves an application below a path of its own. */
async function startProxy(target: string, path: string): Promise<{ origin: string; close(): void }> {
  const server = createServer((request, response) => {
    if (!request.url?.startsWith(`${path}/`)) {
      response.writeHead(404).end();
      return;
    }
    const { method = 'GET', headers } = request;
    const forwarded = httpRequest(`${target}${request.url.slice(path.length)}`, { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    forwarded.on('error', () => response.destroy());
    request.pipe(forwarded);
  });
  const port = await listen(server);
  return {
    origin: `http://127.0.0.1:${port}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

describeInBrowser('the portal in a page of another site', () => {
  const browser = useBrowser();
  const closing: (() => unknown)[] = [];
  // Not in the time of the first test.
  beforeAll(buildPages);
  afterEach(async () => {
    for (const close of closing.splice(0).toReversed()) await close();
  });

  async function start(options: ShopOptions = {}, proxyPath?: string) {
    const parent = await new ParentApp().start();
    closing.push(() => parent.close());
    const shop = await startShop({ ...options, dashboard: { portal: { embedOrigins: [parent.origin] } } });
    closing.push(() => shop.close());
    for (const owner of ['acme', 'globex']) {
      await shop.listeners.create({
        owner,
        name: `Hook of ${owner}`,
        url: shop.url('hooks.acme.test/x'),
        events: ['*'],
      });
    }
    const proxy = proxyPath === undefined ? undefined : await startProxy(shop.origin, proxyPath);
    if (proxy) closing.push(() => proxy.close());
    const at = `${proxy ? proxy.origin + proxyPath : shop.origin}${options.root ?? ''}/webhooks`;
    parent.portalScript = `${at}/embed.js`;
    parent.tokenOf = () => shop.tokenOf({ owner: 'acme', expiresInMs: 10 * MINUTE });
    return { parent, shop, at };
  }

  async function open(parent: ParentApp, at: string) {
    const context = await browser.newContext();
    closing.push(() => context.close());
    await blockStorage(context);
    // Timers of the page run on this clock, so that minutes pass at once.
    await context.clock.install();
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const complaints = await watch(page, [parent.origin, new URL(at).origin]);
    await page.goto(parent.origin);
    return { page, complaints, portal: page.frameLocator('iframe') };
  }

  /** As browsers do that block cookies and storage of other sites: each use throws. */
  async function blockStorage(context: BrowserContext): Promise<void> {
    await context.addInitScript(() => {
      if (window.top === window) return;
      const refuse = {
        get: () => {
          throw new DOMException('Access is denied for this document.', 'SecurityError');
        },
      };
      for (const name of ['localStorage', 'sessionStorage', 'indexedDB', 'caches']) {
        Object.defineProperty(window, name, refuse);
      }
      Object.defineProperty(Document.prototype, 'cookie', refuse);
    });
  }

  const seen = (page: Page) =>
    page.evaluate(() => (window as unknown as { seen: { name: string; code?: string; path?: string }[] }).seen);

  const SETTINGS: (readonly [name: string, options: ShopOptions, proxyPath?: string])[] = [
    ['on Express', { platform: 'express' }],
    ['on Fastify', { platform: 'fastify' }],
    [
      'on Express, with a global prefix',
      { platform: 'express', root: '/api', prepare: (app) => app.setGlobalPrefix('api') },
    ],
    [
      'on Fastify, with a global prefix, behind a path of a proxy',
      { platform: 'fastify', root: '/api', prepare: (app) => app.setGlobalPrefix('api') },
      '/outer/path',
    ],
  ];
  describe.each(SETTINGS.map(([name, options, proxyPath]) => ({ name, options, proxyPath })))(
    '$name',
    ({ options, proxyPath }) => {
      it('gets its token from the page, shows what is its owner’s, and tells where the reader is', async () => {
        const { parent, at } = await start(options, proxyPath);
        const { page, portal, complaints } = await open(parent, at);
        await portal.getByRole('link', { name: 'Hook of acme' }).waitFor();
        expect(await portal.getByText('Hook of globex').count()).toBe(0);
        expect(parent.given).toHaveLength(1);
        await portal.getByRole('link', { name: 'Event types' }).click();
        await portal.getByRole('heading', { name: 'Event types' }).waitFor();
        await expect.poll(async () => (await seen(page)).map(({ path }) => path)).toContain('/catalogue');
        const heightOf = async () => (await page.locator('iframe').boundingBox())?.height ?? 0;
        await expect.poll(heightOf).toBeGreaterThan(320);
        for (const frame of page.frames()) expect(frame.url()).not.toContain('whs_');
        complaints.none();
      });
    },
  );

  it('gets a new token before the old one ends, and shows that the session is over when there is none', async () => {
    const { parent, shop, at } = await start();
    const { page, portal } = await open(parent, at);
    await portal.getByRole('link', { name: 'Hook of acme' }).waitFor();
    await page.clock.fastForward(5 * MINUTE + 1000);
    await expect.poll(() => parent.given.length).toBe(2);
    const [first, second] = parent.given;
    expect(second).not.toBe(first);
    // The first token has ended, and the portal goes on.
    shop.clock.advance(5 * MINUTE);
    await portal.getByRole('link', { name: 'Event types' }).click();
    await portal.getByRole('heading', { name: 'Event types' }).waitFor();
    expect((await seen(page)).filter(({ name }) => name === 'error')).toEqual([]);

    parent.tokenOf = () => Promise.resolve(null);
    const revoked = await fetch(`${at}/v1/sessions?owner=acme`, {
      method: 'DELETE',
      headers: { 'x-user': 'operator', 'x-webhooks-request': '1' },
    });
    expect(revoked.status).toBe(204);
    await portal.getByRole('link', { name: 'Deliveries' }).click();
    await expect.poll(async () => (await seen(page)).map(({ code }) => code)).toContain('SESSION_NOT_FETCHED');
    await page.clock.fastForward(11_000);
    await portal.getByText('Your session is over').waitFor();
    expect(await portal.getByText('Hook of acme').count()).toBe(0);
    await expect.poll(async () => (await seen(page)).map(({ code }) => code)).toContain('SESSION_OVER');
  });

  it('looks as its session says', async () => {
    const { parent, shop, at } = await start();
    parent.tokenOf = () => shop.tokenOf({ owner: 'acme', ...{ theme: 'dark', accent: '#0a6638', next: '/catalogue' } });
    const { page, portal } = await open(parent, at);
    await portal.getByRole('link', { name: 'Hook of acme' }).waitFor();
    const look = await page
      .frames()[1]
      ?.evaluate(() => [
        document.documentElement.dataset['theme'],
        document.documentElement.style.getPropertyValue('--accent'),
      ]);
    expect(look).toEqual(['dark', '#0a6638']);
  });

  it('says nothing to a page that is not allowed: the browser does not even show it', async () => {
    const { at } = await start();
    const stranger = await new ParentApp().start();
    closing.push(() => stranger.close());
    stranger.portalScript = `${at}/embed.js`;
    let asked = 0;
    stranger.tokenOf = () => {
      asked++;
      return Promise.resolve(null);
    };
    const { page, complaints } = await open(stranger, at);
    await expect.poll(() => complaints.all.join()).toMatch(/frame-ancestors|frame/i);
    expect(await page.evaluate(() => (window as unknown as { messages: object[] }).messages)).toEqual([]);
    expect(asked).toBe(0);
  });

  it('takes nothing from a page that its session does not name', async () => {
    const { parent, shop, at } = await start();
    parent.tokenOf = () => shop.tokenOf({ owner: 'acme', parentOrigins: ['https://app.example.com'] });
    const { page, portal } = await open(parent, at);
    await portal.getByText('Your session is over').waitFor();
    expect(await portal.getByText('Hook of acme').count()).toBe(0);
    const before = await page.evaluate(() => (window as unknown as { messages: object[] }).messages.length);
    await page.frames()[1]?.evaluate(() => {
      window.location.hash = '#/listeners?secret';
    });
    await portal.getByText('Your session is over').waitFor();
    expect(await page.evaluate(() => (window as unknown as { messages: object[] }).messages.length)).toBe(before);
  });

  it('has the headers for it, and the dashboard has the ones against it', async () => {
    const { parent, at } = await start();
    const portal = await fetch(`${at}/portal`);
    expect(portal.headers.get('content-security-policy')).toContain(`frame-ancestors 'self' ${parent.origin};`);
    expect(portal.headers.get('x-frame-options')).toBeNull();
    const dashboard = await fetch(`${at}/dashboard`);
    expect(dashboard.headers.get('content-security-policy')).toContain("frame-ancestors 'none';");
    expect(dashboard.headers.get('x-frame-options')).toBe('DENY');
  });
});
