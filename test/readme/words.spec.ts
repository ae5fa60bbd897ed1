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
  let misspelt: string;
  let found: { status: number | null; output: string };
  const problems = () => found.output.split('\n').filter((line) => line.includes(' - '));
  // One run for both tests, because to load the dictionaries takes as long as to check every document.
  beforeAll(async () => {
    misspelt = await page('A webhook is recieved.\n');
    const options = ['--no-progress', '--root', '/', '--config', join(WORKSPACE, 'cspell.json')];
    const documents = ['*.md', 'docs/**/*.md'].map((pattern) => join(WORKSPACE, pattern));
    found = await run('node_modules/cspell/bin.mjs', 'lint', ...options, ...documents, misspelt);
  });

  it('finds a misspelt word', () => {
    const [problem] = problems().filter((line) => line.startsWith(misspelt.slice(1)));
    expect(problem).toContain('Unknown word (recieved');
    expect(found.status).toBe(1);
  });

  it('finds none in the documents', () => {
    expect(problems().filter((line) => !line.startsWith(misspelt.slice(1)))).toEqual([]);
    expect(found.output).toMatch(/Files checked: \d{2,}, Issues found: 1 in 1 file/);
  });
});
