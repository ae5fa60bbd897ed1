import type { EntityName } from './entities.js';

/** Values of a row, as JSON. */
export type Values = Readonly<Record<string, unknown>>;

/** TypeORM's options of `save()` and `remove()` that change what is written, and how. */
export interface SaveOptions {
  readonly reload?: false;
  readonly transaction?: false;
  readonly chunk?: number;
}

/** One thing that a writer does. A program is data, so that it can be kept, printed and made smaller. */
export type Step =
  /** `loaded`: rows are read first, and changed in memory. `remembered`: those that `remember` has read get the values of the first row. */
  | {
      readonly do: 'save';
      readonly entity: EntityName;
      readonly rows: readonly Values[];
      readonly form: 'plain' | 'instance' | 'loaded' | 'remembered';
      readonly options?: SaveOptions;
    }
  | { readonly do: 'insert'; readonly entity: EntityName; readonly rows: readonly Values[] }
  | {
      readonly do: 'upsert';
      readonly entity: EntityName;
      readonly rows: readonly Values[];
      readonly target: readonly string[];
      readonly indexPredicate?: string;
      readonly skipUpdateIfNoValuesChanged?: true;
    }
  | { readonly do: 'update'; readonly entity: EntityName; readonly where: Values; readonly set: Values }
  | { readonly do: 'delete' | 'softDelete' | 'restore'; readonly entity: EntityName; readonly where: Values }
  /** Of rows that are read first; without `where` of those that `remember` has read. */
  | {
      readonly do: 'remove' | 'softRemove' | 'recover';
      readonly entity: EntityName;
      readonly where?: Values;
      readonly options?: SaveOptions;
    }
  | {
      readonly do: 'increment' | 'decrement';
      readonly entity: EntityName;
      readonly where: Values;
      readonly column: string;
      readonly by: number;
    }
  /** By a query builder, with SQL in it where `expressions` has some. */
  | {
      readonly do: 'buildUpdate';
      readonly entity: EntityName;
      readonly where: Values;
      readonly expressions: Readonly<Record<string, string>>;
    }
  | {
      readonly do: 'buildInsert';
      readonly entity: EntityName;
      readonly rows: readonly Values[];
      readonly conflict: 'ignore' | { readonly overwrite: readonly string[]; readonly target: readonly string[] };
    }
  | {
      readonly do: 'buildDelete' | 'buildSoftDelete' | 'buildRestore';
      readonly entity: EntityName;
      readonly where: Values;
    }
  /** By a relation builder. */
  | {
      readonly do: 'relate';
      readonly entity: EntityName;
      readonly relation: string;
      readonly of: unknown;
      readonly verb: 'add' | 'remove' | 'set';
      readonly value: unknown;
    }
  | { readonly do: 'find' | 'remember'; readonly entity: EntityName; readonly where: Values }
  | { readonly do: 'clear'; readonly entity: EntityName }
  /** Of a table whose changes triggers capture. */
  | { readonly do: 'sql'; readonly text: string }
  /** A statement that fails. On PostgreSQL its transaction fails with it. */
  | { readonly do: 'fail' }
  | {
      readonly do: 'transaction';
      /**
       * By a callback, by the methods of a query runner, by statements of the writer's own, by statements that stand beside others in one
       * text (PostgreSQL), or by `SET autocommit` (MySQL, MariaDB).
       */
      readonly style: 'callback' | 'runner' | 'raw' | 'script' | 'autocommit';
      readonly level?: IsolationLevel;
      /** `release`: the query runner is given back in the middle of its transaction. */
      readonly end: 'commit' | 'rollback' | 'release';
      readonly steps: readonly Step[];
    }
  /** The first step, which loads rows; what another writer does before that writes; and the write. */
  | { readonly do: 'between'; readonly steps: readonly [Step, ...Step[]] }
  /** A query runner without a transaction. */
  | { readonly do: 'runner'; readonly steps: readonly Step[] }
  /** Their errors are caught, one by one. */
  | { readonly do: 'swallow'; readonly steps: readonly Step[] }
  /** At once, with `Promise.all`, or `Promise.allSettled`. */
  | { readonly do: 'all'; readonly isSettled: boolean; readonly steps: readonly Step[] }
  /** At once, and nobody waits for them. */
  | { readonly do: 'forget'; readonly steps: readonly Step[] };

export type IsolationLevel = 'READ UNCOMMITTED' | 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE';

/** Rows that are there before, and writers that work at once. */
export interface Program {
  readonly given: readonly { readonly entity: EntityName; readonly row: Values }[];
  readonly writers: readonly (readonly Step[])[];
}

/** The steps inside a step, where it has any. */
export function innerSteps(step: Step): readonly Step[] | undefined {
  return 'steps' in step ? step.steps : undefined;
}

/** Whether a program gives connections back in the middle of their transactions. */
export function leaksTransactions({ writers }: Program): boolean {
  const leaks = (step: Step): boolean =>
    (step.do === 'transaction' && step.end === 'release') || (innerSteps(step) ?? []).some(leaks);
  return writers.some((steps) => steps.some(leaks));
}

/** Properties that find a row. */
const KEYS = ['id', 'code', 'name', 'room'];
/** Properties that hold other rows, and the name of their table's rows where that is the row's own. */
const CASCADES = { lines: 'line', slip: 'slip', children: '', parent: '' } as const;

/** Whether one call of a program may write a row twice. */
export function namesARowTwice({ writers }: Program): boolean {
  const isTwice = (step: Step): boolean => {
    const named = 'rows' in step ? step.rows.flatMap((row) => keysIn(row)) : [];
    return new Set(named).size < named.length || (innerSteps(step) ?? []).some(isTwice);
  };
  return writers.some((steps) => steps.some(isTwice));
}

/** Each value that finds a row, of this row and those that a cascade writes with it. Collations of MySQL and MariaDB ignore case. */
function keysIn(row: Values, table = ''): string[] {
  const own = KEYS.filter((key) => row[key] !== undefined).map(
    (key) => `${table} ${key} ${String(row[key]).toLowerCase()}`,
  );
  const others = Object.entries(CASCADES).flatMap(([property, other]) => {
    const value = row[property];
    const rows = Array.isArray(value) ? (value as Values[]) : value ? [value as Values] : [];
    return rows.flatMap((one) => keysIn(one, other || table));
  });
  return [...own, ...others];
}
