import * as typeorm from 'typeorm';
import type { ObjectLiteral, QueryRunner } from 'typeorm';

/**
 * The only file that distinguishes TypeORM 0.3 from 1.x. `typeorm-version.ts` lists the supported versions.
 *
 * `npm run typecheck` compiles the library against the types of TypeORM 1.x. `npm run typecheck:typeorm-0.3` compiles it against the types
 * of TypeORM 0.3. A name that exists in only one of the two versions does not compile with the other version.
 */

/**
 * This is no static import, because TypeORM 0.2 does not export this name. TypeORM 0.2 must cause
 * `TYPEORM_UNSUPPORTED`, not a SyntaxError.
 */
export const DataSource = typeorm.DataSource;
export type DataSource = typeorm.DataSource;

const IS_03 = !('NamedPlaceholdersNotSupportedError' in typeorm);

/**
 * A query runner, an entity manager, a driver, a builder or the metadata of an entity. In TypeORM 0.3, the property is called
 * `connection`.
 */
export type OfDataSource = { readonly dataSource: DataSource } | { readonly connection: DataSource };

export function dataSourceOf(owner: OfDataSource): DataSource {
  const { dataSource, connection } = owner as { dataSource?: DataSource; connection?: DataSource };
  return (dataSource ?? connection) as DataSource;
}

/**
 * Replaces `:name` by the driver's placeholders. TypeORM 0.3 requires a third argument: values for native
 * parameters.
 */
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

/**
 * TypeORM 0.3 lacks this error class. With TypeORM 0.3, a static import would throw a SyntaxError before the version is
 * checked.
 */
export function namedPlaceholdersNotSupported(): Error {
  const { NamedPlaceholdersNotSupportedError } = typeorm as {
    NamedPlaceholdersNotSupportedError?: new () => Error;
  };
  if (NamedPlaceholdersNotSupportedError) return new NamedPlaceholdersNotSupportedError();
  return new typeorm.TypeORMError(
    'Named placeholders are not supported by this driver. Pass the parameters as an array.',
  );
}

/**
 * The same data source if its connection is open. Otherwise another one with the same options, which has metadata and never connects. It
 * makes no subscribers and no migrations, because their constructors may expect a connection.
 */
export async function withMetadata(dataSource: DataSource): Promise<DataSource> {
  if (dataSource.isInitialized) return dataSource;
  const { constructor, options } = dataSource;
  const copy = new (constructor as typeof DataSource)({ ...options, subscribers: [], migrations: [] });
  // Protected in both versions.
  await (copy as unknown as { buildMetadatas(): Promise<void> }).buildMetadatas();
  return copy;
}

/** The error that TypeORM throws before `initialize()`. In 0.3 it contains the name of the data source. */
export function notConnected(dataSource: DataSource): Error {
  const { name } = dataSource as { name?: string };
  const NotConnected = typeorm.CannotExecuteNotConnectedError as new (name?: string) => Error;
  return new NotConnected(name);
}

/** Empties a table. TypeORM 0.3 has no `options`. */
export function clearTable(runner: QueryRunner, tablePath: string, options?: { cascade?: boolean }): Promise<void> {
  const clearing = runner as { clearTable(tablePath: string, options?: { cascade?: boolean }): Promise<void> };
  return clearing.clearTable(tablePath, options);
}

/**
 * Whether statements wait for their hooks on SQLite, MySQL and MariaDB. In TypeORM 0.3, statements do not wait: see
 * `capture/typeorm/await-hooks.ts`.
 */
export function awaitsHooks(): boolean {
  return !IS_03;
}

/**
 * Whether a soft delete also writes rows that are already deleted, and a restore also writes rows that are not deleted. TypeORM 0.3 writes
 * such rows. For captured entities, this library restricts both operations, as TypeORM 1.x does. Otherwise a row would be reported as
 * deleted twice.
 */
export function softDeletesAgain(): boolean {
  return IS_03;
}

/** Whether `await using runner = …` works. TypeORM 0.3 does not support this syntax. */
export function isAsyncDisposable(runner: QueryRunner): boolean {
  return Symbol.asyncDispose in runner;
}

/**
 * The properties of TypeORM's event before a statement that this library reads. The type is declared here because published types contain it. TypeORM 0.3
 * has a different, generic type.
 */
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
