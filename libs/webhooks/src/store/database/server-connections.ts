import type { DataSource, QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import { DatabaseTimeoutError, isFaultOfData, isRetryable } from './database-errors.js';
import { type StatementLimit } from './database.js';
import { pause, SECOND } from '../../time.js';
import type { StatementResult } from './script.js';
import { endAfterSilence } from './silence.js';

/**
 * How long the server may say nothing while a statement runs. A server that is gone without a word answers nothing for ever, and behind
 * a proxy or a middle box TCP does not notice it either. Limits of the server are no help then, and PgBouncer loses a `SET`.
 */
const SILENCE_MS: Readonly<Record<StatementLimit, number>> = {
  // What the dispatcher asks takes some ten ms. A busy disk makes it wait for seconds, and after 10 s it has to be back.
  work: 6 * SECOND,
  // Chores and what applications ask: they may read a large table, and the dispatcher does not wait for them.
  page: 30 * SECOND,
};
/** How long one waits for a connection: a new one, or one of the pool that others use. */
const CONNECTED_WITHIN_MS = 10 * SECOND;
/** How long the pool has to say goodbye to the server. */
const CLOSED_WITHIN_MS = SECOND / 2;

export interface Statement {
  readonly text: string;
  readonly values?: unknown[];
}

/** Sends statements in one go, and waits for all of them, whatever becomes of one. @throws what the first that failed does */
type SendAhead = (statements: readonly Statement[]) => Promise<StatementResult[]>;

export interface Connection {
  readonly send: (text: string, values?: unknown[]) => Promise<StatementResult>;
  /** `null` where the driver sends a statement only when the last one is answered. */
  readonly sendAhead: SendAhead | null;
  /** A statement failed in a way after which the connection is not used again. */
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

/** What is used of `pg`'s client. `pipeline` is there from 8.23; the socket, which is not documented, may be missing. */
interface PgClient {
  readonly pipeline?: unknown;
  readonly connection?: { readonly stream?: Socket };
  query(text: string, values?: unknown[]): Promise<{ rows?: StatementResult['rows']; rowCount?: number | null }>;
}

/** What is used of `mysql2`'s pooled connection. */
interface MysqlConnection {
  readonly stream?: Socket;
  destroy(): void;
}

type DriverConnection = (PgClient | MysqlConnection) & { once(event: 'end', ended: () => void): unknown };

interface Pool {
  on(event: 'connect' | 'connection', opened: (connection: DriverConnection) => void): unknown;
}

/** A connection that is taken out of the pool. */
interface Taken {
  readonly runner: QueryRunner;
  readonly connection: DriverConnection;
  /** Why it is closed instead of given back. */
  fault: unknown;
}

/**
 * The module's own pool: connections that are closed when the server does not answer, and after an error that is neither of the values nor
 * of other transactions. What one connection suffers from, those that are as old may suffer from too: a server that vanished, or that
 * was read-only as they began. They are replaced before they are used again.
 */
export class ServerConnections {
  private readonly openedAt = new WeakMap<object, number>();
  private readonly prepared = new WeakSet<object>();
  private readonly open = new Set<DriverConnection>();
  /** Connections that were opened before are not used any more. */
  private trustedSince = 0;

  constructor(
    private readonly dataSource: DataSource,
    private readonly dialect: DialectName,
  ) {
    const { master, pool } = dataSource.driver as unknown as { master?: Pool; pool?: Pool };
    const opened = (connection: DriverConnection) => {
      this.openedAt.set(connection, performance.now());
      this.remember(connection);
    };
    master?.on('connect', opened);
    pool?.on('connection', opened);
  }

  /** Lends a connection. @throws what the work does, or `DATABASE_TIMEOUT` */
  async use<T>(limit: StatementLimit, work: (connection: Connection) => Promise<T>): Promise<T> {
    const taken = await this.take();
    try {
      return await work(this.connectionOf(taken, SILENCE_MS[limit]));
    } finally {
      await this.giveBack(taken);
    }
  }

  /** Closes the pool, whatever the server does. */
  async close(): Promise<void> {
    const closed = this.dataSource.destroy().catch(() => undefined);
    await Promise.race([closed, pause(CLOSED_WITHIN_MS)]);
    for (const connection of this.open) this.destroy(connection, new Error('The pool is closed'));
    await Promise.race([closed, pause(CLOSED_WITHIN_MS)]);
  }

  private async take(): Promise<Taken> {
    for (;;) {
      const runner = this.dataSource.createQueryRunner('master');
      const connection = await connected(runner);
      this.remember(connection);
      const taken: Taken = { runner, connection, fault: undefined };
      if ((this.openedAt.get(connection) ?? 0) >= this.trustedSince) {
        if (this.dialect === 'mysql') await this.prepareMysql(taken);
        return taken;
      }
      taken.fault = new Error('The connection is as old as one that failed');
      await this.dispose(taken);
    }
  }

  /** Once for each session: where the server says `autocommit = 0`, a poll would see the same moment for ever. */
  private async prepareMysql(taken: Taken): Promise<void> {
    if (this.prepared.has(taken.connection)) return;
    try {
      await this.connectionOf(taken, SILENCE_MS.work).send('SET autocommit = 1');
      this.prepared.add(taken.connection);
    } catch (error) {
      await this.giveBack(taken);
      throw error;
    }
  }

  private async giveBack(taken: Taken): Promise<void> {
    if (taken.fault === undefined) {
      await taken.runner.release();
      return;
    }
    this.trustedSince = performance.now();
    await this.dispose(taken);
  }

  private async dispose({ runner, connection, fault }: Taken): Promise<void> {
    this.destroy(connection, fault);
    // Told of an error, TypeORM's runner has the pool of `pg` forget the connection; that of `mysql2` has done so.
    const { releasePostgresConnection } = runner as { releasePostgresConnection?: (error: unknown) => Promise<void> };
    await (releasePostgresConnection ? releasePostgresConnection.call(runner, fault) : runner.release());
  }

  /** Closes the socket, which ends every statement that waits for an answer: a goodbye would wait for one as well. */
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
   * On PostgreSQL the client itself, and not through the query runner: that one hands a statement over some turns later, and what is
   * to go in one go has to be handed over at once.
   */
  private connectionOf(taken: Taken, limitMs: number): Connection {
    const { runner, connection } = taken;
    const ask = this.dialect === 'postgres' ? askPostgres(connection as PgClient) : askMysql(runner);
    const canPipeline = (connection as PgClient).pipeline === true;
    return {
      send: (text, values) => this.answered(taken, limitMs, () => ask(text, values)),
      sendAhead: canPipeline
        ? (statements) =>
            this.answered(taken, limitMs, (heard) => sendTogether(connection as PgClient, ask, statements, heard))
        : null,
      get isBroken() {
        return taken.fault !== undefined;
      },
    };
  }

  /** @param run is given what to call whenever the server has said something */
  private async answered<T>(taken: Taken, limitMs: number, run: (heard: () => void) => Promise<T>): Promise<T> {
    let expire: (error: Error) => void = () => undefined;
    const silent = new Promise<never>((_, reject) => (expire = reject));
    const { heard, stop } = endAfterSilence(limitMs, () => {
      const error = new DatabaseTimeoutError('answer a statement', limitMs);
      taken.fault = error;
      expire(error);
      this.destroy(taken.connection, error);
    });
    try {
      return await Promise.race([run(heard), silent]);
    } catch (error) {
      if (!isRetryable(error) && !isFaultOfData(error)) taken.fault ??= error;
      throw error;
    } finally {
      stop();
    }
  }
}

/** @throws DatabaseTimeoutError; a connection that comes later is given back to the pool */
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

/** One write to the socket instead of one for each statement: each wakes the server up, which on a small machine costs both of them. */
async function sendTogether(
  { connection }: PgClient,
  ask: Connection['send'],
  statements: readonly Statement[],
  heard: () => void,
): Promise<StatementResult[]> {
  const stream = connection?.stream;
  stream?.cork?.();
  let running: Promise<StatementResult>[];
  try {
    running = statements.map(({ text, values }) => ask(text, values));
  } finally {
    stream?.uncork?.();
  }
  for (const one of running) one.then(heard, heard);
  const results: StatementResult[] = [];
  const failed: unknown[] = [];
  // The connection is not free before they are all over.
  for (const one of await Promise.allSettled(running)) {
    if (one.status === 'fulfilled') results.push(one.value);
    else failed.push(one.reason);
  }
  if (failed.length) throw failed[0];
  return results;
}
