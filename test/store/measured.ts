import sql, { type Sql } from 'sql-template-tag';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { query, type Script, type StatementResult, Together } from '../../libs/webhooks/src/store/database/script.js';

/** The cost of one statement in its database. */
export interface Cost {
  readonly text: string;
  /** Rows read from tables and indexes, including rows that a condition then rejected; `null` if the database does not count (SQLite). */
  readonly rows: number | null;
  /** The plan in the words of the database. */
  readonly plan: string;
}

/** Thrown to roll back a measured transaction. */
class Undo extends Error {}

/**
 * Runs a script as the store would, in the same kind of transaction, and rolls it back. Each statement that it yields is measured when it
 * is sent.
 *
 * @param as `single`: in a plain transaction, because the store runs this script without its settings
 */
export async function measure<T>(
  database: Database,
  script: () => Script<T>,
  as: 'transaction' | 'single' = 'transaction',
): Promise<{ result: T; costs: Cost[] }> {
  const costs: Cost[] = [];
  let result: T | undefined;
  const work = function* (): Script<void> {
    costs.length = 0;
    const running = script();
    let step = running.next();
    while (!step.done) {
      const { value } = step;
      const all: StatementResult[] = [];
      for (const statement of value instanceof Together ? value.statements : [value]) {
        const { cost, answer } = yield* measured(database, statement);
        costs.push(cost);
        all.push(answer);
      }
      step = running.next(value instanceof Together ? { rows: [], affected: 0, all } : (all[0] as StatementResult));
    }
    result = step.value;
  };
  try {
    if (as === 'single' && database.dialect !== 'sqlite') {
      await database.single(function* () {
        yield sql`begin`;
        yield* work();
        yield sql`rollback`;
      });
    } else {
      await database.transaction(function* () {
        yield* work();
        throw new Undo();
      });
    }
  } catch (error) {
    if (!(error instanceof Undo)) throw error;
  }
  return { result: result as T, costs };
}

function* measured(database: Database, statement: Sql): Script<{ cost: Cost; answer: StatementResult }> {
  const { text } = database.statement(statement);
  switch (database.dialect) {
    case 'postgres': {
      yield sql`savepoint measured`;
      const [row] = yield* query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
        sql`explain (analyze, format json) ${statement}`,
      );
      yield sql`rollback to savepoint measured`;
      const plan = row?.['QUERY PLAN'][0].Plan as PlanNode;
      return { cost: { text, rows: rowsOfPlan(plan), plan: JSON.stringify(plan) }, answer: yield statement };
    }
    case 'mysql': {
      const before = yield* handlerReads();
      const answer = yield statement;
      const after = yield* handlerReads();
      const plan = Object.entries(after).map(([name, count]) => `${name} ${count - (before[name] ?? 0)}`);
      const rows = Object.entries(after).reduce((sum, [name, count]) => sum + count - (before[name] ?? 0), 0);
      return { cost: { text, rows, plan: plan.join(', ') }, answer };
    }
    case 'sqlite': {
      const steps = yield* query<{ detail: string }>(sql`explain query plan ${statement}`);
      return {
        cost: { text, rows: null, plan: steps.map(({ detail }) => detail).join('\n') },
        answer: yield statement,
      };
    }
  }
}

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Actual Rows': number;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number;
  'Rows Removed by Index Recheck'?: number;
  Plans?: PlanNode[];
}

/** Rows that table scans read. */
function rowsOfPlan(node: PlanNode): number {
  const below = (node.Plans ?? []).reduce((sum, plan) => sum + rowsOfPlan(plan), 0);
  if (node['Relation Name'] === undefined || !node['Node Type'].endsWith('Scan')) return below;
  const passed = (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Index Recheck'] ?? 0);
  return below + (node['Actual Rows'] + passed) * node['Actual Loops'];
}

/** Reads that the session requested from the storage engine: by key, along an index, by position, and full scans. */
function* handlerReads(): Script<Record<string, number>> {
  const rows = yield* query<{ Variable_name: string; Value: string }>(
    sql`show session status where Variable_name in ('Handler_read_first', 'Handler_read_key', 'Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd', 'Handler_read_rnd_next')`,
  );
  return Object.fromEntries(rows.map(({ Variable_name, Value }) => [Variable_name, Number(Value)]));
}
