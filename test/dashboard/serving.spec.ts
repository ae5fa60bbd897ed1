import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { RequestMethod, VersioningType, type INestApplication } from '@nestjs/common';
import fastifyHelmet from '@fastify/helmet';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import helmet from 'helmet';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebhooksDashboardModule } from 'nestjs-entity-webhooks/dashboard';
import { WORKSPACE } from '../support/scratch-project.js';
import { buildPages } from './built-pages.js';
import { startShop, type Shop } from './shop-app.js';

const UI = join(WORKSPACE, 'libs/webhooks/dist/ui');
const KIB = 1024;
const PARENT = 'https://app.example.com';

interface Setting {
  readonly name: string;
  readonly platform: 'express' | 'fastify';
  readonly root: string;
  readonly prepare?: (app: INestApplication) => unknown;
}

const useHelmet = (platform: string) => async (app: INestApplication) => {
  if (platform === 'fastify') await (app as NestFastifyApplication).register(fastifyHelmet as never);
  else app.use(helmet());
};

const SETTINGS: Setting[] = (['express', 'fastify'] as const).flatMap((platform): Setting[] => [
  { name: 'without a prefix, with helmet', platform, root: '', prepare: useHelmet(platform) },
  {
    name: 'with a prefix and versions in URLs',
    ...{ platform, root: '/api' },
    prepare: (app) => app.setGlobalPrefix('/api/').enableVersioning({ type: VersioningType.URI, defaultVersion: '2' }),
  },
  {
    name: 'excluded from the prefix',
    ...{ platform, root: '' },
    prepare: (app) =>
      app.setGlobalPrefix('api', { exclude: [{ path: 'webhooks/{*rest}', method: RequestMethod.ALL }] }),
  },
]);

/** What a browser makes of the URLs of a page. */
function urlsIn(html: string, page: string): string[] {
  return [...html.matchAll(/(?:src|href)="(assets\/[^"]+)"/g)].map(([, url]) => new URL(url as string, page).href);
}

describe.each(SETTINGS)('pages on $platform, $name', ({ platform, root, prepare }) => {
  let shop: Shop;
  let at: string;
  beforeAll(async () => {
    shop = await startShop({
      platform,
      dashboard: { portal: { embedOrigins: [PARENT], messages: { 'listeners.title': 'Endpoints "<&>"' } } },
      ...(prepare && { prepare }),
    });
    at = `${shop.origin}${root}/webhooks`;
  });
  afterAll(() => shop?.close());

  it('are found with their scripts and styles beside them', async () => {
    for (const page of ['dashboard', 'portal']) {
      const response = await fetch(`${at}/${page}`);
      expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
      const urls = urlsIn(await response.text(), `${at}/${page}`);
      expect(urls).toHaveLength(2);
      for (const url of urls) {
        const asset = await fetch(url);
        expect([url, asset.status, asset.headers.get('cache-control')]).toEqual([
          url,
          200,
          'public, max-age=31536000, immutable',
        ]);
      }
    }
    // The pages find the API at this path.
    expect((await fetch(new URL('v1/me', `${at}/dashboard`))).status).toBe(401);
  });

  it('keep their URLs right after a slash at the end', async () => {
    const response = await fetch(`${at}/dashboard/`, { redirect: 'manual' });
    expect([response.status, await response.text()]).toEqual([302, '']);
    expect(new URL(response.headers.get('location') ?? '', `${at}/dashboard/`).href).toBe(`${at}/dashboard`);
  });

  it('allow own scripts only, and frames only where they are allowed', async () => {
    const dashboard = await fetch(`${at}/dashboard`);
    const policy = dashboard.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).toContain("require-trusted-types-for 'script'");
    expect(dashboard.headers.get('x-frame-options')).toBe('DENY');
    expect(dashboard.headers.get('referrer-policy')).toBe('no-referrer');
    const portal = await fetch(`${at}/portal`);
    expect(portal.headers.get('content-security-policy')).toContain(`frame-ancestors 'self' ${PARENT}`);
    expect(portal.headers.get('x-frame-options')).toBeNull();
    // What the application writes into the page cannot leave its attribute.
    expect(await portal.text()).toContain('Endpoints \\&quot;&lt;&amp;&gt;\\&quot;');
  });

  it('are sent compressed, and not again if they are known', async () => {
    const [script = ''] = urlsIn(await (await fetch(`${at}/portal`)).text(), `${at}/portal`).filter((url) =>
      url.endsWith('.js'),
    );
    const sizes = [];
    for (const encoding of ['identity', 'gzip', 'br']) {
      const response = await fetch(script, { headers: { 'accept-encoding': encoding } });
      expect(response.headers.get('content-encoding')).toBe(encoding === 'identity' ? null : encoding);
      expect(response.headers.get('vary')).toContain('Accept-Encoding');
      sizes.push(Number(response.headers.get('content-length')));
      expect(await response.text()).toContain('createElement');
    }
    expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
    const { headers } = await fetch(script);
    const again = await fetch(script, { headers: { 'if-none-match': headers.get('etag') ?? '' } });
    expect([again.status, await again.text()]).toEqual([304, '']);
  });

  it('are the only files: no name leads to another one', async () => {
    for (const name of [
      encodeURIComponent('../dashboard.js'),
      encodeURIComponent('../../package.json'),
      'manifest.json',
      'constructor',
      'x.js',
    ]) {
      expect([name, (await fetch(`${at}/assets/${name}`)).status]).toEqual([name, 404]);
    }
  });

  it('come with a script for pages of other origins', async () => {
    const response = await fetch(`${at}/embed.js`);
    expect(response.headers.get('cross-origin-resource-policy')).toBe('cross-origin');
    expect(await response.text()).toContain('webhooks-portal');
  });
});

