import { describe, expect, it } from 'vitest';
import { databases } from '../../support/databases.js';
import found from './found-programs.json' with { type: 'json' };
import { findingText, runProgram } from './model-run.js';
import type { Program } from './program.js';

/** A program that once found a fault, and where. */
interface FoundProgram {
  readonly fault: string;
  readonly on: readonly string[];
  readonly modes: readonly ('orm' | 'trigger')[];
  readonly coalesce?: boolean;
  readonly program: Program;
}

/** A race shows its fault in some runs only. */
const TRIES = 5;

describe.each(databases)('programs that found a fault once ($name)', (database) => {
  const here = (found as unknown as FoundProgram[]).filter(({ on }) => on.includes(database.name));
  describe.each(['orm', 'trigger'] as const)('captured by %s', (mode) => {
    const programs = here.filter(({ modes }) => modes.includes(mode));
    it.each(programs)(
      'have exactly one event for each committed change: $fault',
      async ({ program, coalesce = false }) => {
        const kind = { database, mode, coalesce, hasSnapshots: true };
        const isRace = program.writers.length > 1 || JSON.stringify(program).includes('"all"');
        const finding = await runProgram(kind, program, isRace ? TRIES : 1);
        if (finding) expect.fail(findingText(kind, finding));
      },
      120_000,
    );
  });
});
