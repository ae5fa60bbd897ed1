import * as typeorm from 'typeorm';
import type { ObjectLiteral, QueryRunner } from 'typeorm';

/**
 * The one place that knows TypeORM 0.3 from 1.x; `typeorm-version.ts` says which of them are supported.
 *
 * `npm run typecheck` compiles the library against the types of 1.x, `npm run typecheck:typeorm-0.3` against those of 0.3: a name
 * that only one of them has does not compile with the other.
 */

/** Not by a static import: 0.2 has no such name, and is to be refused by `TYPEORM_UNSUPPORTED` rather than by a SyntaxError. */
export const DataSource = typeorm.DataSource;
export type DataSource = typeorm.DataSource;

const IS_03 = !('NamedPlaceholdersNotSupportedError' in typeorm);

/** A query runner, an entity manager, a driver, a builder or an entity's metadata: 0.3 calls its data source `connection`. */
export type OfDataSource = { readonly dataSource: DataSource } | { readonly connection: DataSource };

export function dataSourceOf(owner: OfDataSource): DataSource {
  const { dataSource, connection } = owner as { dataSource?: DataSource; connection?: DataSource };
  return (dataSource ?? connection) as DataSource;
}

/** Puts the driver's placeholders in the place of `:name`. 0.3 needs a third argument: values for its own names. */
export function escapeParameters(
  { driver }: DataSource,
  sql: string,
  parameters: ObjectLiteral,
): [sql: string, values: unknown[]] {
  const escaping = driver as unknown as {
    escapeQueryWithParameters(sql: string, parameters: ObjectLiteral, native: ObjectLiteral): [string, unknown[]];
  };
  return escaping.escapeQueryWithParameters(sql, parameters, {});
}

/** 0.3 has no class of its own for it. A static import of the class would be a SyntaxError there, before any check of ours. */
export function namedPlaceholdersNotSupported(): Error {
  const { NamedPlaceholdersNotSupportedError } = typeorm as {
    NamedPlaceholdersNotSupportedError?: new () => Error;
  };
  if (NamedPlaceholdersNotSupportedError) return new NamedPlaceholdersNotSupportedError();
  return new typeorm.TypeORMError(
    'Named placeholders are not supported by this driver: give the parameters as an array.',
  );
}

/** The error that TypeORM throws before `initialize()`; 0.3 names the data source in it. */
export function notConnected(dataSource: DataSource): Error {
  const { name } = dataSource as { name?: string };
  const NotConnected = typeorm.CannotExecuteNotConnectedError as new (name?: string) => Error;
  return new NotConnected(name);
}

/** Empties a table. `options` came with 1.0; an application on 0.3 cannot give any. */
export function clearTable(runner: QueryRunner, tablePath: string, options?: { cascade?: boolean }): Promise<void> {
  const clearing = runner as { clearTable(tablePath: string, options?: { cascade?: boolean }): Promise<void> };
  return clearing.clearTable(tablePath, options);
}

/** Whether statements wait for the hooks around them on SQLite, MySQL and MariaDB: not with 0.3, see `capture/typeorm/await-hooks.ts`. */
export function awaitsHooks(): boolean {
  return !IS_03;
}

/**
 * Whether a soft delete sets the delete date again of rows that are deleted, and a restore writes rows that are not: with 0.3. Of captured
 * entities they write what they write with 1.x, so that no row is reported as deleted twice.
 */
export function softDeletesAgain(): boolean {
  return IS_03;
}

/** `await using runner = …` came with 1.0. */
export function isAsyncDisposable(runner: QueryRunner): boolean {
  return Symbol.asyncDispose in runner;
}

/** The part of TypeORM's event that is read here. A type of ours: 0.3's own is generic, and ours stands in published types. */
export interface QueryEvent {
  readonly queryRunner: QueryRunner;
  readonly query: string;
}

/** TypeORM's event after a statement, see {@link QueryEvent}. */
export interface QueryEndEvent extends QueryEvent {
  readonly success: boolean;
  readonly rawResults?: unknown;
  readonly error?: unknown;
}
