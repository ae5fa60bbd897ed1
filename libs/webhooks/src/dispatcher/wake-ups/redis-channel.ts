import type { DataSource } from 'typeorm';
import type { RedisConnection } from '../../options/webhooks-options.js';
import type { Database } from '../../store/database/database.js';
import { tablesKey } from '../../store/database/tables-key.js';
import type { ListeningConnection, ListeningEvents, WakeUpChannel } from './wake-up-channel.js';

/**
 * Publish and subscribe of Redis or Valkey, over two connections: a subscribed connection cannot publish. Redis stores nothing of it, so
 * neither eviction nor `FLUSHALL` matters.
 */
export class RedisChannel implements WakeUpChannel {
  /** PUBLISH takes Redis some microseconds. */
  readonly pauseMs = 2;
  readonly adviceIfSilent =
    'The usual cause is a user of Redis who may not use the channel, or `wakeUp.redis` connects to different servers. Allow the channel, or set `wakeUp: false`.';
  private readonly name: string;
  private publisher: RedisConnection | null = null;

  /** @param connect makes a new connection with each call */
  constructor(
    database: Database,
    dataSource: DataSource,
    private readonly connect: () => RedisConnection,
  ) {
    this.name = `webhooks:${tablesKey(database, dataSource)}`;
  }

  async notify(payload: string): Promise<void> {
    this.publisher ??= this.newConnection();
    await this.publisher.publish(this.name, payload);
  }

  listen({ received, lost }: ListeningEvents): ListeningConnection {
    const subscriber = this.newConnection();
    subscriber.on('error', lost);
    subscriber.on('close', () => lost(new Error('the connection to Redis was closed')));
    subscriber.on('message', (_channel, message) => received(message));
    return {
      subscribe: () => subscriber.subscribe(this.name),
      check: () => subscriber.ping(),
      close: async () => subscriber.disconnect(),
    };
  }

  close(): void {
    this.publisher?.disconnect();
    this.publisher = null;
  }

  private newConnection(): RedisConnection {
    const connection = this.connect();
    // Without a listener, ioredis prints each error of the connection. A failing `publish` or `subscribe` reports the same trouble once.
    connection.on('error', () => undefined);
    return connection;
  }
}
