import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { describe, expect, it } from 'vitest';

import { differenceTable } from '../capture/difference-table.js';
import { WORKSPACE } from '../support/scratch-project.js';

const PLACE = /(<!-- capture-differences -->\n)[\s\S]*?(<!-- \/capture-differences -->)/;

describe('the table of exceptions in docs/guarantees.md', () => {
  it('equals the table that the suite of write operations makes (UPDATE_DOCS=1 writes it)', async () => {
    const file = join(WORKSPACE, 'docs/guarantees.md');
    const page = await readFile(file, 'utf8');
    const written = page.replace(
      PLACE,
      (_, start: string, end: string) => `${start}\n${differenceTable(['orm', 'trigger'])}\n\n${end}`,
    );
    const formatted = await format(written, { ...(await resolveConfig(file)), parser: 'markdown' });
    if (process.env.UPDATE_DOCS) await writeFile(file, formatted);
    expect(await readFile(file, 'utf8')).toBe(formatted);
  });
});
