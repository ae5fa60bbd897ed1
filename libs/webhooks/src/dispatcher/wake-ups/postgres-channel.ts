import { setTimeout as pause } from 'node:timers/promises';
import sql from 'sql-template-tag';
import { tupleHash } from '../../hash.js';
import type { ServerDatabase } from '../../store/database/server-database.js';
import { SECOND } from '../../time.js';
import type { ListeningConnection, ListeningEvents, WakeUpChannel } from './wake-up-channel.js';

/**
 * The parts of `pg` that this file uses. TypeORM has loaded the driver. This module never imports `pg`.
 */
interface PgDriver {
  readonly postgres: { Client: new (options: object) => PgClient };
  readonly master: { readonly options: { readonly password?: unknown; readonly connectionTimeoutMillis?: number } };
  readonly schema: string | undefined;
}

interface PgClient {
  /** The connection of the client. This property is undocumented, and may be missing. */
  readonly connection?: { readonly stream?: { destroy(): void } };
  connect(): Promise<unknown>;
  query(text: string): Promise<unknown>;
  end(): Promise<void>;
  on(event: 'notification', notified: (message: { payload?: string }) => void): void;
  on(event: 'error', failed: (error: Error) => void): void;
  on(event: 'end', ended: () => void): void;
}

const CONNECTED_WITHIN_MS = 10 * SECOND;
/** If the server does not close the connection within this time, the process stops waiting for it. */
const ENDED_WITHIN_MS = SECOND;

/**
 * NOTIFY and LISTEN of PostgreSQL.
 *
 * A process sends a notification after the commit, through the module's own pool. With a NOTIFY inside the user's transaction, all
 * commits of the server would wait for one lock (13,500 transactions/s became 4,600). A separate connection listens.
 */
export class PostgresChannel implements WakeUpChannel {
  /** Each NOTIFY is a transaction, and all transactions with a NOTIFY commit one after the other. */
  readonly pauseMs = 20;
  readonly adviceIfSilent =
    'The usual cause is a pooler in transaction mode. Set `wakeUp.url` to a direct connection to the server, or set `wakeUp: false`.';
  private readonly name: string;
  private readonly driver: PgDriver;

  /** @param url URL of a direct connection for LISTEN, if the data source connects through a pooler */
  constructor(
    private readonly database: ServerDatabase,
    private readonly url: string | undefined,
  ) {
    this.driver = database.dataSource.driver as unknown as PgDriver;
    const { schema, tableName } = database.tables.events.metadata;
    // The name needs no database name, because each database of a PostgreSQL server has separate channels.
    this.name = `webhooks_${tupleHash(schema ?? this.driver.schema ?? '', tableName).toString('hex')}`;
  }

  async notify(payload: string): Promise<void> {
    const { name } = this;
    await this.database.single(function* () {
      yield sql`select pg_notify(${name}, ${payload})`;
    }, 'work');
  }

  listen({ received, lost }: ListeningEvents): ListeningConnection {
    const client = this.newClient();
    // Without this listener, an error of the connection would end the process.
    client.on('error', lost);
    client.on('end', () => lost(new Error('the connection was closed')));
    client.on('notification', ({ payload = '' }) => received(payload));
    return {
      subscribe: async () => {
        await client.connect();
        await client.query(`LISTEN ${this.name}`);
      },
      check: () => client.query('SELECT 1'),
      close: () => closed(client),
    };
  }

  /** The module's pool sends the notifications, and is closed with the database. */
  close(): void {}

  private newClient(): PgClient {
    const { postgres, master } = this.driver;
    // The pool makes its password non-enumerable, so a spread does not copy it.
    const {
      options,
      options: { password },
    } = master;
    return new postgres.Client({
      connectionTimeoutMillis: CONNECTED_WITHIN_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: CONNECTED_WITHIN_MS,
      ...options,
      // With a pipeline, `end()` would wait for the answer to a statement that is never answered.
      pipeline: false,
      ...(this.url === undefined ? { password } : { connectionString: this.url }),
    });
  }
}

async function closed(client: PgClient): Promise<void> {
  const isEnded = new AbortController();
  const ended = client.end().catch(() => undefined);
  const late = pause(ENDED_WITHIN_MS, undefined, { signal: isEnded.signal }).catch(() => undefined);
  await Promise.race([ended, late]);
  isEnded.abort();
  // A server that is gone never closes its end of the connection. The open socket would keep the process alive.
  client.connection?.stream?.destroy();
}
