import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { codeBlocks, WORKSPACE } from '../support/scratch-project.js';

it('docs/observability.md shows the files that the demo runs', async () => {
  const files = (await codeBlocks('docs/observability.md')).filter(({ name }) => name !== null);
  expect(files).toHaveLength(2);
  for (const { name, code } of files) expect(code).toBe(await readFile(join(WORKSPACE, name ?? ''), 'utf8'));
});
