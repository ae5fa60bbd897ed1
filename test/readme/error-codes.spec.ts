import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

import { WORKSPACE } from '../support/scratch-project.js';

/** Written like codes, and none of ours: a symbol's name, and what better-sqlite3 and Node.js call their errors. */
const NO_CODES = new Set([
  'ERR_SSL_',
  'EVERY_OWNER',
  'NO_BACKSLASH_ESCAPES',
  'SQLITE_ERROR',
  'SQLITE_BUSY',
  'SQLITE_BUSY_',
  'SQLITE_BUSY_SNAPSHOT',
  'ERR_MODULE_NOT_FOUND',
  'MODULE_NOT_FOUND',
  'SQLITE_CONSTRAINT_UNIQUE',
]);
/** Put together from the name of the option, or of one word. */
const UNSEEN = ['OWNER_FAILED', 'WHEN_FAILED', 'REDIRECT', 'TIMEOUT'];

describe('docs/errors.md', () => {
  it('explains every code that the source can give, and no other', async () => {
    const folder = join(WORKSPACE, 'libs/webhooks/src');
    const codes = new Set(UNSEEN);
    for (const file of await readdir(folder, { recursive: true })) {
      if (!file.endsWith('.ts')) continue;
      const source = await readFile(join(folder, file), 'utf8');
      const withoutComments = source.replaceAll(/\/\*.*?\*\//gs, '').replaceAll(/^\s*\/\/.*$/gm, '');
      for (const [, code = ''] of withoutComments.matchAll(/'([A-Z]+(?:_[A-Z]*)+)'/g)) {
        if (!NO_CODES.has(code) && !code.startsWith('UND_ERR_') && !code.startsWith('ER_')) codes.add(code);
      }
    }
    const page = await readFile(join(WORKSPACE, 'docs/errors.md'), 'utf8');
    const explained = new Set([...page.matchAll(/^\| `([A-Z_]+)`/gm)].map(([, code = '']) => code));
    expect([...explained].toSorted()).toEqual([...codes].toSorted());
  });
});
