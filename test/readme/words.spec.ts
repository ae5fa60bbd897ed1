// Misspelt on purpose. cspell:ignore recieved
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { WORKSPACE } from '../support/scratch-project.js';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webhooks-words-'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function page(text: string): Promise<string> {
  const file = join(folder, 'page.md');
  await writeFile(file, text);
  return file;
}

function run(script: string, ...args: string[]): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [join(WORKSPACE, script), ...args],
      { cwd: WORKSPACE },
      (_, stdout, stderr) => resolve({ status: child.exitCode, output: stdout + stderr }),
    );
  });
}

describe('the check of the vocabulary', () => {
  const check = (...files: string[]) => run('scripts/check-words.mjs', ...files);

  it('finds an old word, and prints its line and the word to use', async () => {
    const { status, output } = await check(await page('# A page\n\nAn event is told\nof each change.\n'));
    expect(output).toContain("page.md:3: 'told' is no longer used. Write: capture");
    expect(status).toBe(1);
  });

  it('ignores code and the targets of links', async () => {
    const { status, output } = await check(await page('`told`, [a](told.md)\n\n```ts\nconst told = 1;\n```\n'));
    expect(output).toBe('');
    expect(status).toBe(0);
  });

  it('finds nothing in the documents', async () => {
    expect(await check()).toEqual({ status: 0, output: '' });
  });
});

describe('the check of the spelling', () => {
  const spell = (...args: string[]) =>
    run(
      'node_modules/cspell/bin.mjs',
      'lint',
      '--no-progress',
      '--no-summary',
      '--config',
      join(WORKSPACE, 'cspell.json'),
      ...args,
    );

  it('finds a misspelt word', async () => {
    const { status, output } = await spell('--root', folder, await page('A webhook is recieved.\n'));
    expect(output).toContain('Unknown word (recieved');
    expect(status).toBe(1);
  }, 60_000);

  it('finds none in the documents', async () => {
    expect(await spell('*.md', 'docs/**/*.md')).toEqual({ status: 0, output: '' });
  }, 60_000);
});
