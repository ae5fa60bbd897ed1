import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DEPCRUISE = join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');

/** The import in each planted file, by the path of the file. */
const PLANTED = {
  'store/queue': "import type { ListenerService } from '../../listeners/listener.service.js';",
  'capture/images': "import { rowsMissed } from '../statements/affected-rows.js';",
  'receiver/nest': "import { tablesSql } from '../../store/database/tables.js';",
  deliveries: "import type { Listener } from '../listeners/listener.js';",
};

describe('the arrows between folders (npm run arrows)', () => {
  let folder: string;
  let found: { code: number; output: string };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'webhooks-arrows-'));
    await cp(join(ROOT, 'libs/webhooks/src'), join(folder, 'libs/webhooks/src'), { recursive: true });
    await cp(join(ROOT, 'tsconfig.json'), join(folder, 'tsconfig.json'));
    for (const [from, line] of Object.entries(PLANTED)) await plant(`${from}/planted.ts`, line);
    await plant('health/planted.ts', "import type { B } from './planted-too.js';\nexport type A = B;");
    await plant('health/planted-too.ts', "import type { A } from './planted.js';\nexport type B = A;");
    await cp(join(folder, 'libs/webhooks/src/health'), join(folder, 'libs/webhooks/src/helpers'), { recursive: true });
    found = await check();
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('are kept in the source', () => {
    // A violation names the files of both ends, and each planted one names its file or its folder.
    const violations = found.output.split('\n').filter((line) => line.includes('libs/webhooks/src/'));
    expect(violations.filter((line) => !/planted|src\/helpers\//.test(line))).toEqual([]);
    expect(violations).not.toEqual([]);
  });

  it('fail the command if an import points back', () => {
    expect(found.code).toBeGreaterThan(0);
  });

  it.each(Object.keys(PLANTED))('find an import that points back from %s', (from) => {
    expect(found.output).toContain(`arrows of ${from}: libs/webhooks/src/${from}/planted.ts → `);
  });

  it('find two files that import only types of each other', () => {
    expect(found.output).toContain('no circle of files: libs/webhooks/src/health/planted');
  });

  it('require a rule for every new folder', () => {
    expect(found.output).toContain('folder without a layer: libs/webhooks/src/helpers/');
  });

  function plant(file: string, text: string): Promise<void> {
    return writeFile(join(folder, 'libs/webhooks/src', file), `${text}\n`);
  }

  async function check(): Promise<{ code: number; output: string }> {
    const config = join(ROOT, '.dependency-cruiser.mjs');
    const command = [DEPCRUISE, 'libs/webhooks/src', '--config', config];
    try {
      const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: folder });
      return { code: 0, output: stdout };
    } catch (error) {
      const { code, stdout } = error as { code: number; stdout: string };
      return { code, output: stdout };
    }
  }
});
