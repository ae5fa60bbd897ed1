import { setTimeout as pause } from 'node:timers/promises';
import type { DataSource } from 'typeorm';

/** InnoDB shows a copy of its transactions, and makes no new one while the last was read within 100 ms. */
const INNODB_REFRESH_MS = 150;

/**
 * Until the database says that so many transactions of a data source's database wait for a lock. SQLite has writers queue before they
 * begin, and knows of none.
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
