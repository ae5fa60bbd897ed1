import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { codeBlock, codeBlocks, createScratchProject, NPX, type ScratchProject } from '../support/scratch-project.js';

const PAGE = 'docs/catalog.md';

interface Recorded {
  types: Record<string, { data: { properties: Record<string, unknown> } }>;
}

describe('docs/catalog.md', () => {
  let project: ScratchProject;
  beforeAll(async () => {
    project = await createScratchProject();
    for (const file of ['src/order.entity.ts', 'src/data-source.ts', 'src/catalog.ts', 'src/versions.ts'])
      await project.write(file, await codeBlock(PAGE, file));
    const swagger = (await codeBlocks(PAGE)).find(({ code }) => code.includes('SwaggerModule'));
    await project.write('src/document.ts', swagger?.code ?? '');
    await project.compile();
  }, 120_000);
  afterAll(() => project.remove());

  const shell = (script: string) =>
    spawnSync('sh', ['-ec', `${NPX}\n${script}`], { cwd: project.folder, encoding: 'utf8' });
  const check = async () => shell((await codeBlock(PAGE, 'ci')).replace('- run: ', ''));

  it('writes the files, and then finds no change', { timeout: 120_000 }, async () => {
    expect(shell(await codeBlock(PAGE, 'types-steps'))).toMatchObject({ status: 0, stderr: '' });
    expect(await check()).toMatchObject({ status: 0, stdout: 'No changes since catalog.json.\n' });
    expect(await readFile(join(project.folder, 'webhooks.ts'), 'utf8')).toContain(await codeBlock(PAGE, 'webhooks.ts'));
  });

  it('lists every type in code', () => {
    const { status, stdout } = shell('node dist/catalog.js');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^invoice\.overdue Invoice overdue \{/m);
    expect(stdout).toMatch(/^order\.updated Order updated \{/m);
  });

  it('fails with the output that the page shows if a change breaks receivers', async () => {
    const file = join(project.folder, 'catalog.json');
    const record = JSON.parse(await readFile(file, 'utf8')) as Recorded;
    const created = record.types['order.created'];
    // The entity from before the change.
    Object.assign(created?.data.properties ?? {}, {
      note: { type: 'string' },
      total: { ...(created?.data.properties['total'] as object), type: 'string' },
    });
    await writeFile(file, JSON.stringify(record));
    const { status, stdout, stderr } = await check();
    expect({ status, output: stdout + stderr }).toEqual({ status: 1, output: await codeBlock(PAGE, 'output') });
  });

  it('has a receiver that compiles with the generated types', async () => {
    await project.write('src/webhooks.ts', await readFile(join(project.folder, 'webhooks.ts'), 'utf8'));
    await project.write('src/hooks.controller.ts', await codeBlock(PAGE, 'src/hooks.controller.ts'));
    await project.compile();
  }, 120_000);
});
