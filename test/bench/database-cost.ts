import { readFile } from 'node:fs/promises';
import { createConnection, type Connection, type ConnectionOptions } from 'mysql2/promise';
import pg from 'pg';
import type { FreshDatabase } from '../support/fresh-database.js';

/** What a number of operations cost the database, for each. These numbers do not depend on how busy the machine is. */
export interface DatabaseCost {
  /** Rows inserted, updated and deleted in the webhook tables, without those that the writers of events insert. */
  readonly rowWrites: number;
  /** Bytes of the write-ahead log of PostgreSQL, or of the redo log of MariaDB. */
  readonly logBytes: number;
  /** CPU time of the connections of the measured process, in microseconds. Known if the server runs on this machine. */
  readonly databaseCpuUs: number;
}

/** Reads the counters of a server. Those of the log, and of rows on MariaDB, are of the whole server: nothing else may use it. */
export interface CostMeter {
  /** Call it while the connections are open. */
  begin(): Promise<void>;
  /** Ends the time and the bytes. Call it while the connections are open. */
  end(): Promise<void>;
  /** Call it when the measured process has closed its connections: then its row counters are complete. */
  cost(count: number): Promise<DatabaseCost>;
  close(): Promise<void>;
}

interface Counters {
  readonly cpuUs: ReadonlyMap<string, number>;
  readonly logBytes: number;
}

/** Call it before the measured process connects: other connections do not count. @returns `null` for SQLite, which has no server */
export async function costMeter(options: FreshDatabase['options']): Promise<CostMeter | null> {
  if (options.type === 'postgres') return Meter.of(await PostgresCounters.open(options.url));
  if (options.type === 'mariadb' || options.type === 'mysql') return Meter.of(await MysqlCounters.open(options));
  return null;
}

type MysqlOptions = Extract<FreshDatabase['options'], { type: 'mariadb' | 'mysql' }>;

interface Source {
  counters(): Promise<Counters>;
  rowWrites(): Promise<number>;
  close(): Promise<void>;
}

class Meter implements CostMeter {
  private rowsBefore = 0;
  private before: Counters = { cpuUs: new Map(), logBytes: 0 };
  private after = this.before;

  private constructor(
    private readonly source: Source,
    private readonly others: ReadonlySet<string>,
  ) {}

  static async of(source: Source): Promise<Meter> {
    return new Meter(source, new Set((await source.counters()).cpuUs.keys()));
  }

  async begin(): Promise<void> {
    this.rowsBefore = await this.source.rowWrites();
    this.before = await this.source.counters();
  }

  async end(): Promise<void> {
    this.after = await this.source.counters();
  }

  async cost(count: number): Promise<DatabaseCost> {
    const { before, after } = this;
    const measured = [...after.cpuUs].filter(([id]) => !this.others.has(id));
    const cpuUs = measured.reduce((sum, [id, us]) => sum + us - (before.cpuUs.get(id) ?? 0), 0);
    return {
      rowWrites: ((await this.source.rowWrites()) - this.rowsBefore) / count,
      logBytes: (after.logBytes - before.logBytes) / count,
      databaseCpuUs: cpuUs / count,
    };
  }

  close(): Promise<void> {
    return this.source.close();
  }
}

class PostgresCounters implements Source {
  private constructor(private readonly client: pg.Client) {}

  static async open(url: string | undefined): Promise<PostgresCounters> {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    return new PostgresCounters(client);
  }

  async counters(): Promise<Counters> {
    const { rows } = await this.client.query<{ pid: number }>(
      'select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    );
    const cpuUs = new Map<string, number>();
    for (const { pid } of rows) cpuUs.set(String(pid), await cpuOf(`/proc/${pid}/stat`));
    const { rows: log } = await this.client.query<{ bytes: string }>(
      "select pg_current_wal_lsn() - '0/0'::pg_lsn as bytes",
    );
    return { cpuUs, logBytes: Number(log[0]?.bytes) };
  }

  async rowWrites(): Promise<number> {
    await this.client.query('select pg_stat_clear_snapshot()');
    const { rows } = await this.client.query<{ n: string }>(
      `select sum(n_tup_upd + n_tup_del + case when relname in ('webhook_events', 'webhook_outbox') then 0 else n_tup_ins end) as n
        from pg_stat_user_tables where relname like 'webhook\\_%'`,
    );
    return Number(rows[0]?.n ?? 0);
  }

  close(): Promise<void> {
    return this.client.end();
  }
}

class MysqlCounters implements Source {
  private constructor(
    private readonly connection: Connection,
    private readonly pid: string | undefined,
  ) {}

  static async open(options: MysqlOptions): Promise<MysqlCounters> {
    const { host, port, username: user, password, database } = options;
    const connection = await createConnection({ host, port, user, password, database } as ConnectionOptions);
    const [rows] = await connection.query('select @@pid_file as file');
    const [{ file }] = rows as [{ file: string }];
    const pid = await readFile(file, 'utf8').then(
      (text) => text.trim(),
      () => undefined,
    );
    return new MysqlCounters(connection, pid);
  }

  async counters(): Promise<Counters> {
    const cpuUs = new Map<string, number>();
    if (this.pid !== undefined) {
      const [rows] = await this.connection.query(
        'select tid from information_schema.processlist where db = database() and id <> connection_id()',
      );
      for (const { tid } of rows as { tid: number }[]) {
        cpuUs.set(String(tid), await cpuOf(`/proc/${this.pid}/task/${tid}/stat`));
      }
    }
    return { cpuUs, logBytes: await this.status('Innodb_os_log_written') };
  }

  async rowWrites(): Promise<number> {
    const counts = await Promise.all(['write', 'update', 'delete'].map((what) => this.status(`Handler_${what}`)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  private async status(name: string): Promise<number> {
    const [rows] = await this.connection.query(`show global status like '${name}'`);
    return Number((rows as { Value: string }[])[0]?.Value ?? 0);
  }

  close(): Promise<void> {
    return this.connection.end();
  }
}

/** CPU time of a process or thread, from `/proc`; 0 where there is none. */
async function cpuOf(file: string): Promise<number> {
  const text = await readFile(file, 'latin1').catch(() => '');
  const fields = text.split(') ')[1]?.split(' ') ?? [];
  const ticks = Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  return ticks * MICROSECONDS_PER_TICK;
}

/** Linux counts CPU time in hundredths of a second. */
const MICROSECONDS_PER_TICK = 10_000;