describe('an application that serves one page only', () => {
  it('has no route for the other one', async () => {
    const shop = await startShop({ dashboard: { operators: false, portal: {} } });
    try {
      const status = async (page: string) => (await fetch(`${shop.origin}/webhooks/${page}`)).status;
      expect([await status('portal'), await status('dashboard')]).toEqual([200, 404]);
    } finally {
      await shop.close();
    }
    const without = await startShop({ dashboard: {} });
    try {
      const status = async (page: string) => (await fetch(`${without.origin}/webhooks/${page}`)).status;
      expect([await status('portal'), await status('embed.js'), await status('dashboard')]).toEqual([404, 404, 200]);
    } finally {
      await without.close();
    }
  });

  it.each([
    [{ portal: { embedOrigins: ['https://app.example.com/'] } }, 'portal.embedOrigins'],
    [{ portal: { accent: 'red; }' } }, 'portal.accent'],
    [{ portal: { logo: 'https://elsewhere.example/logo.png' } }, 'portal.logo'],
    [{ portal: { locales: ['xx'] } }, 'portal.locales'],
  ])('refuses %j', (options, key) => {
    expect(() => WebhooksDashboardModule.forRoot(options as never)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', details: { key } }),
    );
  });
});

describe('the built files', () => {
  beforeAll(buildPages);

  it('stay within their budgets', () => {
    const names = readdirSync(UI);
    const { script, style } = JSON.parse(readFileSync(join(UI, 'manifest.json'), 'utf8')) as Record<string, string>;
    const gzipped = (wanted: readonly string[]) =>
      names
        .filter((name) => wanted.some((one) => name === `${one}.gz`))
        .reduce((total, name) => total + statSync(join(UI, name)).size, 0) / KIB;
    const all = names.filter((name) => /\.(?:js|css)$/.test(name));
    expect(gzipped([script as string, style as string])).toBeLessThanOrEqual(170);
    expect(gzipped(all)).toBeLessThanOrEqual(340);
    expect(gzipped([style as string])).toBeLessThanOrEqual(20);
    expect(gzipped(['embed.js'])).toBeLessThanOrEqual(3);
    // What they add to the tarball: npm compresses with gzip, and cannot make the compressed forms smaller.
    const packed = names.map((name) => (names.includes(`${name}.gz`) ? `${name}.gz` : name));
    const total = packed.reduce((sum, name) => sum + statSync(join(UI, name)).size, 0);
    expect(total / KIB).toBeLessThanOrEqual(1.2 * KIB);
  });

  it('name the packages whose code they contain', () => {
    const notices = readFileSync(join(UI, 'THIRD-PARTY-NOTICES.txt'), 'utf8');
    for (const name of ['react', 'react-dom', '@base-ui/react', 'uplot']) {
      expect(notices).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\(MIT\\)`, 'm'));
    }
  });
});
