import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const CAPTURE = fileURLToPath(new URL('../../libs/webhooks/src/capture', import.meta.url));

/** The keys of maps that capture keeps for longer than one call. A number identifies an upsert under way on SQLite. */
const KEYS_OF_STATE = ['QueryRunner', 'Saving', 'number'];

describe('what capture remembers', () => {
  it('is kept by query runner, save() or upsert only: what is known of an entity is in its plan', async () => {
    const files = (await readdir(CAPTURE, { recursive: true })).filter((file) => file.endsWith('.ts'));
    const memos: string[] = [];
    for (const file of files) {
      const text = await readFile(join(CAPTURE, file), 'utf8');
      // A map of the whole module, or a weak one, outlives the call.
      const found = text.matchAll(/new WeakMap<(\w+)|^(?:export )?(?:const|let) \w+ = new Map<(\w+)/gm);
      for (const [, weak, whole] of found) memos.push(`${weak ?? whole} in ${file}`);
    }
    const isState = (memo: string) => KEYS_OF_STATE.some((key) => memo.startsWith(`${key} in `));
    expect(memos.filter((memo) => !isState(memo))).toEqual([]);
    expect(memos.filter(isState)).toHaveLength(7);
  });
});
