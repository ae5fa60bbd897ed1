import type { QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import type { StatementResult } from './script.js';

/** Sends one statement over a connection. */
export type SendRaw = (text: string, values: unknown[]) => Promise<StatementResult>;

/** The part of better-sqlite3's connection that this file uses. */
interface SqliteConnection {
  prepare(sql: string): {
    readonly reader: boolean;
    all(...values: unknown[]): StatementResult['rows'];
    run(...values: unknown[]): { changes: number };
  };
}

/** The part of `pg`'s client that this file uses. */
interface PgClient {
  query(text: string, values: unknown[]): Promise<{ rows?: StatementResult['rows']; rowCount?: number | null }>;
}

/** The part of `mysql2`'s connection that this file uses. */
interface MysqlConnection {
  query(text: string, values: unknown[], done: (error: unknown, result: unknown) => void): void;
}

/**
 * Sends statements over the query runner's connection, without TypeORM. TypeORM's `query()` passes each parameter to the application's
 * logger and puts the parameter into the error of a failed statement. The parameters of the module include the secrets of listeners.
 */
export async function rawConnection(runner: QueryRunner, dialect: DialectName): Promise<SendRaw> {
  const connection: unknown = await runner.connect();
  switch (dialect) {
    case 'sqlite':
      return overSqlite(connection as SqliteConnection);
    case 'postgres':
      return overPostgres(connection as PgClient);
    case 'mysql':
      return overMysql(connection as MysqlConnection);
  }
}

function overSqlite(connection: SqliteConnection): SendRaw {
  return (text, values) =>
    // Inside `then()`, a thrown error becomes a rejection.
    Promise.resolve().then(() => {
      const statement = connection.prepare(text);
      if (statement.reader) return { rows: statement.all(...values), affected: 0 };
      return { rows: [], affected: statement.run(...values).changes };
    });
}

function overPostgres(client: PgClient): SendRaw {
  return async (text, values) => {
    const { rows, rowCount } = await client.query(text, values);
    return { rows: rows ?? [], affected: rowCount ?? 0 };
  };
}

function overMysql(connection: MysqlConnection): SendRaw {
  return (text, values) =>
    new Promise((resolve, reject) => {
      connection.query(text, values, (error, result) => {
        if (error) reject(withoutStatement(error as Error));
        else if (Array.isArray(result)) resolve({ rows: result as StatementResult['rows'], affected: 0 });
        else resolve({ rows: [], affected: (result as { affectedRows?: number }).affectedRows ?? 0 });
      });
    });
}

/** Removes the statement from an error. mysql2 writes the values into the statement, and puts the statement into the error. */
function withoutStatement(error: Error & { sql?: string }): Error {
  delete error.sql;
  return error;
}
