import type { QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** Whether a connection is in a transaction; `failed`: in one that PostgreSQL only rolls back any more. */
export type ServerState = 'none' | 'open' | 'failed';

/** A flag of MySQL's protocol, `SERVER_STATUS_IN_TRANS`. */
const IN_TRANSACTION = 1;

/**
 * What the driver knows of the transaction after a statement. It shows the ends that no text shows: in a procedure, by an error after which the
 * server rolls back by itself, by a DDL statement.
 *
 * PostgreSQL says it after every statement, MySQL and MariaDB with every result that is no list of rows, SQLite always.
 *
 * @param raw what the statement returned
 * @returns `undefined` where the driver does not say it
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
  // Several statements, and procedures, give a list of results.
  const last: unknown = Array.isArray(raw) ? raw.at(-1) : raw;
  const status: unknown = (last as { serverStatus?: unknown } | null | undefined)?.serverStatus;
  if (typeof status !== 'number') return undefined;
  return status & IN_TRANSACTION ? 'open' : 'none';
}

function ofSqlite(runner: QueryRunner): ServerState | undefined {
  // `isolateSqlite` gives each runner a connection; without it the driver has one.
  const { isInTransaction } = runner as { isInTransaction?: boolean };
  const { databaseConnection } = dataSourceOf(runner).driver as { databaseConnection?: { inTransaction?: boolean } };
  const isOpen = isInTransaction ?? databaseConnection?.inTransaction;
  return isOpen === undefined ? undefined : isOpen ? 'open' : 'none';
}
