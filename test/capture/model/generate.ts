import type { EntityName } from './entities.js';
import { innerSteps, namesARowTwice, type Program, type SaveOptions, type Step, type Values } from './program.js';
import { Random } from './random.js';
import { HOOK_NAMES, RELATIONS, ROW_SOURCES, STATEMENTS, type Abilities, type RowSource } from './rows.js';

/** No foreign key references these entities. */
const CLEARED: readonly EntityName[] = ['Item', 'Numbered', 'Booking'];
const ENTITIES = Object.keys(ROW_SOURCES) as EntityName[];
const MOST_WRITERS = 4;
const MOST_STEPS = 4;
const DEEPEST = 3;

/** Makes the program of a seed. It depends only on the seed, the switches and the abilities of the database. */
export function programOf(seed: number, abilities: Abilities): Program {
  const program = new Generator(new Random(seed), abilities).program();
  return abilities.capturesSql ? program : withoutUnlockedRaces(program);
}

class Generator {
  /** Most steps of a program use these entities, so that writers work on the same rows. */
  private readonly favourites: readonly EntityName[];

  constructor(
    private readonly random: Random,
    private readonly abilities: Abilities,
  ) {
    this.favourites = random.list(1, 3, () => random.pick(ENTITIES));
  }

  program(): Program {
    const { random } = this;
    const given = random.list(0, 6, () => {
      const entity = this.entity();
      return { entity, row: this.plainRow(entity) };
    });
    const count = random.weighted([
      [5, 1],
      [3, 2],
      [2, random.int(3, MOST_WRITERS)],
    ]);
    const writers = Array.from({ length: count }, () => this.steps(0));
    return { given, writers };
  }

  private steps(depth: number): Step[] {
    return this.random.list(1, MOST_STEPS, () => this.step(depth));
  }

  private step(depth: number): Step {
    const { random, abilities } = this;
    if (depth >= DEEPEST || random.chance(depth === 0 ? 0.45 : 0.7)) return this.write();
    return random.weighted<() => Step>([
      [6, () => this.transaction(depth)],
      [1, () => ({ do: 'runner', steps: this.steps(depth + 1) })],
      [3, () => ({ do: 'swallow', steps: this.steps(depth + 1) })],
      [2, () => ({ do: 'all', isSettled: random.chance(0.5), steps: this.steps(depth + 1) })],
      [1, () => ({ do: 'forget', steps: this.steps(depth + 1) })],
      [abilities.hasRowLocks ? 1.5 : 0, () => this.between()],
      [0.5, () => ({ do: 'fail' })],
    ])();
  }

  private transaction(depth: number): Step {
    const { random, abilities } = this;
    const style = random.weighted([
      [7, 'callback'],
      [3, 'runner'],
      [depth === 0 ? 1 : 0, 'raw'],
      [depth === 0 && abilities.hasScripts ? 0.7 : 0, 'script'],
      [depth === 0 && abilities.hasAutocommit ? 0.7 : 0, 'autocommit'],
    ] as const);
    const end = random.weighted([
      [85, 'commit'],
      [15, 'rollback'],
      [depth === 0 && style === 'runner' ? 8 : 0, 'release'],
    ] as const);
    // A nested transaction has the isolation level of the outer one.
    const hasLevel = depth === 0 && (style === 'callback' || style === 'runner');
    const level = hasLevel && random.chance(0.4) ? { level: random.pick(abilities.levels) } : {};
    return { do: 'transaction', style, ...level, end, steps: this.steps(depth + 1) };
  }

  /** A race that has the same order of steps in each run. */
  private between(): Step {
    const entity = this.entity();
    const source = ROW_SOURCES[entity];
    const write = this.random.chance(0.6) ? this.save(entity, source) : this.removal(entity, source);
    return { do: 'between', steps: [write, ...this.random.list(1, 2, () => this.writeTo(entity))] };
  }

  private entity(): EntityName {
    return this.random.chance(0.8) ? this.random.pick(this.favourites) : this.random.pick(ENTITIES);
  }

  private write(): Step {
    return this.writeTo(this.entity());
  }

  private writeTo(entity: EntityName): Step {
    const { random, abilities } = this;
    const rows = ROW_SOURCES[entity];
    return random.weighted<() => Step>([
      [10, () => this.save(entity, rows)],
      [4, () => ({ do: 'insert', entity, rows: random.list(1, 3, () => this.plainRow(entity)) })],
      [4, () => this.upsert(entity, rows)],
      [5, () => ({ do: 'update', entity, where: rows.where(random), set: this.plainPatch(entity) })],
      [2, () => ({ do: 'delete', entity, where: rows.where(random) })],
      [5, () => this.removal(entity, rows)],
      [3, () => this.softly(entity, rows)],
      [3, () => this.counting(entity, rows)],
      [2, () => this.built(entity, rows)],
      [
        entity === 'Cart' || entity === 'Line' || entity === 'Slip' || entity === 'Node' ? 4 : 0.3,
        () => this.relating(),
      ],
      [1, () => ({ do: 'find', entity, where: rows.where(random) })],
      [1.5, () => ({ do: 'remember', entity, where: rows.where(random) })],
      [CLEARED.includes(entity) && abilities.canClear ? 0.4 : 0, () => ({ do: 'clear', entity })],
      [abilities.capturesSql ? 2 : 0, () => ({ do: 'sql', text: random.pick(STATEMENTS)(random) })],
    ])();
  }

