import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generateSecret } from 'nestjs-entity-webhooks';
import { describe, expect, it } from 'vitest';

import { resolveOptions } from '../../libs/webhooks/src/options/resolve-options.js';
import { resolveIncomingWebhooksOptions } from '../../libs/webhooks/src/receiver/nest/incoming-webhooks-options.js';
import { WORKSPACE } from '../support/scratch-project.js';

/** Options that are needed while Nest wires modules, so they are not among the resolved options. */
const WIRING_OPTIONS = ['dataSource', 'parts'];
const WHOLE = ['publishedTypes', 'security.allowedAddresses', 'secrets.keys', 'wakeUp'];
/** Groups that may be `false`, so they have a row of their own, too. */
const GROUPS_LISTED = ['retention'];

function pathsOf(options: object, prefix = ''): string[] {
  return Object.entries(options).flatMap(([key, value]: [string, unknown]) => {
    const path = prefix + key;
    const isGroup = typeof value === 'object' && value !== null && !WHOLE.includes(path);
    return isGroup ? pathsOf(value, `${path}.`) : [path];
  });
}

describe('docs/options.md', () => {
  it('lists every option, and no other', async () => {
    const page = await readFile(join(WORKSPACE, 'docs/options.md'), 'utf8');
    const [table = ''] = page.split('\n## ');
    const listed = [...table.matchAll(/^\| `([\w.]+)`/gm)].map(([, path = '']) => path);
    expect(listed.toSorted()).toEqual([...WIRING_OPTIONS, ...GROUPS_LISTED, ...pathsOf(resolveOptions({}))].toSorted());
  });
});

describe('docs/receiving/nest.md', () => {
  it('lists every option of a receiver, and no other', async () => {
    const page = await readFile(join(WORKSPACE, 'docs/receiving/nest.md'), 'utf8');
    const table = page.slice(page.indexOf('\n## Options'));
    const listed = [...table.matchAll(/^\| `([\w.<>]+)`/gm)].map(([, path = '']) => path);
    const { sources, ...rest } = await resolveIncomingWebhooksOptions({
      sources: { a: { secrets: generateSecret() } },
      inbox: {},
    });
    const ofSource = Object.keys(sources.get('a') ?? {}).filter((key) => key !== 'name');
    const ofInbox = pathsOf(rest.inbox || {}, 'inbox.');
    const expected = [
      'dataSource',
      ...Object.keys(rest),
      ...ofInbox,
      ...ofSource.map((key) => `sources.<name>.${key}`),
    ];
    expect(listed.toSorted()).toEqual(expected.toSorted());
  });
});
