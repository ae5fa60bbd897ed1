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
  /** `loaded`: rows are read first, and changed in memory. */
  | {
      readonly do: 'save';
      readonly entity: EntityName;
      readonly rows: readonly Values[];
      readonly form: 'plain' | 'instance' | 'loaded';
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
  /** Of rows that are read first. */
  | {
      readonly do: 'remove' | 'softRemove' | 'recover';
      readonly entity: EntityName;
      readonly where: Values;
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
  | { readonly do: 'find'; readonly entity: EntityName; readonly where: Values }
  /** A statement that fails. On PostgreSQL its transaction fails with it. */
  | { readonly do: 'fail' }
  | {
      readonly do: 'transaction';
      /** By a callback, or by the methods of a query runner. */
      readonly style: 'callback' | 'runner';
      readonly level?: IsolationLevel;
      readonly end: 'commit' | 'rollback';
      readonly steps: readonly Step[];
    }
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

/** Properties that find a row. */
const KEYS = ['id', 'code', 'name', 'room'];

/** Whether one call of a program may write a row twice. */
export function namesARowTwice({ writers }: Program): boolean {
  const isTwice = (step: Step): boolean => {
    const rows = 'rows' in step ? step.rows : [];
    const shared = KEYS.some((key) => {
      const values = rows.flatMap((row) => (row[key] === undefined ? [] : [row[key]]));
      return new Set(values).size < values.length;
    });
    return shared || (innerSteps(step) ?? []).some(isTwice);
  };
  return writers.some((steps) => steps.some(isTwice));
}
