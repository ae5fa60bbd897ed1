// Misspelt on purpose. cspell:ignore relaod
import { describe, expect, it } from 'vitest';
import { mapSteps, programOf, switchedOff, SWITCHES } from './generate.js';
import { innerSteps, namesARowTwice, type Program, type Step } from './program.js';
import { programText } from './program-text.js';
import { abilitiesOf } from './rows.js';
import { shrink } from './shrink.js';

const abilities = abilitiesOf('postgres', 'orm');
const programs = Array.from({ length: 1_000 }, (_, seed) => programOf(seed, abilities));

function stepsOf({ writers }: Program): Step[] {
  const all = (steps: readonly Step[]): Step[] => steps.flatMap((step) => [step, ...all(innerSteps(step) ?? [])]);
  return writers.flatMap(all);
}

describe('a seed', () => {
  it('makes the same program each time', () => {
    expect(programOf(7, abilities)).toEqual(programOf(7, abilities));
    expect(programOf(7, abilities)).not.toEqual(programOf(8, abilities));
  });

  it('makes a program that can be stored as JSON', () => {
    for (const program of programs) expect(JSON.parse(JSON.stringify(program))).toEqual(program);
  });
});

describe('1,000 programs', () => {
  it('contain each kind of step', () => {
    const kinds = new Set(programs.flatMap(stepsOf).map((step) => step.do));
    const writes = ['save', 'insert', 'upsert', 'update', 'delete', 'softDelete', 'restore', 'remove', 'softRemove'];
    const builders = ['buildUpdate', 'buildInsert', 'buildDelete', 'buildSoftDelete', 'buildRestore', 'relate'];
    const others = ['recover', 'increment', 'decrement', 'find', 'remember', 'clear', 'fail'];
    const blocks = ['transaction', 'runner', 'swallow', 'all', 'forget', 'between'];
    expect([...kinds].toSorted()).toEqual([...writes, ...builders, ...others, ...blocks].toSorted());
  });

  it('contain raw statements in trigger mode', () => {
    const triggered = Array.from({ length: 100 }, (_, seed) => programOf(seed, abilitiesOf('postgres', 'trigger')));
    expect(triggered.flatMap(stepsOf).some((step) => step.do === 'sql')).toBe(true);
  });
});

describe('a switch', () => {
  it.each([
    ['reload', (step: Step) => 'options' in step && step.options?.reload === false],
    ['transaction-false', (step: Step) => 'options' in step && step.options?.transaction === false],
    ['unawaited', (step: Step) => step.do === 'forget'],
    ['parallel', (step: Step) => step.do === 'all' || step.do === 'forget'],
    ['swallowed', (step: Step) => step.do === 'swallow'],
    ['upserts', (step: Step) => step.do === 'upsert' || step.do === 'buildInsert'],
    ['removals', (step: Step) => ['remove', 'softRemove', 'recover'].includes(step.do)],
    ['cascades', (step: Step) => 'entity' in step && ['Cart', 'Node'].includes(step.entity)],
    ['hooks', (step: Step) => 'entity' in step && step.entity === 'Vault'],
    ['shared-column', (step: Step) => 'entity' in step && step.entity === 'Invoice'],
    ['partial-index', (step: Step) => 'entity' in step && step.entity === 'Setting'],
    ['races', (step: Step) => step.do === 'between'],
    ['named-twice', (step: Step) => 'rows' in step && namesARowTwice({ given: [], writers: [[step]] })],
    ['releases', (step: Step) => step.do === 'transaction' && step.end === 'release'],
    ['throwing-hooks', (step: Step) => /"(?:boom|bang|echo)"/.test(JSON.stringify(step))],
    ['statements', (step: Step) => step.do === 'transaction' && ['raw', 'script'].includes(step.style)],
  ] as const)('leaves its kind out of each program: %s', (name, isOfKind) => {
    const has = (program: Program) => stepsOf(program).some(isOfKind);
    expect(programs.some(has)).toBe(true);
    expect(programs.some((program) => has(switchedOff(program, [name])))).toBe(false);
  });

  it('must have a known name', () => {
    const [program] = programs as [Program];
    expect(() => switchedOff(program, ['relaod'])).toThrow(`no switch 'relaod'. Allowed: ${Object.keys(SWITCHES)[0]},`);
  });
});

describe('a program that fails', () => {
  const isCulprit = (step: Step) => step.do === 'save' && step.options?.reload === false;
  const culprits = programs.filter((program) => stepsOf(program).some(isCulprit));

  it('becomes as small as possible, and keeps its fault', async () => {
    expect(culprits.length).toBeGreaterThan(10);
    for (const program of culprits) {
      const small = await shrink(
        program,
        (candidate) => Promise.resolve(stepsOf(candidate).some(isCulprit)),
        Date.now() + 60_000,
      );
      expect(small.given).toEqual([]);
      expect(small.writers.flat()).toMatchObject([{ do: 'save', form: 'plain', options: { reload: false } }]);
    }
  });

  it('is unchanged when the time is over', async () => {
    const [program] = culprits as [Program];
    expect(await shrink(program, () => Promise.resolve(true), Date.now() - 1)).toEqual(program);
  });

  it('is printed as code', () => {
    const program: Program = {
      given: [{ entity: 'Item', row: { id: 1 } }],
      writers: [
        [
          {
            do: 'transaction',
            style: 'runner',
            level: 'SERIALIZABLE',
            end: 'rollback',
            steps: [{ do: 'swallow', steps: [{ do: 'update', entity: 'Item', where: { id: 1 }, set: { amount: 2 } }] }],
          },
        ],
      ],
    };
    expect(programText(program)).toBe(`given Item {"id":1}
writer 1:
  await m.transaction('SERIALIZABLE', async (t) => { // by startTransaction() of a query runner
    await t.update(Item, {"id":1}, {"amount":2}).catch(() => {});
    throw new Error("roll back");
  });`);
  });
});

it('mapSteps() replaces inner steps before outer ones', () => {
  const find: Step = { do: 'find', entity: 'Item', where: {} };
  const program: Program = { given: [], writers: [[{ do: 'swallow', steps: [find, { do: 'fail' }] }]] };
  const seen: string[] = [];
  mapSteps(program, (step) => {
    seen.push(step.do);
    return [step];
  });
  expect(seen).toEqual(['find', 'fail', 'swallow']);
});