  private save(entity: EntityName, source: RowSource): Step {
    const { random } = this;
    const form = random.weighted([
      [3, 'plain'],
      [2, 'instance'],
      [4, 'loaded'],
      [1, 'remembered'],
    ] as const);
    const whole = () => source.row(random);
    const part = () => {
      const values = source.row(random);
      const key = Object.fromEntries(source.key.map((property) => [property, values[property]]));
      return { ...(source.key.length ? key : source.where(random)), ...source.patch(random) };
    };
    const rows = random.list(1, 3, random.chance(0.6) ? whole : part);
    return { do: 'save', entity, rows, form, ...this.options() };
  }

  private options(): { options?: SaveOptions } {
    const { random } = this;
    if (random.chance(0.7)) return {};
    const options = {
      ...(random.chance(0.5) ? { reload: false as const } : {}),
      ...(random.chance(0.3) ? { transaction: false as const } : {}),
      ...(random.chance(0.3) ? { chunk: random.int(1, 2) } : {}),
    };
    return Object.keys(options).length ? { options } : {};
  }

  private upsert(entity: EntityName, source: RowSource): Step {
    const { random, abilities } = this;
    const rows = random.list(1, 3, () => this.plainRow(entity));
    if (entity === 'Setting' && abilities.hasPartialIndexes) {
      return { do: 'upsert', entity, rows, target: ['name'], indexPredicate: '"deletedAt" IS NULL' };
    }
    if (!source.targets.length) return { do: 'insert', entity, rows };
    const target = random.pick(source.targets);
    const skips = abilities.hasSkipUnchanged && random.chance(0.3);
    return { do: 'upsert', entity, rows, target, ...(skips ? { skipUpdateIfNoValuesChanged: true as const } : {}) };
  }

  private removal(entity: EntityName, source: RowSource): Step {
    const { random } = this;
    const verb = source.canSoftDelete
      ? random.pick(['remove', 'softRemove', 'softRemove', 'recover'] as const)
      : ('remove' as const);
    const where = random.chance(0.15) ? {} : { where: source.where(random) };
    return { do: verb, entity, ...where, ...this.options() };
  }

  private softly(entity: EntityName, source: RowSource): Step {
    const { random } = this;
    const where = source.where(random);
    if (!source.canSoftDelete) return { do: 'update', entity, where, set: this.plainPatch(entity) };
    return { do: random.pick(['softDelete', 'restore', 'buildSoftDelete', 'buildRestore'] as const), entity, where };
  }

  private counting(entity: EntityName, source: RowSource): Step {
    const { random } = this;
    const where = source.where(random);
    const { counter: column } = source;
    if (column === undefined) return { do: 'update', entity, where, set: this.plainPatch(entity) };
    const by = random.int(0, 2);
    if (random.chance(0.3)) {
      return { do: 'buildUpdate', entity, where, expressions: { [column]: `${column} * 2 + ${by}` } };
    }
    return { do: random.pick(['increment', 'decrement'] as const), entity, where, column, by };
  }

  private built(entity: EntityName, source: RowSource): Step {
    const { random } = this;
    if (random.chance(0.4)) return { do: 'buildDelete', entity, where: source.where(random) };
    const rows = random.list(1, 3, () => this.plainRow(entity));
    const [target] = source.targets;
    const columns = Object.keys(rows[0] ?? {}).filter((name) => !source.key.includes(name));
    const overwrite = columns.filter((name) => rows.every((row) => name in row) && !isReference(rows[0]?.[name]));
    if (!target || !overwrite.length || random.chance(0.5))
      return { do: 'buildInsert', entity, rows, conflict: 'ignore' };
    return { do: 'buildInsert', entity, rows, conflict: { overwrite, target } };
  }

  private relating(): Step {
    const { random } = this;
    const { entity, relation, isMany } = random.pick(RELATIONS);
    const of = random.int(1, 3);
    const other = random.int(1, 3);
    if (isMany)
      return { do: 'relate', entity, relation, of, verb: random.pick(['add', 'remove'] as const), value: other };
    return { do: 'relate', entity, relation, of, verb: 'set', value: random.chance(0.3) ? null : other };
  }

  /** Removes the rows of other tables, which only a `save()` can write. */
  private plainRow(entity: EntityName) {
    return withoutCascades(ROW_SOURCES[entity].row(this.random));
  }

  private plainPatch(entity: EntityName) {
    const patch = withoutCascades(ROW_SOURCES[entity].patch(this.random));
    return Object.keys(patch).length ? patch : { name: 'ann' };
  }
}

function withoutCascades({ lines: _, slip: __, children: ___, ...row }: Values): Values {
  return row;
}

function isReference(value: unknown): boolean {
  return typeof value === 'object';
}

