import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WORKSPACE } from '../support/scratch-project.js';
import { createCommandLine, type CommandLine } from './command-line.js';

/** The part of the result that the tests read. */
interface Plan {
  readonly processes: number;
  readonly concurrency: number;
  readonly databases: number;
  readonly senderCores: number;
  readonly attemptsPerSecond: number;
  readonly logBytesPerSecond: number;
  readonly diskBytes: number;
  readonly delayMs: { readonly p50: number; readonly p99: number };
  readonly outage: { readonly backlog: number; readonly failedAttempts: number; readonly catchUpMs: number | null };
  readonly engine: { readonly engine: string; readonly why: string };
  readonly problems: readonly string[];
  readonly advice: readonly { readonly step: string; readonly why: string }[];
  readonly figures: Readonly<Record<string, { readonly measuredBy: string | null; readonly because?: string }>>;
}

describe('plan', () => {
  let cli: CommandLine;
  beforeAll(async () => {
    cli = await createCommandLine();
  });
  afterAll(() => cli.remove());

  const plan = (...args: string[]) => cli.json<Plan>('plan', ...args);
  const SMALL = ['--events', '20', '--listeners', '500', '--retention', '3d'];

  it('prints a table without a data source, and exits with 0 if the workload fits', async () => {
    const { code, out, err } = await cli.run(['plan', ...SMALL], { env: { WEBHOOKS_DATA_SOURCE: '' } });
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/^processes +1 with 64 slots each, which use [\d.]+ cores and 266 MB of memory at most$/m);
    expect(out).toMatch(/^write-ahead log +[\d.]+ KB a second, [\d.]+ GB a day$/m);
    expect(out).toMatch(/^delay +p50 \d+ ms, p99 \d+ ms, /m);
    expect(out).toMatch(/^ +catch-up +[\d.]+ (min|h); the last retry comes /m);
    expect(out).toMatch(/^step +1\. One process: /m);
  });

  it('plans twice what one half needs, and gives the same plan each time', async () => {
    const [one, two, again] = [
      await plan('--events', '1000', '--listeners', '10000'),
      await plan('--events', '2000', '--listeners', '20000'),
      await plan('--events', '2000', '--listeners', '20000'),
    ];
    expect(two).toEqual(again);
    expect(two.logBytesPerSecond / one.logBytesPerSecond).toBeCloseTo(2, 5);
    expect(two.outage.backlog / one.outage.backlog).toBeCloseTo(2, 2);
    expect(two.outage.failedAttempts / one.outage.failedAttempts).toBeCloseTo(2, 1);
  });

  it('counts a larger fan-out, payload and retention', async () => {
    const [small, wide, large, long] = [
      await plan(...SMALL),
      await plan(...SMALL, '--fan-out', '3'),
      await plan(...SMALL, '--payload', '11024'),
      await plan(...SMALL, '--retention', '30d'),
    ];
    expect(wide.attemptsPerSecond / small.attemptsPerSecond).toBeCloseTo(3, 1);
    expect(large.logBytesPerSecond - small.logBytesPerSecond).toBeCloseTo(20 * 10_000, 0);
    expect(long.diskBytes).toBeGreaterThan(5 * small.diskBytes);
  });

  it('gives slow receivers more slots before it gives them more processes', async () => {
    const { processes, concurrency, advice } = await plan(...SMALL, '--answer', '5s');
    expect({ processes, concurrency }).toEqual({ processes: 1, concurrency: 142 });
    expect(advice).toContainEqual({
      step: '2. More slots',
      why: 'receivers are slow: set dispatcher.concurrency to 142 in each process',
    });
    const fixed = await plan(...SMALL, '--answer', '5s', '--concurrency', '64');
    expect(fixed.processes).toBe(3);
  });

  it('advises the engine of BullMQ if many processes have retries to search for, and else says why not', async () => {
    const MANY = ['--events', '2000', '--listeners', '5000', '--answer', '5s', '--concurrency', '1000'];
    const { processes, engine, advice } = await plan(...MANY);
    expect(processes).toBeGreaterThanOrEqual(8);
    expect(engine.engine).toBe('bullmq');
    // 1.1 % of the receivers always fail, and 10 % of the others are out.
    expect(engine.why).toContain(`${processes} processes search for the due deliveries of up to 550 listeners`);
    expect(advice).toContainEqual({ step: '9. BullMQ', why: engine.why });

    const good = await plan(...MANY, '--failing', '0', '--silent', '0', '--outage-share', '0');
    expect(good.engine).toEqual({ engine: 'database', why: 'no receiver fails, and BullMQ is used by retries only' });
    const few = await plan(...SMALL, '--answer', '5s', '--concurrency', '64');
    expect(few.engine.why).toBe('3 processes search for due deliveries; BullMQ helps from about 8');
    for (const one of [good, few]) expect(one.advice.map(({ step }) => step)).not.toContain('9. BullMQ');
    const { out } = await cli.run(['plan', ...SMALL]);
    expect(out).toMatch(/^engine +database: one process searches for due deliveries; BullMQ helps from about 8$/m);
  });

  it('exits with 1 if one database is not enough, and names the reasons', async () => {
    const { code, out } = await cli.run(['plan', '--events', '100000', '--listeners', '1000000', '--retention', '1d']);
    expect(code).toBe(1);
    expect(out).toMatch(/^problem +One database is not enough: it takes 4\.$/m);
    expect(out).toMatch(/^step +8\. More databases: /m);
  });

  it('exits with 1 if the database has too few cores', async () => {
    const args = ['--events', '10000', '--listeners', '1000', '--retention', '1d', '--cores', '1'];
    const { problems } = await plan(...args);
    expect(problems).toContainEqual(expect.stringMatching(/^The database needs \d+ cores, and has 1\.$/));
    expect((await cli.run(['plan', ...args])).code).toBe(1);
  });

  it('exits with 1 if slow receivers get more than they answer', async () => {
    const { problems } = await plan('--events', '100', '--listeners', '10', '--slow', '0.5', '--retention', '1d');
    expect(problems).toContain('A slow receiver gets 10.0 deliveries a second, and answers at most 3.2.');
  });

  it.each([
    [['--listeners', '5'], "required option '--events <number>' not specified"],
    [['--events', 'many', '--listeners', '5'], 'Allowed: a number from 0.001 to 1000000.'],
    [['--events', '5', '--listeners', '0'], 'Allowed: a whole number from 1 to 100000000.'],
    [[...SMALL, '--failing', '2'], 'Allowed: a share from 0 to 1, such as 0.02 or 2%.'],
    [[...SMALL, '--outage', '6'], 'Allowed: a duration such as 250ms, 90s, 15m, 24h or 7d.'],
    [[...SMALL, '--failing', '60%', '--slow', '60%'], 'INVALID_ARGUMENT: --failing, --silent and --slow are shares'],
  ])('exits with 2 for %j', async (args, message) => {
    const { code, out, err } = await cli.run(['plan', ...args]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(message);
  });

  it('names the command behind each figure, and says which figures are assumptions', async () => {
    const { figures } = await plan(...SMALL);
    for (const { measuredBy, because } of Object.values(figures)) {
      expect(measuredBy ?? because).toBeTruthy();
      if (measuredBy !== null) expect(measuredBy).toMatch(/^npm run bench -- --only [\w-]+/);
    }
    const { out } = await cli.run(['plan', ...SMALL, '--figures']);
    expect(out).toMatch(/^0\.3 ms +time of a round trip to the database +assumed: two machines in one zone$/m);
    expect(out).toMatch(/ +measured: npm run bench -- --only step-costs --alone: step-costs-claimed$/m);
  });

  it('advises steps that docs/scaling.md has', async () => {
    const page = await readFile(join(WORKSPACE, 'docs/scaling.md'), 'utf8');
    const { advice } = await plan('--events', '100000', '--listeners', '1000000');
    expect(advice.length).toBeGreaterThan(5);
    for (const { step } of advice) expect(page).toContain(`\n## ${step}\n`);
  });

  it('loads neither TypeORM nor a driver, unlike the library', async () => {
    const foreign = /node_modules\/(typeorm|pg|mysql2|better-sqlite3|@nestjs)\//;
    expect((await loadedBy('dist/plan/plan.js')).filter((file) => foreign.test(file))).toEqual([]);
    expect((await loadedBy('dist/index.js')).filter((file) => foreign.test(file))).not.toEqual([]);
  });

  /** The CommonJS files, such as those of TypeORM, that are loaded with a file of the package. */
  async function loadedBy(file: string): Promise<string[]> {
    const program = `
      import { createRequire } from 'node:module';
      await import('./node_modules/nestjs-entity-webhooks/${file}');
      process.stdout.write(JSON.stringify(Object.keys(createRequire(import.meta.url).cache)));`;
    await cli.project.write('loads.mjs', program);
    const { stdout } = await promisify(execFile)(process.execPath, ['loads.mjs'], { cwd: cli.project.folder });
    return JSON.parse(stdout) as string[];
  }
});
