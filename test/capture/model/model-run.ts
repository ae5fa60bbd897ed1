import { setImmediate as nextTurn } from 'node:timers/promises';
import { switchedOff, programOf } from './generate.js';
import { ModelApp, type ModelKind } from './model-app.js';
import type { Program } from './program.js';
import { programText } from './program-text.js';
import { abilitiesOf } from './rows.js';
import { shrink } from './shrink.js';

/** How long the search for a smaller failing program may take. */
const SHRINK_MS = 60_000;
/** A race shows its fault in some runs only. */
const TRIES = 5;

/** A program whose events differ from the committed changes. */
export interface Finding {
  readonly seed: number | null;
  readonly program: Program;
  readonly fault: string;
}

export interface ModelRun {
  readonly kind: ModelKind;
  /** The seed of the first program. Each further program has the next seed. */
  readonly seed: number;
  readonly seconds: number;
  /** Names of switches: the kinds of programs that are left out. */
  readonly without: readonly string[];
  /** Ends the run. */
  readonly mostFindings: number;
}

/** The result of a run. */
export interface ModelReport {
  readonly programs: number;
  /** The number of committed changes that had their event. */
  readonly changes: number;
  /** The faults, each with the smallest failing program. */
  readonly findings: readonly Finding[];
}

/** Runs programs until the time is over or enough of them have failed. */
export async function runModel(run: ModelRun): Promise<ModelReport> {
  const deadline = Date.now() + run.seconds * 1_000;
  const bench = new Bench(run.kind);
  const findings: Finding[] = [];
  let programs = 0;
  try {
    do {
      const seed = run.seed + programs++;
      const program = switchedOff(programOf(seed, abilitiesOf(run.kind.database.name, run.kind.mode)), run.without);
      const fault = await bench.fault(program);
      if (fault !== null) findings.push({ seed, ...(await smallest(bench, program, fault)) });
    } while (Date.now() < deadline && findings.length < run.mostFindings);
    return { programs, changes: bench.changes, findings };
  } finally {
    await bench.close();
  }
}

/** Runs one program, repeatedly if it contains a race. */
export async function runProgram(bench: Bench, program: Program, tries: number): Promise<Finding | null> {
  for (let n = 0; n < tries; n++) {
    const fault = await bench.fault(program);
    if (fault !== null) return { seed: null, program, fault };
  }
  return null;
}

async function smallest(bench: Bench, program: Program, fault: string): Promise<{ program: Program; fault: string }> {
  let last = fault;
  const tries = (await isSteady(bench, program)) ? 1 : TRIES;
  const fails = async (candidate: Program): Promise<boolean> => {
    for (let n = 0; n < tries; n++) {
      const found = await bench.fault(candidate);
      if (found === null) continue;
      last = found;
      return true;
    }
    return false;
  };
  const result = await shrink(program, fails, Date.now() + SHRINK_MS);
  return { program: result, fault: last };
}

/** Whether a program fails in each run, so that one run shows whether a smaller program fails. */
async function isSteady(bench: Bench, program: Program): Promise<boolean> {
  for (let n = 0; n < TRIES; n++) if ((await bench.fault(program)) === null) return false;
  return true;
}

/** One application for consecutive programs. It is replaced after a program that leaves it unusable. */
export class Bench {
  /** The number of changes that the programs committed. */
  changes = 0;
  private app: ModelApp | null = null;

  constructor(private readonly kind: ModelKind) {}

  async fault(program: Program): Promise<string | null> {
    // On SQLite nothing yields to the event loop, so the application of the other mode would never run.
    await nextTurn();
    this.app ??= await ModelApp.start(this.kind);
    const before = this.app.changes;
    const fault = await this.app.fault(program);
    this.changes += this.app.changes - before;
    if (this.app.isUnusable) await this.close();
    return fault;
  }

  async close(): Promise<void> {
    const { app } = this;
    this.app = null;
    await app?.close();
  }
}

/** The report of a finding: the fault, how to repeat it, and the program. */
export function findingText(
  { database, mode, coalesce }: ModelKind,
  { seed, program, fault }: Finding,
  without: readonly string[] = [],
): string {
  const where = `MODEL_DATABASE=${database.name} MODEL_MODE=${mode} MODEL_COALESCE=${coalesce ? 1 : 0}`;
  const left = without.length ? ` MODEL_WITHOUT=${without.join(',')}` : '';
  return [
    `${database.name}, ${mode}${coalesce ? ', coalesce' : ''}: ${fault}`,
    ...(seed === null ? [] : [`Again: MODEL_SEED=${seed} ${where}${left} MODEL_SECONDS=1 npm run model`]),
    'The smallest program that shows it:',
    programText(program),
    `To keep it in found-programs.json: ${JSON.stringify(program)}`,
  ].join('\n\n');
}
