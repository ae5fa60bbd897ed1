import { innerSteps, type Program, type Step } from './program.js';

/** Returns whether a smaller program still has the fault. */
export type ShowsFault = (program: Program) => Promise<boolean>;

/**
 * Makes a failing program smaller: removes writers, steps, rows, values and options as long as it still fails.
 *
 * Delta debugging over the tree of the program. Each round begins with the largest parts, and continues at the same position after a success.
 * Parts that could not be removed are tried again only in the next round.
 *
 * @param deadline in milliseconds since 1970; then the smallest program so far is returned
 */
export async function shrink(program: Program, fails: ShowsFault, deadline: number): Promise<Program> {
  let smallest = program;
  let place = 0;
  let refused = 0;
  for (;;) {
    const candidates = [...smaller(smallest)];
    if (refused >= candidates.length || Date.now() > deadline) return smallest;
    place %= candidates.length;
    const candidate = candidates[place] as Program;
    if (await fails(candidate)) {
      smallest = candidate;
      refused = 0;
    } else {
      place++;
      refused++;
    }
  }
}

function* smaller(program: Program): Generator<Program> {
  const { given, writers } = program;
  if (writers.length > 1) for (const fewer of withoutOne(writers)) yield { ...program, writers: fewer };
  if (given.length) yield { ...program, given: [] };
  for (const fewer of withoutOne(given)) yield { ...program, given: fewer };
  for (const [n, steps] of writers.entries()) {
    for (const simpler of simplerSteps(steps)) yield { ...program, writers: writers.with(n, simpler) };
  }
  for (const [n, { entity, row }] of given.entries()) {
    for (const key of Object.keys(row)) yield { ...program, given: given.with(n, { entity, row: without(row, key) }) };
  }
}

function* simplerSteps(steps: readonly Step[]): Generator<readonly Step[]> {
  yield* withoutOne(steps);
  for (const [n, step] of steps.entries()) {
    const inner = innerSteps(step);
    if (inner) {
      yield [...steps.slice(0, n), ...inner, ...steps.slice(n + 1)];
      for (const fewer of simplerSteps(inner)) {
        if (fewer.length || step.do !== 'between') yield steps.with(n, { ...step, steps: fewer } as Step);
      }
    }
    for (const simpler of simplerStep(step)) yield steps.with(n, simpler);
  }
}

function* simplerStep(step: Step): Generator<Step> {
  if (step.do === 'transaction') {
    if (step.level) {
      const { level: _, ...plain } = step;
      yield plain;
    }
    if (step.style !== 'callback')
      yield { ...step, style: 'callback', end: step.end === 'release' ? 'commit' : step.end };
    if (step.end !== 'commit') yield { ...step, end: 'commit' };
  }
  if ('options' in step && step.options) {
    const { options, ...plain } = step;
    yield plain;
    for (const key of Object.keys(options)) yield { ...step, options: without(options, key) };
  }
  if ('rows' in step) {
    if (step.rows.length > 1) for (const rows of withoutOne(step.rows)) yield { ...step, rows };
    for (const [n, row] of step.rows.entries()) {
      if (Object.keys(row).length < 2) continue;
      for (const key of Object.keys(row)) yield { ...step, rows: step.rows.with(n, without(row, key)) };
    }
  }
  if (step.do === 'save' && step.form !== 'plain') yield { ...step, form: 'plain' };
  if (step.do === 'update') for (const key of fewer(step.set)) yield { ...step, set: without(step.set, key) };
}

function fewer(values: object): string[] {
  const keys = Object.keys(values);
  return keys.length > 1 ? keys : [];
}

/** Halves first, if there are many parts. */
function* withoutOne<T>(items: readonly T[]): Generator<readonly T[]> {
  const half = Math.floor(items.length / 2);
  if (half > 1) {
    yield items.slice(half);
    yield items.slice(0, half);
  }
  for (let n = 0; n < items.length; n++) yield items.toSpliced(n, 1);
}

function without<T extends object>(values: T, key: string): T {
  return Object.fromEntries(Object.entries(values).filter(([name]) => name !== key)) as T;
}