/** Kinds of programs that can be left out while one of their faults is known: `MODEL_WITHOUT=reload,races`. */
export const SWITCHES: Readonly<Record<string, (program: Program) => Program>> = {
  reload: (program) => mapSteps(program, (step) => [withoutOption(step, 'reload')]),
  'transaction-false': (program) => mapSteps(program, (step) => [withoutOption(step, 'transaction')]),
  unawaited: (program) => mapSteps(program, (step) => (step.do === 'forget' ? [] : [step])),
  parallel: (program) => mapSteps(program, (step) => (step.do === 'all' || step.do === 'forget' ? [] : [step])),
  swallowed: (program) => mapSteps(program, (step) => (step.do === 'swallow' ? [...step.steps] : [step])),
  upserts: (program) => mapSteps(program, (step) => (step.do === 'upsert' || step.do === 'buildInsert' ? [] : [step])),
  removals: (program) =>
    mapSteps(program, (step) => (['remove', 'softRemove', 'recover'].includes(step.do) ? [] : [step])),
  'named-twice': (program) => mapSteps(program, (step) => [withFirstRow(step)]),
  cascades: (program) => without(program, ['Cart', 'Node']),
  hooks: (program) => without(program, ['Vault']),
  'shared-column': (program) => without(program, ['Invoice']),
  'partial-index': (program) => without(program, ['Setting']),
  races: ({ given, writers }) => {
    const one = { given, writers: writers.slice(0, 1) };
    return mapSteps(one, (step) => (step.do === 'between' ? step.steps.slice(0, 1) : [step]));
  },
  statements: (program) =>
    mapSteps(program, (step) =>
      step.do === 'transaction' && ['raw', 'script', 'autocommit'].includes(step.style)
        ? [{ ...step, style: 'callback' }]
        : [step],
    ),
  releases: (program) =>
    mapSteps(program, (step) =>
      step.do === 'transaction' && step.end === 'release' ? [{ ...step, end: 'commit' }] : [step],
    ),
  'throwing-hooks': (program) => withoutHookNames(program),
  /** Depends on the settings of the server, and not on the program. */
  snapshots: (program) => program,
};

/** @throws Error for an unknown switch */
export function switchedOff(program: Program, names: readonly string[]): Program {
  return names.reduce((rest, name) => {
    const off = SWITCHES[name];
    if (!off) throw new Error(`MODEL_WITHOUT has no switch '${name}'. Allowed: ${Object.keys(SWITCHES).join(', ')}.`);
    return off(rest);
  }, program);
}

/** Names occur in rows and in criteria. */
function withoutHookNames(program: Program): Program {
  const pattern = new RegExp(`"(?:${HOOK_NAMES.join('|')})"`, 'g');
  return JSON.parse(JSON.stringify(program).replaceAll(pattern, '"ann"')) as Program;
}

function without(program: Program, names: readonly EntityName[]): Program {
  const given = program.given.filter(({ entity }) => !names.includes(entity));
  return mapSteps({ ...program, given }, (step) => ('entity' in step && names.includes(step.entity) ? [] : [step]));
}

/** The first row of a call that names a row twice. */
function withFirstRow(step: Step): Step {
  if (!('rows' in step) || !namesARowTwice({ given: [], writers: [[step]] })) return step;
  const rows = step.rows.slice(0, 1).map(({ parent: _, ...row }) => withoutCascades(row));
  return { ...step, rows };
}

/**
 * With `transaction: false` no lock is held, so another writer may change a row between its write and the reads before and after it
 * (docs/capture.md, "What save() cannot promise"). Without other writers, or in a transaction, it has the promises of every save().
 */
function withoutUnlockedRaces(program: Program): Program {
  const locked = (steps: readonly Step[]): Step[] =>
    steps.map((step) => {
      if (step.do === 'transaction') return step;
      const inner = innerSteps(step);
      return inner ? ({ ...step, steps: locked(inner) } as Step) : withoutOption(step, 'transaction');
    });
  return hasRaces(program) ? { ...program, writers: program.writers.map(locked) } : program;
}

function hasRaces({ writers }: Program): boolean {
  const isAtOnce = (step: Step): boolean =>
    ['all', 'forget', 'between'].includes(step.do) || (innerSteps(step) ?? []).some(isAtOnce);
  return writers.length > 1 || writers.some((steps) => steps.some(isAtOnce));
}

function withoutOption(step: Step, option: keyof SaveOptions): Step {
  if (!('options' in step) || !step.options || !(option in step.options)) return step;
  const { [option]: _, ...options } = step.options;
  return { ...step, options };
}

/** Replaces each step by other steps, inner steps first. */
export function mapSteps(program: Program, replace: (step: Step) => readonly Step[]): Program {
  const map = (steps: readonly Step[]): Step[] =>
    steps.flatMap((step) => {
      const inner = innerSteps(step);
      if (!inner) return replace(step);
      const steps = map(inner);
      // The first step of a race is the interrupted step.
      if (step.do === 'between' && !steps.length) return [];
      return replace({ ...step, steps } as Step);
    });
  return { ...program, writers: program.writers.map(map) };
}
