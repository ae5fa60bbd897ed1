import type { DataSource } from 'typeorm';
import type { WebhooksOptions } from '../../options/webhooks-options.js';
import type { Database } from '../../store/database/database.js';
import { ServerDatabase } from '../../store/database/server-database.js';
import { PostgresChannel } from './postgres-channel.js';
import { RedisChannel } from './redis-channel.js';
import type { WakeUpChannel } from './wake-up-channel.js';

/** @returns `null` if the processes cannot notify each other: MySQL, MariaDB and SQLite without Redis */
export function wakeUpChannel(
  database: Database,
  dataSource: DataSource,
  { redis, url }: Exclude<WebhooksOptions['wakeUp'], undefined | false>,
): WakeUpChannel | null {
  if (redis) return new RedisChannel(database, dataSource, redis);
  return database instanceof ServerDatabase && database.dialect === 'postgres'
    ? new PostgresChannel(database, url)
    : null;
}
