import type { EntityName } from './entities.js';

/** Values of a row, as JSON. */
export type Values = Readonly<Record<string, unknown>>;

/** The options of `save()` and `remove()` of TypeORM that change the writes. */
export interface SaveOptions {
  readonly reload?: false;
  readonly transaction?: false;
  readonly chunk?: number;
}

/** One step of a writer. A program is data, so that it can be stored, printed and made smaller. */
export type Step =
  /** `loaded`: rows are read first and changed in memory. `remembered`: the rows that `remember` has read get the values of the first row. */
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
  /** Removes rows that are read first; without `where`, the rows that `remember` has read. */
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
  /** By a query builder, with SQL from `expressions` if given. */
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
  /** Raw SQL on a table that is captured by triggers. */
  | { readonly do: 'sql'; readonly text: string }
  /** A statement that fails. On PostgreSQL it aborts its transaction. */
  | { readonly do: 'fail' }
  | {
      readonly do: 'transaction';
      /**
       * By a callback, by the methods of a query runner, by raw statements of the writer, by statements together with others in one
       * text (PostgreSQL), or by `SET autocommit` (MySQL, MariaDB).
       */
      readonly style: 'callback' | 'runner' | 'raw' | 'script' | 'autocommit';
      readonly level?: IsolationLevel;
      /** `release`: the query runner is released in the middle of its transaction. */
      readonly end: 'commit' | 'rollback' | 'release';
      readonly steps: readonly Step[];
    }
  /** The interrupted step, which loads and writes rows, and the steps of another writer between its load and its write. */
  | { readonly do: 'between'; readonly steps: readonly [Step, ...Step[]] }
  /** A query runner without a transaction. */
  | { readonly do: 'runner'; readonly steps: readonly Step[] }
  /** Steps whose errors are caught, one by one. */
  | { readonly do: 'swallow'; readonly steps: readonly Step[] }
  /** Concurrent steps, with `Promise.all` or `Promise.allSettled`. */
  | { readonly do: 'all'; readonly isSettled: boolean; readonly steps: readonly Step[] }
  /** Concurrent steps that are not awaited. */
  | { readonly do: 'forget'; readonly steps: readonly Step[] };

export type IsolationLevel = 'READ UNCOMMITTED' | 'READ COMMITTED' | 'REPEATABLE READ' | 'SERIALIZABLE';

/** Rows that exist before, and writers that run concurrently. */
export interface Program {
  readonly given: readonly { readonly entity: EntityName; readonly row: Values }[];
  readonly writers: readonly (readonly Step[])[];
}

/** The steps inside a step. */
export function innerSteps(step: Step): readonly Step[] | undefined {
  return 'steps' in step ? step.steps : undefined;
}

/** Whether a program releases connections in the middle of their transactions. */
export function leaksTransactions({ writers }: Program): boolean {
  const leaks = (step: Step): boolean =>
    (step.do === 'transaction' && step.end === 'release') || (innerSteps(step) ?? []).some(leaks);
  return writers.some((steps) => steps.some(leaks));
}

/** Properties that find a row. */
const KEYS = ['id', 'code', 'name', 'room'];
/** Properties that contain other rows, with the entity of these rows if it is that of the row itself. */
const CASCADES = { lines: 'line', slip: 'slip', children: '', parent: '' } as const;

/** Whether one call of a program may write a row twice. */
export function namesARowTwice({ writers }: Program): boolean {
  const isTwice = (step: Step): boolean => {
    const named = 'rows' in step ? step.rows.flatMap((row) => keysIn(row)) : [];
    return new Set(named).size < named.length || (innerSteps(step) ?? []).some(isTwice);
  };
  return writers.some((steps) => steps.some(isTwice));
}

/** Each value that finds a row, for this row and the rows that a cascade writes. Collations of MySQL and MariaDB ignore case. */
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
