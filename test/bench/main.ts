// Run with `npm run bench`; see docs/performance.md.
import { writeFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { median } from './measure.js';
import { profilesIn, topFunctions } from './profile.js';
import { asJson, settings, table } from './report.js';
import { Bench, type Result, type Scenario, type Size } from './scenario.js';
import { scenarios } from './scenarios/index.js';
import { DATABASES, findServers, type DatabaseName, type Servers } from './servers.js';

const USAGE = `npm run bench -- [options]
  --only NAME[,NAME]   runs these scenarios, and before them the ones they are compared with
  --alone              with --only: runs no others for comparison
  --databases NAME[,…] runs on these databases: ${DATABASES.join(', ')}
  --json FILE          writes the results to this file, one object per scenario and database
  --short              small sizes, which only show that every scenario runs and its counts are right
  --full               the sizes that the targets apply to; by default some sizes are smaller
  --scale NUMBER       multiplies every size
  --repeat NUMBER      runs everything this many times, and reports the medians
  --profile FOLDER     writes CPU profiles of the measured processes to this folder, and names the slowest functions
  --list               names the scenarios`;

interface Arguments {
  readonly chosen: readonly Scenario[];
  readonly databases: ReadonlySet<DatabaseName>;
  readonly json: string | undefined;
  readonly size: Size;
  readonly scale: number;
  readonly repeat: number;
  readonly profileFolder: string | null;
}

const failed: string[] = [];
const given = readArguments();
if (given) {
  const servers = await findServers(given.databases);
  try {
    await runAll(given, servers);
  } finally {
    await servers.stop();
  }
}
process.exitCode = failed.length ? 1 : process.exitCode;

async function runAll(given: Arguments, servers: Servers) {
  const { json, repeat } = given;
  console.log(`On ${machine()}, Node.js ${process.versions.node}, ${servers.found.join(', ')}`);
  if (servers.missing.length) console.log(`Left out because a server is missing: ${servers.missing.join(', ')}`);
  const began = performance.now();
  const rounds: Result[][] = [];
  for (let round = 1; round <= repeat; round++) {
    if (repeat > 1) console.log(`\nround ${round} of ${repeat}`);
    rounds.push(await runRound(given, servers));
  }
  const results = medianOf(rounds.flat());
  console.log(`\n${table(results)}\n\n${settings(results)}\n`);
  if (json !== undefined) await writeFile(json, `${JSON.stringify(results.map(asJson), null, 2)}\n`);
  console.log(
    failed.length ? `failed: ${failed.join(', ')}` : `All scenarios ran, and counted right, in ${seconds(began)}.`,
  );
}

async function runRound({ chosen, databases, size, scale, profileFolder }: Arguments, servers: Servers) {
  const results: Result[] = [];
  for (const scenario of chosen) {
    const leftOut = missingServer(scenario, servers);
    if (leftOut) {
      console.log(`\n${scenario.name}: left out because it needs ${leftOut}`);
      continue;
    }
    const places = scenario.databases?.filter((name) => databases.has(name) && servers.databases.has(name)) ?? [null];
    for (const database of places) {
      const name = `${scenario.name}${database ? ` on ${database}` : ''}`;
      console.log(`\n${name}: ${scenario.what} …`);
      const bench = new Bench(servers, database, size, scale, results, profileFolder);
      const start = performance.now();
      const profiles = new Set(profileFolder === null ? [] : await profilesIn(profileFolder));
      try {
        const found = await scenario.run(bench);
        results.push(...(size === 'short' ? found.map(untargeted) : found));
        console.log(`${table(results.slice(-found.length))}\n${settings(found)}\n(${seconds(start)})`);
      } catch (error) {
        failed.push(name);
        console.error(`${name} FAILED: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      } finally {
        await bench.end();
      }
      for (const file of profileFolder === null ? [] : await profilesIn(profileFolder)) {
        if (!profiles.has(file)) console.log(`\n${file}\n${await topFunctions(file)}`);
      }
    }
  }
  return results;
}

/** Over several rounds: the median of each value and ratio. A ratio is made within a round. */
function medianOf(results: readonly Result[]): Result[] {
  const isFirst = (result: Result, i: number) => results.findIndex((other) => isSame(other, result)) === i;
  return results.filter(isFirst).map((first) => {
    const group = results.filter((other) => isSame(other, first));
    const ratios = Object.keys(first.ratios).map((ratio): [string, number | undefined] => {
      const values = group.map((result) => result.ratios[ratio]).filter((value) => value !== undefined);
      return [ratio, values.length ? median(values) : undefined];
    });
    return { ...first, value: median(group.map(({ value }) => value)), ratios: Object.fromEntries(ratios) };
  });
}

function isSame(a: Result, b: Result): boolean {
  return a.name === b.name && a.database === b.database;
}

/** Without targets, which apply to the full sizes only. */
function untargeted({ targets: _, ...result }: Result): Result {
  return result;
}

function missingServer(scenario: Scenario, servers: Servers): string | undefined {
  if (scenario.needsRedis && servers.redisUrl === null) return 'Redis';
  if (scenario.databases && !scenario.databases.some((name) => servers.databases.has(name))) {
    return scenario.databases.join(' or ');
  }
  return undefined;
}

function readArguments(): Arguments | undefined {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      alone: { type: 'boolean', default: false },
      databases: { type: 'string' },
      json: { type: 'string' },
      short: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
      scale: { type: 'string', default: '1' },
      repeat: { type: 'string', default: '1' },
      profile: { type: 'string' },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return undefined;
  }
  if (values.list) {
    for (const { name, what } of scenarios) console.log(`${name.padEnd(16)} ${what}`);
    return undefined;
  }
  const only = names(
    values.only,
    scenarios.map(({ name }) => name),
    'scenario',
  );
  const databases = names(values.databases, DATABASES, 'database');
  const scale = Number(values.scale);
  if (!(scale > 0)) throw new RangeError(`Invalid value '${values.scale}' for --scale. Allowed: a number above 0.`);
  return {
    chosen: choose(only, values.alone),
    databases: new Set(databases.length ? databases : DATABASES),
    json: values.json,
    size: values.short ? 'short' : values.full ? 'full' : 'usual',
    scale,
    repeat: Math.max(1, Math.round(Number(values.repeat)) || 1),
    profileFolder: values.profile ?? null,
  };
}

/** In the order of the list; an empty list means all scenarios. */
function choose(only: readonly string[], alone: boolean): Scenario[] {
  if (!only.length) return [...scenarios];
  const wanted = new Set(only);
  const compared = scenarios.filter(({ name }) => wanted.has(name)).flatMap(({ comparedWith = [] }) => comparedWith);
  if (!alone) for (const name of compared) wanted.add(name);
  return scenarios.filter(({ name }) => wanted.has(name));
}

function names<N extends string>(list: string | undefined, known: readonly N[], what: string): N[] {
  const given = (list ?? '').split(',').filter(Boolean);
  const unknown = given.filter((name) => !known.includes(name as N));
  if (unknown.length) throw new RangeError(`Unknown ${what}: ${unknown.join(', ')}. Allowed: ${known.join(', ')}.`);
  return given as N[];
}

function machine(): string {
  const all = cpus();
  return `${all.length} x ${all[0]?.model.trim() ?? 'CPU'}, ${Math.round(totalmem() / 2 ** 30)} GB, ${process.platform}`;
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}
