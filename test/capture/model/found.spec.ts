import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { databases } from '../../support/databases.js';
import { Bench, findingText, runProgram } from './model-run.js';
import type { Program } from './program.js';

/** A program that once found a fault, with the drivers and modes in which it did. */
interface FoundProgram {
  readonly fault: string;
  readonly on: readonly string[];
  readonly modes: readonly ('orm' | 'trigger')[];
  readonly program: Program;
}

const FOUND = JSON.parse(readFileSync(join(import.meta.dirname, 'found-programs.json'), 'utf8')) as FoundProgram[];
/** A race shows its fault in some runs only. */
const TRIES = 5;

describe.each(databases)('programs that once found a fault ($name)', (database) => {
  const here = FOUND.filter(({ on }) => on.includes(database.name));
  describe.each(['orm', 'trigger'] as const)('captured by %s', (mode) => {
    const programs = here.filter(({ modes }) => modes.includes(mode));
    const kind = { database, mode, coalesce: false, hasSnapshots: true };
    const bench = new Bench(kind);
    afterAll(() => bench.close());
    it.each(programs)(
      'have exactly one event for each committed change: $fault',
      async ({ program }) => {
        const isRace = program.writers.length > 1 || JSON.stringify(program).includes('"all"');
        const finding = await runProgram(bench, program, isRace ? TRIES : 1);
        if (finding) expect.fail(findingText(kind, finding));
      },
      120_000,
    );
  });
});
