import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { describe, expect, it } from 'vitest';

import { webUrlOf, withAbsoluteLinks } from '../../scripts/absolute-links.mjs';
import { WORKSPACE } from '../support/scratch-project.js';

const PAGES_OUTSIDE_DOCS = [
  ...['README.md', 'CHANGELOG.md', 'SECURITY.md', 'CONTRIBUTING.md'],
  'libs/webhooks/src/capture/typeorm/README.md',
];
/** Only contributors read these, so the package does not contain them. */
const NOT_IN_PACKAGE = ['CONTRIBUTING.md', 'libs/webhooks/src/capture/typeorm/README.md'];

interface Link {
  page: string;
  /** The path in the workspace. */
  path: string;
  anchor: string | undefined;
}

const read = (file: string) => readFile(join(WORKSPACE, file), 'utf8');

async function pages(): Promise<string[]> {
  const names = await readdir(join(WORKSPACE, 'docs'), { recursive: true });
  return [...PAGES_OUTSIDE_DOCS, ...names.filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];
}

const withoutCode = (markdown: string) => markdown.replaceAll(/^ *```[\s\S]*?^ *```/gm, '').replaceAll(/`[^`]*`/g, '');

async function relativeLinks(): Promise<Link[]> {
  const found: Link[] = [];
  for (const page of await pages()) {
    for (const [, target = ''] of withoutCode(await read(page)).matchAll(/\]\(([^()\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [path = '', anchor] = target.split('#');
      found.push({ page, path: path === '' ? page : posix.join(posix.dirname(page), path), anchor });
    }
  }
  return found;
}

/** The anchor that GitHub makes from a heading. */
function anchorsOf(markdown: string): string[] {
  return [...markdown.replaceAll(/^ *```[\s\S]*?^ *```/gm, '').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}

describe('links between pages', () => {
  it('lead to files and headings that exist', async () => {
    const links = await relativeLinks();
    expect(links.length).toBeGreaterThan(100);
    const dead: string[] = [];
    for (const { page, path, anchor } of links) {
      const exists = existsSync(join(WORKSPACE, path));
      if (!exists || (anchor !== undefined && !anchorsOf(await read(path)).includes(anchor))) {
        dead.push(`${page}: ${path}${anchor === undefined ? '' : `#${anchor}`}`);
      }
    }
    expect(dead).toEqual([]);
  });

  it('lead to files of the package, in which docs/ has the same place', async () => {
    const { files } = JSON.parse(await read('libs/webhooks/package.json')) as { files: string[] };
    const outside = (await relativeLinks()).filter(
      ({ page, path }) =>
        !NOT_IN_PACKAGE.includes(page) && !NOT_IN_PACKAGE.includes(path) && !files.includes(path.split('/')[0] ?? ''),
    );
    expect(outside).toEqual([]);
  });

  it('reach every page from the index', async () => {
    const fromIndex = (await relativeLinks()).filter(({ page }) => page === 'docs/README.md').map(({ path }) => path);
    const unlisted = (await pages()).filter(
      (page) => page.startsWith('docs/') && !page.startsWith('docs/decisions/0') && page !== 'docs/README.md',
    );
    expect(fromIndex).toEqual(expect.arrayContaining(unlisted));
    const decisions = (await relativeLinks()).filter(({ page }) => page === 'docs/decisions/README.md');
    const records = (await pages()).filter((page) => page.startsWith('docs/decisions/0'));
    expect(decisions.map(({ path }) => path)).toEqual(records.toSorted());
  });
});

describe('pages that the source names', () => {
  it('exist, so that users find them in the package', async () => {
    const folder = join(WORKSPACE, 'libs/webhooks/src');
    const named = new Set<string>();
    for (const file of await readdir(folder, { recursive: true })) {
      if (!file.endsWith('.ts')) continue;
      for (const [page] of (await readFile(join(folder, file), 'utf8')).matchAll(/\bdocs\/[\w./-]+\.md\b/g))
        named.add(page);
    }
    expect(named.size).toBeGreaterThan(10);
    expect([...named].filter((page) => !existsSync(join(WORKSPACE, page)))).toEqual([]);
  });
});

describe('the README', () => {
  it('has at most 16 KB', async () => {
    expect(Buffer.byteLength(await read('README.md'))).toBeLessThanOrEqual(16 * 1024);
  });
});

describe('links of a packed page, when package.json names the repository', () => {
  const repository = { type: 'git', url: 'git+https://git.example/acme/hooks.git' };

  it('lead to the repository at the tag of the version', () => {
    const markdown =
      'See [b](b.md), [top](../README.md#start), [here](#x), [web](https://a.example/c.md) and `[d](e.md)`.';
    expect(withAbsoluteLinks(markdown, 'docs/a.md', webUrlOf(repository) ?? '', 'v1.2.3')).toBe(
      'See [b](https://git.example/acme/hooks/blob/v1.2.3/docs/b.md), ' +
        '[top](https://git.example/acme/hooks/blob/v1.2.3/README.md#start), [here](#x), ' +
        '[web](https://a.example/c.md) and `[d](e.md)`.',
    );
  });

  it('leave no relative link in the real pages', async () => {
    for (const page of await pages()) {
      const markdown = withAbsoluteLinks(await read(page), page, 'https://git.example/acme/hooks', 'v1');
      expect(
        [...withoutCode(markdown).matchAll(/\]\((?!https?:|#)[^)]*\)/g)].map(([link]) => `${page} ${link}`),
      ).toEqual([]);
    }
  });

  it('accept every form of `repository` that npm knows, and refuse others', () => {
    expect(webUrlOf(undefined)).toBeNull();
    expect(webUrlOf('acme/hooks')).toBe('https://github.com/acme/hooks');
    expect(webUrlOf('github:acme/hooks')).toBe('https://github.com/acme/hooks');
    expect(webUrlOf('git+ssh://git@git.example/acme/hooks.git')).toBe('https://git.example/acme/hooks');
    expect(() => webUrlOf('somewhere')).toThrow(/unknown form of repository 'somewhere'/);
  });
});
