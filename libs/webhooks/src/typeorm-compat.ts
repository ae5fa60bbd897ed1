import * as typeorm from 'typeorm';
import type { ObjectLiteral, QueryRunner } from 'typeorm';

/**
 * The only file that distinguishes TypeORM 0.3 from 1.x. `typeorm-version.ts` lists the supported versions.
 *
 * `npm run typecheck` compiles the library against the types of 1.x, and `npm run typecheck:typeorm-0.3` against those of 0.3. A name that
 * exists in only one of them does not compile with the other.
 */

/** Not a static import: 0.2 has no such name, and must be refused by `TYPEORM_UNSUPPORTED`, not by a SyntaxError. */
export const DataSource = typeorm.DataSource;
export type DataSource = typeorm.DataSource;

const IS_03 = !('NamedPlaceholdersNotSupportedError' in typeorm);

/** A query runner, an entity manager, a driver, a builder or the metadata of an entity. In 0.3 the property is called `connection`. */
export type OfDataSource = { readonly dataSource: DataSource } | { readonly connection: DataSource };

export function dataSourceOf(owner: OfDataSource): DataSource {
  const { dataSource, connection } = owner as { dataSource?: DataSource; connection?: DataSource };
  return (dataSource ?? connection) as DataSource;
}

/** Replaces `:name` by the driver's placeholders. 0.3 requires a third argument: values for native parameters. */
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

/** 0.3 lacks this class. A static import would throw a SyntaxError there, before the version is checked. */
export function namedPlaceholdersNotSupported(): Error {
  const { NamedPlaceholdersNotSupportedError } = typeorm as {
    NamedPlaceholdersNotSupportedError?: new () => Error;
  };
  if (NamedPlaceholdersNotSupportedError) return new NamedPlaceholdersNotSupportedError();
  return new typeorm.TypeORMError(
    'Named placeholders are not supported by this driver. Pass the parameters as an array.',
  );
}

/** The error that TypeORM throws before `initialize()`. In 0.3 it contains the name of the data source. */
export function notConnected(dataSource: DataSource): Error {
  const { name } = dataSource as { name?: string };
  const NotConnected = typeorm.CannotExecuteNotConnectedError as new (name?: string) => Error;
  return new NotConnected(name);
}

/** Empties a table. 0.3 has no `options`. */
export function clearTable(runner: QueryRunner, tablePath: string, options?: { cascade?: boolean }): Promise<void> {
  const clearing = runner as { clearTable(tablePath: string, options?: { cascade?: boolean }): Promise<void> };
  return clearing.clearTable(tablePath, options);
}

/** Whether statements wait for their hooks on SQLite, MySQL and MariaDB. In 0.3 they do not: see `capture/typeorm/await-hooks.ts`. */
export function awaitsHooks(): boolean {
  return !IS_03;
}

/**
 * Whether a soft delete also writes rows that are already deleted, and a restore also writes rows that are not deleted. 0.3 does this. For
 * captured entities this library restricts both, as 1.x does, so that no row is reported as deleted twice.
 */
export function softDeletesAgain(): boolean {
  return IS_03;
}

/** Whether `await using runner = …` works. 0.3 lacks it. */
export function isAsyncDisposable(runner: QueryRunner): boolean {
  return Symbol.asyncDispose in runner;
}

/** TypeORM's event before a statement, as far as it is read here. It is declared here because published types contain it, and the type of 0.3 is generic. */
export interface QueryEvent {
  readonly queryRunner: QueryRunner;
  readonly query: string;
}

/** TypeORM's event after a statement. See {@link QueryEvent}. */
export interface QueryEndEvent extends QueryEvent {
  readonly success: boolean;
  readonly rawResults?: unknown;
  readonly error?: unknown;
}
