import type { QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/**
 * The transaction state of a connection. `failed` means that PostgreSQL has aborted the transaction. An aborted transaction can only be
 * rolled back.
 */
export type ServerState = 'none' | 'open' | 'failed';

/** The flag `SERVER_STATUS_IN_TRANS` of MySQL's protocol. */
const IN_TRANSACTION = 1;

/**
 * The state of the transaction after a statement, as the driver knows it. The state also shows a transaction that ended without its own
 * statement: in a procedure, by an error after which the server rolls back, or by a DDL statement.
 *
 * PostgreSQL reports the state after every statement. MySQL and MariaDB report the state with every result that is not a list of rows. For
 * SQLite the driver always knows the state.
 *
 * @param raw the raw result of the statement
 * @returns `undefined` if the driver does not know the state
 */
export function serverState(runner: QueryRunner, dialect: DialectName, raw: unknown): ServerState | undefined {
  switch (dialect) {
    case 'postgres':
      return ofPostgres(runner);
    case 'mysql':
      return ofMysql(raw);
    case 'sqlite':
      return ofSqlite(runner);
  }
}

function ofPostgres(runner: QueryRunner): ServerState | undefined {
  const { databaseConnection } = runner as { databaseConnection?: { getTransactionStatus?(): string | null } };
  switch (databaseConnection?.getTransactionStatus?.()) {
    case 'I':
      return 'none';
    case 'T':
      return 'open';
    case 'E':
      return 'failed';
    default:
      return undefined;
  }
}

function ofMysql(raw: unknown): ServerState | undefined {
  // A text of several statements, or the call of a procedure, returns a list of results.
  const last: unknown = Array.isArray(raw) ? raw.at(-1) : raw;
  const status: unknown = (last as { serverStatus?: unknown } | null | undefined)?.serverStatus;
  if (typeof status !== 'number') return undefined;
  return status & IN_TRANSACTION ? 'open' : 'none';
}

function ofSqlite(runner: QueryRunner): ServerState | undefined {
  // With `isolateSqlite` each query runner has its own connection. Without `isolateSqlite` the driver has one connection for all query
  // runners.
  const { isInTransaction } = runner as { isInTransaction?: boolean };
  const { databaseConnection } = dataSourceOf(runner).driver as { databaseConnection?: { inTransaction?: boolean } };
  const isOpen = isInTransaction ?? databaseConnection?.inTransaction;
  return isOpen === undefined ? undefined : isOpen ? 'open' : 'none';
}
