import type { Program, Step } from './program.js';

/** A program as readable code that can almost be pasted. */
export function programText({ given, writers }: Program): string {
  const lines = [...given.map(({ entity, row }) => `given ${entity} ${JSON.stringify(row)}`)];
  for (const [n, steps] of writers.entries()) {
    lines.push(`writer ${n + 1}:`, ...steps.flatMap((step) => stepLines(step, 'm')).map((line) => `  ${line}`));
  }
  return lines.join('\n');
}

const ENDS = {
  commit: [],
  rollback: ['  throw new Error("roll back");'],
  release: ['  await t.queryRunner.release();'],
} as const;

const HOW = {
  callback: '',
  runner: ' // by startTransaction() of a query runner',
  script: " // by query('BEGIN; SELECT 1') on a query runner",
  raw: " // by query('BEGIN') on a query runner",
  autocommit: " // by query('SET autocommit = 0') on a query runner",
} as const;

const json = (value: unknown) => JSON.stringify(value);

function stepLines(step: Step, manager: string): string[] {
  switch (step.do) {
    case 'transaction': {
      const level = step.level ? `'${step.level}', ` : '';
      const how = HOW[step.style];
      return block(`await ${manager}.transaction(${level}async (t) => {${how}`, step.steps, 't', [
        ...ENDS[step.end],
        '});',
      ]);
    }
    case 'runner':
      return block('await onRunner(async (r) => {', step.steps, 'r', ['});']);
    case 'between': {
      const [write, ...others] = step.steps;
      return block('beforeItsTransactionBegins(', others, 'm', [
        ...stepLines(write, manager).map((line) => `  of: ${line}`),
        ');',
      ]);
    }
    case 'swallow':
      return step.steps.flatMap((inner) => {
        const lines = stepLines(inner, manager);
        return [...lines.slice(0, -1), lines.at(-1)?.replace(/;$/, '.catch(() => {});') ?? ''];
      });
    case 'all':
      return block(`await Promise.${step.isSettled ? 'allSettled' : 'all'}([`, step.steps, manager, [']);']);
    case 'forget':
      return block('void [ // nobody waits', step.steps, manager, ['];']);
    default:
      return [`await ${call(step, manager)};`];
  }
}

function block(first: string, steps: readonly Step[], manager: string, last: readonly string[]): string[] {
  return [first, ...steps.flatMap((step) => stepLines(step, manager)).map((line) => `  ${line}`), ...last];
}

type Call = Exclude<Step, { steps: readonly Step[] }>;

function call(step: Call, m: string): string {
  switch (step.do) {
    case 'save': {
      const options = step.options ? `, ${json(step.options)}` : '';
      const form = step.form === 'plain' ? '' : ` /* ${step.form} */`;
      return `${m}.save(${step.entity}, ${json(step.rows)}${options})${form}`;
    }
    case 'insert':
      return `${m}.insert(${step.entity}, ${json(step.rows)})`;
    case 'upsert': {
      const { entity, rows, target: conflictPaths, indexPredicate, skipUpdateIfNoValuesChanged } = step;
      return `${m}.upsert(${entity}, ${json(rows)}, ${json({ conflictPaths, indexPredicate, skipUpdateIfNoValuesChanged })})`;
    }
    case 'update':
      return `${m}.update(${step.entity}, ${json(step.where)}, ${json(step.set)})`;
    case 'delete':
    case 'softDelete':
    case 'restore':
    case 'find':
    case 'remember':
      return `${m}.${step.do}(${step.entity}, ${json(step.where)})`;
    case 'remove':
    case 'softRemove':
    case 'recover': {
      const options = step.options ? `, ${json(step.options)}` : '';
      const found = step.where ? `await ${m}.find(${step.entity}, ${json(step.where)})` : `remembered(${step.entity})`;
      return `${m}.${step.do}(${found}${options})`;
    }
    case 'increment':
    case 'decrement':
      return `${m}.${step.do}(${step.entity}, ${json(step.where)}, '${step.column}', ${step.by})`;
    case 'buildUpdate':
      return `${m}.createQueryBuilder().update(${step.entity}).set(sql ${json(step.expressions)}).where(${json(step.where)}).execute()`;
    case 'buildInsert': {
      const conflict =
        step.conflict === 'ignore'
          ? 'orIgnore()'
          : `orUpdate(${json(step.conflict.overwrite)}, ${json(step.conflict.target)})`;
      return `${m}.createQueryBuilder().insert().into(${step.entity}).values(${json(step.rows)}).${conflict}.execute()`;
    }
    case 'buildDelete':
    case 'buildSoftDelete':
    case 'buildRestore': {
      const verb = { buildDelete: 'delete', buildSoftDelete: 'softDelete', buildRestore: 'restore' }[step.do];
      return `${m}.createQueryBuilder().${verb}().from(${step.entity}).where(${json(step.where)}).execute()`;
    }
    case 'relate':
      return `${m}.createQueryBuilder().relation(${step.entity}, '${step.relation}').of(${json(step.of)}).${step.verb}(${json(step.value)})`;
    case 'clear':
      return `${m}.clear(${step.entity})`;
    case 'sql':
      return `${m}.query(${json(step.text)})`;
    case 'fail':
      return `${m}.query('SELECT * FROM nothing')`;
  }
}
