import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../../libs/webhooks/src', import.meta.url));
const FOLDERS = ['capture', 'sqlite'];

/** How the library replaces a method of TypeORM. The group is the name of the method. */
const REPLACED_METHOD = [
  /\breplace\(prototype, '(\w+)'/g,
  /\b(?:builder|driver|methods|prototype)\.(\w+) = (?:async )?(?:\(|scoped\b|Object\.assign\()/g,
];
/** How the library replaces a property or a whole object of TypeORM. */
const REPLACED_OBJECT =
  /new Proxy\(|Object\.create\(|defineProperty\(dataSource\b|replaceRunnerMethods\(|extends Stock\b/;

describe('the list of patches in capture/typeorm/README.md', () => {
  let list: string;
  let sources: { file: string; text: string }[];
  beforeAll(async () => {
    list = await readFile(join(SRC, 'capture/typeorm/README.md'), 'utf8');
    const names = (await Promise.all(FOLDERS.map(filesOf))).flat();
    sources = await Promise.all(names.map(async (file) => ({ file, text: await readFile(join(SRC, file), 'utf8') })));
  });

  it('names each method of TypeORM that capture and sqlite replace', () => {
    const replaced = new Set(
      sources.flatMap(({ text }) =>
        REPLACED_METHOD.flatMap((pattern) => [...text.matchAll(pattern)].map(([, name]) => `${name}()`)),
      ),
    );
    expect(replaced).toContain('execute()');
    expect([...replaced].filter((name) => !list.includes(`\`${name}\``))).toEqual([]);
  });

  it('names each method of a query runner that capture replaces', () => {
    const writes = sources.find(({ file }) => file.endsWith('runner-writes.ts'))?.text ?? '';
    const own = /replaceRunnerMethods\(this\.runner, \{([\s\S]*?)\n {4}\}\);/.exec(writes)?.[1] ?? '';
    const names = [...own.matchAll(/\b(\w+): \((?:\)|\.\.\.|text)/g)].map(([, name]) => `${name}()`);
    expect(names).toEqual([
      'query()',
      'startTransaction()',
      'commitTransaction()',
      'rollbackTransaction()',
      'release()',
    ]);
    expect(names.filter((name) => !list.includes(`\`${name}\``))).toEqual([]);
  });

  it('names each file that replaces something of TypeORM, and names no other file as such', () => {
    const patching = sources
      .filter(({ text }) => REPLACED_OBJECT.test(text) || REPLACED_METHOD.some((pattern) => text.search(pattern) >= 0))
      .map(({ file }) => file.replace('capture/typeorm/', '').replace(/^capture\//, ''));
    expect(patching.filter((file) => !list.includes(`\`${file}\``))).toEqual([]);
    const listed = [...list.matchAll(/^\|[^|]*\|([^|]*)\|/gm)].flatMap(([, where]) =>
      [...(where ?? '').matchAll(/`([\w/-]+\.ts)`/g)].map(([, file]) => file),
    );
    expect([...new Set(listed)].toSorted()).toEqual([...new Set(patching)].toSorted());
  });
});

async function filesOf(folder: string): Promise<string[]> {
  const names = await readdir(join(SRC, folder), { recursive: true });
  return names.filter((name) => name.endsWith('.ts')).map((name) => `${folder}/${name.replaceAll('\\', '/')}`);
}
