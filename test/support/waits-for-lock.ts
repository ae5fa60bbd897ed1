import { setTimeout as pause } from 'node:timers/promises';
import type { DataSource } from 'typeorm';

/** InnoDB shows a copy of its transactions, and does not refresh it if the last read was less than 100 ms ago. */
const INNODB_REFRESH_MS = 150;

/**
 * Waits until the database reports that `count` transactions of the data source's database wait for a lock. On SQLite writers queue before
 * they begin, so it knows of none.
 */
export async function waitInTheDatabase(dataSource: DataSource, count: number): Promise<void> {
  const { type } = dataSource.options;
  if (type === 'better-sqlite3') return;
  const question =
    type === 'postgres'
      ? `select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
      : `select count(*) as n from information_schema.innodb_trx t join information_schema.processlist p
         on p.id = t.trx_mysql_thread_id where p.db = database() and t.trx_state = 'LOCK WAIT'`;
  const deadline = Date.now() + 20_000;
  for (;;) {
    const [row]: { n: unknown }[] = await dataSource.query(question);
    if (Number(row?.n) >= count) return;
    if (Date.now() > deadline) throw new Error(`${String(row?.n)} transactions wait for a lock, not ${count}`);
    await pause(type === 'postgres' ? 5 : INNODB_REFRESH_MS);
  }
}
