import { WebhooksApiModule, type WebhooksApiOptions } from 'nestjs-entity-webhooks/api';
import { accessOf, call, SESSION_KEY, type Answer, type Call } from '../api/api-app.js';
import { startShardedApp, type ShardedApp, type ShardedAppOptions } from './sharded-app.js';

export interface ShardedApi extends ShardedApp {
  origin: string;
  call(method: string, path: string, options?: Call): Promise<Answer>;
}

const MANY = 1_000_000;
const LIMITS = { readsPerMinute: MANY, writesPerMinute: MANY, previewsPerMinute: MANY, urlChecksPerMinute: MANY };

/** An application with two shards behind one API. */
export async function startShardedApi(
  options: ShardedAppOptions & { api?: Partial<WebhooksApiOptions> },
): Promise<ShardedApi> {
  const api = WebhooksApiModule.forRoot({
    ...{ shards: true, access: accessOf, sessions: { keys: [SESSION_KEY] }, limits: LIMITS },
    ...options.api,
  });
  const app = await startShardedApp({ ...options, imports: [api, ...(options.imports ?? [])] });
  const origin = (await app.app.getUrl()).replace('localhost', '127.0.0.1');
  return { ...app, origin, call: (method, path, given) => call(origin, method, path, given) };
}
