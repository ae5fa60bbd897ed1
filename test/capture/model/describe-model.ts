import { randomInt } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { databases, type TestDatabase } from '../../support/databases.js';
import type { CaptureModeName } from '../operations/index.js';
import type { ModelKind } from './model-app.js';
import { findingText, runModel } from './model-run.js';

const { MODEL_SECONDS, MODEL_SEED, MODEL_DATABASE, MODEL_MODE, MODEL_COALESCE, MODEL_WITHOUT, MODEL_FINDINGS } =
  process.env;

/** One minute for all drivers and modes together in CI, and elsewhere 24 s. `MODEL_SECONDS` is the time for each of them. */
const SECONDS = Number(MODEL_SECONDS ?? (process.env.CI ? 60 : 24) / 8);
/** `MODEL_SEED` repeats a run, starting with the program of that seed. */
/** In CI the programs are always the same, so a red run is caused by the change. `npm run model` looks for new faults. */
const SEED = Number(MODEL_SEED ?? (process.env.CI ? 859_933_805 : randomInt(2 ** 31)));
const WITHOUT = MODEL_WITHOUT ? MODEL_WITHOUT.split(',') : [];
/** The number of findings after which a run ends. */
const FINDINGS = Number(MODEL_FINDINGS ?? 1);
const TIMEOUT_MS = SECONDS * 1_000 + FINDINGS * 120_000;

/** Runs random programs on one database, in both modes concurrently. */
export function describeModel(name: TestDatabase['name']): void {
  const database = databases.find((one) => one.name === name);
  const isChosen = database !== undefined && (MODEL_DATABASE ?? name) === name;
  describe.runIf(isChosen)(`random programs against the database's own triggers (${name})`, () => {
    const modes = (['orm', 'trigger'] as const).filter((mode) => (MODEL_MODE ?? mode) === mode);
    it.concurrent.each(modes)(
      'have exactly one event for each committed change, with its values (%s)',
      (mode) => expectNoFinding({ database: database as TestDatabase, mode }),
      TIMEOUT_MS,
    );
  });
}

async function expectNoFinding(kind: { database: TestDatabase; mode: CaptureModeName }): Promise<void> {
  const chosen = MODEL_COALESCE === undefined ? [false, true] : [MODEL_COALESCE === '1'];
  for (const coalesce of chosen) {
    await expectNoFindingIn(
      { ...kind, coalesce, hasSnapshots: !WITHOUT.includes('snapshots') },
      SECONDS / chosen.length,
    );
  }
}

async function expectNoFindingIn(kind: ModelKind, seconds: number): Promise<void> {
  const run = { kind, seed: SEED, seconds, without: WITHOUT, mostFindings: FINDINGS };
  const { programs, changes, findings } = await runModel(run);
  const title = `${kind.database.name}, ${kind.mode}${kind.coalesce ? ', coalesce' : ''}`;
  console.log(`model ${title}: ${programs} programs from seed ${SEED}, ${changes} changes`);
  if (findings.length) expect.fail(findings.map((finding) => findingText(kind, finding, WITHOUT)).join('\n\n---\n\n'));
  // Some programs may change nothing. If many do, the run tests nothing.
  if (programs >= 20) expect(changes).toBeGreaterThan(programs / 2);
}
