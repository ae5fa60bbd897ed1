import { TLSSocket } from 'node:tls';
import type { DataSource, QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import { DatabaseTimeoutError, isFaultOfData, isRetryable } from './database-errors.js';
import { type StatementLimit } from './database.js';
import { PageSlots } from './page-slots.js';
import { pause, SECOND } from '../../time.js';
import type { StatementResult } from './script.js';
import { endAfterSilence, within } from './silence.js';

/**
 * How long the server may be silent while a statement runs. A server that disappeared never answers. Behind a proxy or a middlebox, TCP
 * does not detect that the server disappeared. Limits that the server enforces do not help in this case, and PgBouncer loses a `SET`.
 */
export const SILENCE_MS: Readonly<Record<StatementLimit, number>> = {
  // Statements of the dispatcher take about 10 ms. A busy disk may delay these statements by seconds. If the server does not answer, the
  // dispatcher must work again within 10 s.
  work: 6 * SECOND,
  // Chores and calls of the application may read a large table, and the dispatcher does not wait for this work.
  page: 30 * SECOND,
};
/**
 * How long a transaction may wait for its next statement. After this time the server ends the transaction. This process sends the next
 * statement at once, except if the process is suspended or its event loop is blocked.
 */
export const SUSPENDED_MS = 5 * SECOND;
/** The limit for getting a connection: a new connection, or a connection from the pool. */
const CONNECTED_WITHIN_MS = 10 * SECOND;
const GIVE_A_CONNECTION = 'give a connection';
/** How long the pool may take to close its connections in an orderly way. */
const CLOSED_WITHIN_MS = SECOND / 2;

const PREPARE_MYSQL = `SET autocommit = 1, sql_safe_updates = 0 /*M!100300 , idle_transaction_timeout = ${SUSPENDED_MS / SECOND} */`;

export interface Statement {
  readonly text: string;
  readonly values?: unknown[];
}

/** Sends statements in one write, and waits for all statements, even if some fail. @throws the error of the first statement that failed */
type SendAhead = (statements: readonly Statement[]) => Promise<StatementResult[]>;

export interface Connection {
  readonly send: (text: string, values?: unknown[]) => Promise<StatementResult>;
  /** `null` if the driver sends a statement only after the answer to the previous statement. */
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
  resetAndDestroy?(): void;
  cork?(): void;
  uncork?(): void;
}

/** The part of `pg`'s client that this file uses. `pipeline` exists from 8.23. The socket is undocumented and may be missing. */
interface PgClient {
  readonly pipeline?: unknown;
  readonly connection?: { readonly stream?: Socket };
  query(text: string, values?: unknown[]): Promise<{ rows?: StatementResult['rows']; rowCount?: number | null }>;
}

/** The part of `mysql2`'s pooled connection that this file uses. */
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
 * The module's own pool. The pool closes a connection if the server does not answer. The pool also closes a connection after every error,
 * except errors that the values or other transactions caused. Other connections that were open at that time may have the same problem: the
 * server vanished, or the server was read-only when they were opened. These connections are replaced before they are used again.
 */
export class ServerConnections {
  private readonly openedAt = new WeakMap<object, number>();
  private readonly prepared = new WeakSet<object>();
  private readonly open = new Set<DriverConnection>();
  /** Connections that were opened before this time are replaced. */
  private trustedSince = 0;
  /**
   * Limits the connections for calls of the application, so that the dispatcher always has one connection. For example, a transaction of
   * the application may have locked a listener. A call for this listener waits until that transaction ends.
   */
  private readonly pages: PageSlots;

  constructor(
    private readonly dataSource: DataSource,
    private readonly dialect: DialectName,
    poolSize: number,
  ) {
    this.pages = new PageSlots(Math.max(1, poolSize - 1));
    const { master, pool } = dataSource.driver as unknown as { master?: Pool; pool?: Pool };
    const opened = (connection: DriverConnection) => {
      this.openedAt.set(connection, performance.now());
      // Between `pg`'s pool and TypeORM's query runner, a connection has no listener for errors. If the server ends a session right after
      // the session was opened, the error would end the process. The next statement on the closed session reports the error.
      connection.on('error', () => undefined);
      this.remember(connection);
    };
    master?.on('connect', opened);
    pool?.on('connection', opened);
  }

  /** Runs work with a connection. @throws the error of the work, or `DATABASE_TIMEOUT` */
  async use<T>(limit: StatementLimit, work: (connection: Connection) => Promise<T>): Promise<T> {
    if (limit === 'work') return this.useNow(limit, work);
    const { pages } = this;
    await within(CONNECTED_WITHIN_MS, GIVE_A_CONNECTION, pages.take(), () => pages.give());
    try {
      return await this.useNow(limit, work);
    } finally {
      pages.give();
    }
  }

  private async useNow<T>(limit: StatementLimit, work: (connection: Connection) => Promise<T>): Promise<T> {
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
   * Prepares a session of MySQL or MariaDB. Runs once per session. With the server setting `autocommit = 0`, each poll would read the same
   * old snapshot. With `sql_safe_updates`, the server refuses updates by an index that the statement does not name.
   * `idle_transaction_timeout` exists only on MariaDB. It is set in a comment that MariaDB runs and MySQL ignores.
   */
  private async prepareMysql(taken: BorrowedConnection): Promise<void> {
    if (this.prepared.has(taken.connection)) return;
    try {
      await this.connectionOf(taken, SILENCE_MS.work).send(PREPARE_MYSQL);
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
    // If TypeORM's runner gets an error, the runner makes `pg`'s pool remove the connection. `mysql2`'s pool has already removed the
    // connection.
    const { releasePostgresConnection } = runner as { releasePostgresConnection?: (error: unknown) => Promise<void> };
    await (releasePostgresConnection ? releasePostgresConnection.call(runner, fault) : runner.release());
  }

  /** Closes the socket. The closed socket ends every statement that waits for an answer. An orderly close would also wait for an answer. */
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
   * On PostgreSQL, statements are sent directly by the client. TypeORM's query runner passes on a statement some turns of the event loop
   * later. But pipelined statements must be passed on in the same turn.
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

  /** @param run gets a callback, and calls this callback after each answer of the server */
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
      reset(taken.connection, error);
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

/**
 * Makes the kernel forget a statement that had no answer. After an ordinary close, the kernel continues to repeat the packets of the
 * statement, for about 100 s on Linux. If the network works again in this time, the server would run the statement after all: for example, a
 * claim for nobody, which holds up its deliveries until the lease expires. Node.js can reset plain TCP only.
 */
function reset(connection: DriverConnection, reason: Error): void {
  const stream = 'stream' in connection ? connection.stream : (connection as PgClient).connection?.stream;
  if (!stream?.resetAndDestroy || stream instanceof TLSSocket) return;
  // `resetAndDestroy()` calls `destroy()` without an error, and the driver ends the statement only with an error.
  const destroy = stream.destroy.bind(stream);
  stream.destroy = () => destroy(reason);
  stream.resetAndDestroy();
}

/** @throws DatabaseTimeoutError if no connection is ready in time. A connection that is ready later returns to the pool. */
function connected(runner: QueryRunner): Promise<DriverConnection> {
  const connecting = runner.connect() as Promise<DriverConnection>;
  return within(CONNECTED_WITHIN_MS, GIVE_A_CONNECTION, connecting, () => runner.release());
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

/**
 * Sends all statements in one write to the socket, and not in one write for each statement. Each write wakes the server. On a small
 * machine, each additional write costs time in this process and in the server.
 */
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
  // Wait for all statements, because the connection is free only after all of them have ended.
  for (const one of await Promise.allSettled(running)) {
    if (one.status === 'fulfilled') results.push(one.value);
    else failed.push(one.reason);
  }
  if (failed.length) throw failed[0];
  return results;
}
