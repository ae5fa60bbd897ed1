import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { describe, expect, it } from 'vitest';

import { differenceTable } from '../capture/difference-table.js';
import { WORKSPACE } from '../support/scratch-project.js';

const PLACE = /(<!-- capture-differences -->\n)[\s\S]*?(<!-- \/capture-differences -->)/;

describe('the table of capture in the README', () => {
  it('is the one that the suite of write operations makes (UPDATE_README=1 writes it)', async () => {
    const file = join(WORKSPACE, 'README.md');
    const readme = await readFile(file, 'utf8');
    const written = readme.replace(
      PLACE,
      (_, start: string, end: string) => `${start}\n${differenceTable(['orm', 'trigger'])}\n\n${end}`,
    );
    const formatted = await format(written, { ...(await resolveConfig(file)), parser: 'markdown' });
    if (process.env.UPDATE_README) await writeFile(file, formatted);
    expect(await readFile(file, 'utf8')).toBe(formatted);
  });
});
