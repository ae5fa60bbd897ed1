import type { DataSource, QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import { DatabaseTimeoutError, isFaultOfData, isRetryable } from './database-errors.js';
import { type StatementLimit } from './database.js';
import { pause, SECOND } from '../../time.js';
import type { StatementResult } from './script.js';
import { endAfterSilence } from './silence.js';

/**
 * How long the server may be silent while a statement runs. A server that disappeared never answers, and behind a proxy or a middlebox TCP
 * does not detect it. Limits of the server do not help then, and PgBouncer loses a `SET`.
 */
const SILENCE_MS: Readonly<Record<StatementLimit, number>> = {
  // Statements of the dispatcher take about 10 ms. A busy disk delays them by seconds, and after 10 s the dispatcher must work again.
  work: 6 * SECOND,
  // Chores and calls of the application may read a large table, and the dispatcher does not wait for them.
  page: 30 * SECOND,
};
/** The limit for getting a connection: a new one, or one from the pool. */
const CONNECTED_WITHIN_MS = 10 * SECOND;
/** The limit for the pool to close its connections in an orderly way. */
const CLOSED_WITHIN_MS = SECOND / 2;

export interface Statement {
  readonly text: string;
  readonly values?: unknown[];
}

/** Sends statements in one write, and waits for all of them, even if some fail. @throws the error of the first that failed */
type SendAhead = (statements: readonly Statement[]) => Promise<StatementResult[]>;

export interface Connection {
  readonly send: (text: string, values?: unknown[]) => Promise<StatementResult>;
  /** `null` if the driver sends a statement only after the answer to the previous one. */
  readonly sendAhead: SendAhead | null;
  /** Whether a statement failed in such a way that the connection must not be used again. */
  readonly isBroken: boolean;
}

export interface AheadConnection extends Connection {
  readonly sendAhead: SendAhead;
}

export function sendsAhead(connection: Connection): connection is AheadConnection {
  return connection.sendAhead !== null;
}

interface Socket {
  destroy(error?: Error): void;
  cork?(): void;
  uncork?(): void;
}

/** The part of `pg`'s client that is used here. `pipeline` exists from 8.23; the socket is undocumented and may be missing. */
interface PgClient {
  readonly pipeline?: unknown;
  readonly connection?: { readonly stream?: Socket };
  query(text: string, values?: unknown[]): Promise<{ rows?: StatementResult['rows']; rowCount?: number | null }>;
}

/** The part of `mysql2`'s pooled connection that is used here. */
interface MysqlConnection {
  readonly stream?: Socket;
  destroy(): void;
}

type DriverConnection = (PgClient | MysqlConnection) & {
  once(event: 'end', ended: () => void): unknown;
  on(event: 'error', failed: () => void): unknown;
};

interface Pool {
  on(event: 'connect' | 'connection', opened: (connection: DriverConnection) => void): unknown;
}

/** A connection that is checked out of the pool. */
interface BorrowedConnection {
  readonly runner: QueryRunner;
  readonly connection: DriverConnection;
  /** Why the connection must be closed and not returned to the pool. */
  fault: unknown;
}

/**
 * The module's own pool. It closes a connection if the server does not answer, and after every error except those that the values or
 * other transactions caused. Connections that are as old as the failed one may have the same problem: the server vanished, or was read-only
 * when they were opened. They are replaced before they are used again.
 */
export class ServerConnections {
  private readonly openedAt = new WeakMap<object, number>();
  private readonly prepared = new WeakSet<object>();
  private readonly open = new Set<DriverConnection>();
  /** Connections that were opened before this time are replaced. */
  private trustedSince = 0;

  constructor(
    private readonly dataSource: DataSource,
    private readonly dialect: DialectName,
  ) {
    const { master, pool } = dataSource.driver as unknown as { master?: Pool; pool?: Pool };
    const opened = (connection: DriverConnection) => {
      this.openedAt.set(connection, performance.now());
      // Between `pg`'s pool and TypeORM's query runner nobody listens: if the server ends a session as soon as it is open, the error would end
      // the process. The statement that meets the closed session reports it.
      connection.on('error', () => undefined);
      this.remember(connection);
    };
    master?.on('connect', opened);
    pool?.on('connection', opened);
  }

  /** Runs work with a connection. @throws the error of the work, or `DATABASE_TIMEOUT` */
  async use<T>(limit: StatementLimit, work: (connection: Connection) => Promise<T>): Promise<T> {
    const taken = await this.take();
    try {
      return await work(this.connectionOf(taken, SILENCE_MS[limit]));
    } finally {
      await this.giveBack(taken);
    }
  }

  /** Closes the pool, even if the server does not answer. */
  async close(): Promise<void> {
    const closed = this.dataSource.destroy().catch(() => undefined);
    await Promise.race([closed, pause(CLOSED_WITHIN_MS)]);
    for (const connection of this.open) this.destroy(connection, new Error('The pool is closed'));
    await Promise.race([closed, pause(CLOSED_WITHIN_MS)]);
  }

  private async take(): Promise<BorrowedConnection> {
    for (;;) {
      const runner = this.dataSource.createQueryRunner('master');
      const connection = await connected(runner);
      this.remember(connection);
      const taken: BorrowedConnection = { runner, connection, fault: undefined };
      if ((this.openedAt.get(connection) ?? 0) >= this.trustedSince) {
        if (this.dialect === 'mysql') await this.prepareMysql(taken);
        return taken;
      }
      taken.fault = new Error('The connection is as old as a connection that failed');
      await this.dispose(taken);
    }
  }

  /**
   * Runs once per session. With the server setting `autocommit = 0`, polls would read the same snapshot again and again. With
   * `sql_safe_updates`, the server refuses updates by an index that the statement does not name.
   */
  private async prepareMysql(taken: BorrowedConnection): Promise<void> {
    if (this.prepared.has(taken.connection)) return;
    try {
      await this.connectionOf(taken, SILENCE_MS.work).send('SET autocommit = 1, sql_safe_updates = 0');
      this.prepared.add(taken.connection);
    } catch (error) {
      await this.giveBack(taken);
      throw error;
    }
  }

  private async giveBack(taken: BorrowedConnection): Promise<void> {
    if (taken.fault === undefined) {
      await taken.runner.release();
      return;
    }
    this.trustedSince = performance.now();
    await this.dispose(taken);
  }

  private async dispose({ runner, connection, fault }: BorrowedConnection): Promise<void> {
    this.destroy(connection, fault);
    // With an error, TypeORM's runner makes `pg`'s pool remove the connection. `mysql2`'s pool has already removed it.
    const { releasePostgresConnection } = runner as { releasePostgresConnection?: (error: unknown) => Promise<void> };
    await (releasePostgresConnection ? releasePostgresConnection.call(runner, fault) : runner.release());
  }

  /** Closes the socket, which ends every statement that waits for an answer. An orderly close would also wait for an answer. */
  private destroy(connection: DriverConnection, fault: unknown): void {
    this.open.delete(connection);
    const reason = fault instanceof Error ? fault : new Error(String(fault));
    if ('destroy' in connection) {
      connection.destroy();
      connection.stream?.destroy(reason);
    } else (connection as PgClient).connection?.stream?.destroy();
  }

  private remember(connection: DriverConnection): void {
    if (this.open.has(connection)) return;
    this.open.add(connection);
    connection.once('end', () => this.open.delete(connection));
  }

  /**
   * On PostgreSQL it calls the client directly. TypeORM's query runner passes a statement on some event loop turns later, and statements
   * that are pipelined must be passed in the same turn.
   */
  private connectionOf(taken: BorrowedConnection, limitMs: number): Connection {
    const { runner, connection } = taken;
    const ask = this.dialect === 'postgres' ? askPostgres(connection as PgClient) : askMysql(runner);
    const canPipeline = (connection as PgClient).pipeline === true;
    return {
      send: (text, values) => this.answered(taken, limitMs, () => ask(text, values)),
      sendAhead: canPipeline
        ? (statements) =>
            this.answered(taken, limitMs, (onAnswer) => sendTogether(connection as PgClient, ask, statements, onAnswer))
        : null,
      get isBroken() {
        return taken.fault !== undefined;
      },
    };
  }

  /** @param run gets a callback, and calls it after each answer of the server */
  private async answered<T>(
    taken: BorrowedConnection,
    limitMs: number,
    run: (onAnswer: () => void) => Promise<T>,
  ): Promise<T> {
    let expire: (error: Error) => void = () => undefined;
    const silent = new Promise<never>((_, reject) => (expire = reject));
    const { restart, stop } = endAfterSilence(limitMs, () => {
      const error = new DatabaseTimeoutError('answer a statement', limitMs);
      taken.fault = error;
      expire(error);
      this.destroy(taken.connection, error);
    });
    try {
      return await Promise.race([run(restart), silent]);
    } catch (error) {
      if (!isRetryable(error) && !isFaultOfData(error)) taken.fault ??= error;
      throw error;
    } finally {
      stop();
    }
  }
}

/** @throws DatabaseTimeoutError if there is no connection in time. A connection that is ready later returns to the pool. */
async function connected(runner: QueryRunner): Promise<DriverConnection> {
  const connecting = runner.connect() as Promise<DriverConnection>;
  let expire: (error: Error) => void = () => undefined;
  const late = new Promise<never>((_, reject) => (expire = reject));
  const { stop } = endAfterSilence(CONNECTED_WITHIN_MS, () => {
    connecting.then(
      () => runner.release(),
      () => undefined,
    );
    expire(new DatabaseTimeoutError('give a connection', CONNECTED_WITHIN_MS));
  });
  try {
    return await Promise.race([connecting, late]);
  } finally {
    stop();
  }
}

function askPostgres(client: PgClient): Connection['send'] {
  return async (text, values) => {
    const { rows, rowCount } = await client.query(text, values);
    return { rows: rows ?? [], affected: rowCount ?? 0 };
  };
}

function askMysql(runner: QueryRunner): Connection['send'] {
  return async (text, values) => {
    const { records, affected } = await runner.query(text, values, true);
    return { rows: (records ?? []) as StatementResult['rows'], affected: affected ?? 0 };
  };
}

/** One write to the socket instead of one per statement: each write wakes the server, which on a small machine costs both sides time. */
async function sendTogether(
  { connection }: PgClient,
  ask: Connection['send'],
  statements: readonly Statement[],
  onAnswer: () => void,
): Promise<StatementResult[]> {
  const stream = connection?.stream;
  stream?.cork?.();
  let running: Promise<StatementResult>[];
  try {
    running = statements.map(({ text, values }) => ask(text, values));
  } finally {
    stream?.uncork?.();
  }
  for (const one of running) one.then(onAnswer, onAnswer);
  const results: StatementResult[] = [];
  const failed: unknown[] = [];
  // The connection is free only after all of them have ended.
  for (const one of await Promise.allSettled(running)) {
    if (one.status === 'fulfilled') results.push(one.value);
    else failed.push(one.reason);
  }
  if (failed.length) throw failed[0];
  return results;
}
