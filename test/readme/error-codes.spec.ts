import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

import { WORKSPACE } from '../support/scratch-project.js';

/** Texts that look like codes of this library: names of symbols, a sql_mode, environment variables, and codes of drivers and Node.js. */
const NO_CODES = new Set([
  'EAI_AGAIN',
  'ERR_SSL_',
  'EVERY_OWNER',
  // Reasons of `skippedListeners()`, which docs/my-event-did-not-arrive.md explains.
  'TEST_EVENT',
  'OTHER_OWNER',
  'LISTENER_DAMAGED',
  'TYPE_NOT_SUBSCRIBED',
  'FILTER_NOT_MATCHED',
  'CREATED_LATER',
  'NOT_ROUTED',
  'MATCHES_NOW',
  'NO_BACKSLASH_ESCAPES',
  'OPEN_ACCESS',
  'PROTOCOL_CONNECTION_LOST',
  'SQLITE_CANTOPEN',
  'SQLITE_ERROR',
  'SQLITE_BUSY',
  'SQLITE_BUSY_',
  'SQLITE_BUSY_SNAPSHOT',
  'ERR_MODULE_NOT_FOUND',
  'MODULE_NOT_FOUND',
  'WEBHOOKS_DATA_SOURCE',
  'WEBHOOKS_SECRET',
  'WEBHOOKS_API',
  'WEBHOOKS_TOKEN',
  'SQLITE_CONSTRAINT_UNIQUE',
]);
/** Codes that the pattern below does not find: they are composed, or have one word. */
const UNSEEN = ['OWNER_FAILED', 'WHEN_FAILED', 'REDIRECT', 'TIMEOUT', 'FORBIDDEN', 'REFUSED', 'UNAUTHENTICATED'];

describe('docs/errors.md', () => {
  it('explains every code of the source, and no other', async () => {
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

  it('has each section once, and each code once in a section', async () => {
    const page = await readFile(join(WORKSPACE, 'docs/errors.md'), 'utf8');
    const found: string[] = [];
    let section = '';
    for (const line of page.split('\n')) {
      if (line.startsWith('## ')) found.push((section = line));
      const code = /^\| (`[A-Z_]+`)/.exec(line)?.[1];
      if (code !== undefined) found.push(`${section}: ${code}`);
    }
    expect(found.filter((one, at) => found.indexOf(one) !== at)).toEqual([]);
  });
});
