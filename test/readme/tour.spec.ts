import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import Sqlite from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { freePort, startProgram } from '../support/child-process.js';
import {
  codeBlock,
  codeBlocks,
  createScratchProject,
  WORKSPACE,
  type ScratchProject,
} from '../support/scratch-project.js';

const TOUR = 'docs/tour.md';
const FILES = ['src/order.entity.ts', 'src/app.module.ts', 'src/hooks.controller.ts', 'src/main.ts'];

/** Every TypeScript block of these pages is compiled. */
const PAGES = [
  'README.md',
  'docs/api.md',
  'docs/archive.md',
  'docs/bullmq.md',
  'docs/catalog.md',
  'docs/customers.md',
  'docs/dashboard.md',
  'docs/errors.md',
  'docs/filters.md',
  'docs/how-it-works.md',
  'docs/my-event-did-not-arrive.md',
  'docs/observability.md',
  'docs/operations.md',
  'docs/options.md',
  'docs/ordering.md',
  'docs/owners.md',
  'docs/payload.md',
  'docs/production.md',
  'docs/receiving/README.md',
  'docs/receiving/nest.md',
  'docs/receiving/node.md',
  'docs/replaceable-parts.md',
  'docs/schema-per-tenant.md',
  'docs/signing.md',
  'docs/testing.md',
  'docs/transactions.md',
  'docs/upgrades.md',
  'docs/verify.md',
];

let project: ScratchProject;

beforeAll(async () => {
  project = await createScratchProject();
}, 120_000);

afterAll(() => project.remove());

describe('docs/tour.md', () => {
  it('compiles and runs as written, and prints the output that the page shows', async () => {
    for (const file of FILES) await project.write(file, await codeBlock(TOUR, file));
    const [, build = '', main = ''] = (await codeBlock(TOUR, 'run')).match(/^(npm .*) && node (.*)$/m) ?? [];
    await project.shell(build);

    const port = await freePort();
    const secret = `whsec_${randomBytes(32).toString('base64')}`;
    const program = startProgram(process.execPath, [main], {
      cwd: project.folder,
      env: { PORT: String(port), WEBHOOK_SECRET: secret, NO_COLOR: '1' },
    });
    const expected = (await codeBlock(TOUR, 'output')).trim().split('\n');
    try {
      for (const line of expected) await program.printed(line.replace('3000', String(port)));
      await untilEverythingIsSent(join(project.folder, 'tour.sqlite'));
    } finally {
      await program.stop();
    }
    const received = program.output().match(/^received .*$/gm);
    expect(received).toEqual(expected.filter((line) => line.startsWith('received')));

    const request = await codeBlock(TOUR, 'request');
    const shown = JSON.parse(request.slice(request.indexOf('\n\n'))) as Record<string, unknown>;
    const database = new Sqlite(join(project.folder, 'tour.sqlite'), { readonly: true });
    try {
      const [stored] = database.prepare(`select payload from webhook_events where type = 'order.updated'`).all();
      const { payload } = stored as { payload: string };
      const sent = JSON.parse(payload) as Record<string, unknown>;
      expect({ ...sent, timestamp: '' }).toEqual({ ...shown, timestamp: '' });
      expect(Object.keys(sent)).toEqual(Object.keys(shown));
    } finally {
      database.close();
    }
  }, 120_000);

  it('installs every peer dependency of the library', async () => {
    const { peerDependencies, peerDependenciesMeta } = JSON.parse(
      await readFile(join(WORKSPACE, 'libs/webhooks/package.json'), 'utf8'),
    ) as { peerDependencies: Record<string, string>; peerDependenciesMeta: Record<string, { optional?: boolean }> };
    const broughtByNest = ['@nestjs/common', '@nestjs/core', 'rxjs'];
    const needed = Object.keys(peerDependencies).filter(
      (name) => !peerDependenciesMeta[name]?.optional && !broughtByNest.includes(name),
    );
    const page = await readFile(join(WORKSPACE, TOUR), 'utf8');
    const installed = /^npm install (nestjs-entity-webhooks .*)$/m.exec(page)?.[1]?.split(' ') ?? [];
    expect(installed).toEqual(expect.arrayContaining(needed));
  });
});

describe('the TypeScript of the pages', () => {
  it('compiles, each block with the entity of the tour', async () => {
    for (const file of FILES.slice(0, 3)) await project.write(file, await codeBlock(TOUR, file));
    let count = 0;
    for (const page of PAGES) {
      for (const { name, language, code } of await codeBlocks(page)) {
        // Blocks with a name are whole programs, which other tests compile and run.
        if (language === 'ts' && name === null) {
          await project.write(`src/block-${count++}.ts`, `// ${page}\n${code}\nexport {};\n`);
        }
      }
    }
    await project.compile();
  }, 120_000);
});

/** Waits until no event and no delivery is pending: later no further request arrives. */
async function untilEverythingIsSent(file: string): Promise<void> {
  const database = new Sqlite(file, { readonly: true });
  try {
    const waiting = database
      .prepare(
        `select (select count(*) from webhook_outbox) + (select count(*) from webhook_leases)
              + (select count(*) from webhook_deliveries where state in ('due', 'leased'))`,
      )
      .pluck();
    const deadline = Date.now() + 20_000;
    while (waiting.get() !== 0) {
      if (Date.now() > deadline) throw new Error('something still waits to be sent');
      await pause(20);
    }
  } finally {
    database.close();
  }
}
