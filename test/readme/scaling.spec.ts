import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { shownDuration } from '../../libs/webhooks/src/cli/terminal/durations.js';
import { planFor } from '../../libs/webhooks/src/plan/plan.js';
import { USUAL_WORKLOAD } from '../../libs/webhooks/src/plan/workload.js';
import { DAY } from '../../libs/webhooks/src/time.js';
import { scenarios } from '../bench/scenarios/index.js';
import { WORKSPACE } from '../support/scratch-project.js';

const page = (name: string) => readFile(join(WORKSPACE, 'docs', name), 'utf8');

describe('docs/scaling.md', () => {
  let figures: { figure: string; command: string }[];
  let scaling: string;

  beforeAll(async () => {
    scaling = await page('scaling.md');
    const [, section = ''] = scaling.split('## The figures\n');
    const rows =
      section.split('\n## ')[0]?.matchAll(/^\|[^|]+\| +([\d.,]+)[^|]*\| +(`npm run bench.*?`|the same) +\|$/gm) ?? [];
    figures = [...rows].map(([, figure = '', command = '']) => ({ figure, command }));
  });

  it('has only figures of docs/performance.md', async () => {
    const performance = await page('performance.md');
    expect(figures).toHaveLength(13);
    for (const { figure } of figures) expect(performance.split(/[ *|:]+/)).toContain(figure);
  });

  it('names scenarios that exist', () => {
    const known = scenarios.map(({ name }) => name);
    const named = [...scaling.matchAll(/--only ([\w,-]+)/g)].flatMap(([, names = '']) => names.split(','));
    expect(named.length).toBeGreaterThan(6);
    for (const name of named) expect(known).toContain(name);
  });

  it('computes what a rate takes from these figures', () => {
    const [, sender, database, log] = figures.map(({ figure }) => Number(figure.replaceAll(',', '')));
    const rows = [...scaling.matchAll(/^\| +([\d,]+) \| +([\d.]+) \| +([\d.]+) \| +([\d,]+) GB \|$/gm)];
    expect(rows).toHaveLength(4);
    for (const row of rows) {
      const [rate = 0, cores = 0, databaseCores = 0, gigabytes = 0] = row
        .slice(1)
        .map((text) => Number(text.replaceAll(',', '')));
      expect(Math.abs(cores - (rate * (sender ?? 0)) / 1e6)).toBeLessThan(0.05);
      expect(Math.abs(databaseCores - (rate * (database ?? 0)) / 1e6)).toBeLessThan(0.05);
      expect(Math.round((rate * (log ?? 0) * 86_400) / 1e9)).toBe(gigabytes);
    }
  });

  it('has the rows that `plan --retention 3d` computes', () => {
    const rows = [...scaling.matchAll(/^\| `--events (\d+) --listeners (\d+)` +\|(.*)\|$/gm)];
    expect(rows).toHaveLength(4);
    for (const [, events, listeners, cells = ''] of rows) {
      const workload = { ...USUAL_WORKLOAD, eventsPerSecond: Number(events), listeners: Number(listeners) };
      const plan = planFor({ ...workload, retentionMs: 3 * DAY });
      expect(cells.split('|').map((cell) => cell.trim())).toEqual([
        ...[`${plan.processes}`, `${Number(plan.senderCores.toPrecision(2))}`, `${plan.databases}`],
        ...[`${plan.databaseCores}`, megabytes(plan.logBytesPerSecond), terabytes(plan.diskBytes)],
        ...[shownDuration(plan.delayMs.p99), shownDuration(plan.outage.catchUpMs ?? Number.NaN)],
      ]);
    }
  });
});

function megabytes(bytes: number): string {
  return `${Number((bytes / 1e6).toPrecision(3))} MB`;
}

function terabytes(bytes: number): string {
  return `${Number((bytes / 1e12).toPrecision(2))} TB`;
}
