import { WebhooksDashboardModule } from 'nestjs-entity-webhooks/dashboard';
import { startShardedApi, type ShardedApi } from '../shards/sharded-api.js';
import { createSqlite } from '../support/fresh-database.js';
import { buildPages } from './built-pages.js';

export interface ShardedShop extends ShardedApi {
  /** A token of an operator. */
  tokenOf(): Promise<string>;
}

/** A dashboard over two shards. Each has a listener of one owner: `of eu` of `eu-1`, and `of us` of `us-1`. */
export async function startShardedShop(): Promise<ShardedShop> {
  await buildPages();
  const [eu, us] = [await createSqlite(), await createSqlite()];
  const databases = { eu: eu.options, us: us.options };
  const api = await startShardedApi({ databases, imports: [WebhooksDashboardModule.forRoot()] });
  for (const shard of [api.eu, api.us]) {
    const owner = `${shard.name}-1`;
    await shard.listeners.create({ owner, name: `of ${shard.name}`, url: api.receiver.url, events: ['order.*'] });
    await shard.order(owner);
    shard.dispatcher.start();
  }
  return {
    ...api,
    async tokenOf() {
      const { can } = (await api.call('GET', '/me', { as: 'operator' })).body as { can: string[] };
      const body = { kind: 'operator', can: can.filter((one) => one !== 'sessions:create') };
      return (await api.call('POST', '/sessions', { as: 'operator', body })).body.token as string;
    },
    async close() {
      await api.close();
      await eu.drop();
      await us.drop();
    },
  };
}
