import type { Resolved } from '../option-table.js';
import type { WebhooksShards } from '../shards/webhooks-shards.js';
import type { SystemOverview } from '../system/system-overview.js';
import { WebhooksLogger } from '../webhooks-logger.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import type { API_OPTIONS } from './api-options.js';
import { EventTypes } from './event-types.js';
import { inTime } from './in-time.js';
import { SingleInstance, type ServedInstances } from './instances.js';
import { mergeOverviews } from './merge-answers.js';
import type { ApiParts } from './route.js';
import { Sessions } from './sessions.js';
import { ShardedInstances } from './sharded-instances.js';
import { sourcesOfShard } from './sharded-streams.js';
import { overviewsOf } from './stream-overview.js';
import type { StreamSource } from './stream-source.js';
import { streamSources } from './stream-sources.js';
import { Streams } from './streams.js';

type Options = Resolved<typeof API_OPTIONS>;

/** Names the sessions of a module that serves all shards. No data source can have this name in a token. */
const ALL_SHARDS = '/shards';

/** The parts of a module that serves one data source. */
export function singleInstance(runtime: WebhooksRuntime, options: Options): ServedInstances {
  const { dataSource, sessions } = options;
  const { clock, database } = runtime;
  const kept = sessions && new Sessions({ clock, databasesOf: () => [database] }, sessions, dataSource);
  const names = { instance: dataSource, shards: [] };
  return new SingleInstance(partsOf(runtime, options, { ...names, sessions: kept, sources: streamSources(runtime) }));
}

/** The parts of a module that serves all shards. */
export function shardedInstances(shards: WebhooksShards, options: Options): ServedInstances {
  const { names } = shards;
  const runtimes = names.map((name) => shards.runtimeOf(name)) as [WebhooksRuntime, ...WebhooksRuntime[]];
  const [first] = runtimes;
  const { clock } = first;
  const databases = runtimes.map(({ database }) => database);
  const databasesOf = async (owner: string | null) =>
    owner === null ? databases : [shards.runtimeOf(await shards.nameFor(owner)).database];
  const sessions = options.sessions && new Sessions({ clock, databasesOf }, options.sessions, ALL_SHARDS);
  const parts = names.map((name, n): [string, ApiParts] => {
    const runtime = runtimes[n] as WebhooksRuntime;
    return [
      name,
      partsOf(runtime, options, { ...{ instance: name, shards: names, sessions }, sources: streamSources(runtime) }),
    ];
  });
  const sources = [
    ...names.flatMap((name, n) => sourcesOfShard(name, runtimes[n] as WebhooksRuntime)),
    overviewsOf(clock, () => overviewOf(shards)),
  ];
  const main = partsOf(first, options, { ...{ instance: names.join(', '), shards: names, sessions, sources } });
  return new ShardedInstances(main, new Map(parts), shards, new WebhooksLogger('WebhooksApi'));
}

/** The overview of all shards that answer, for the streams of operators. */
async function overviewOf(shards: WebhooksShards): Promise<object> {
  const answers = await Promise.allSettled(shards.names.map((name) => inTime(shards.get(name).system.overview())));
  const answered = answers.flatMap((answer, n): { shard: string; body: SystemOverview }[] =>
    answer.status === 'fulfilled' ? [{ shard: shards.names[n] as string, body: answer.value }] : [],
  );
  if (!answered.length) throw (answers[0] as PromiseRejectedResult).reason;
  const missing = shards.names.filter((name) => answered.every(({ shard }) => shard !== name));
  return { ...mergeOverviews(answered), missing };
}

function partsOf(
  runtime: WebhooksRuntime,
  { limits, senderAddresses = [] }: Options,
  { sources, ...more }: Pick<ApiParts, 'instance' | 'shards' | 'sessions'> & { sources: readonly StreamSource[] },
): ApiParts {
  const { clock } = runtime;
  const logger = new WebhooksLogger('WebhooksApi');
  const streams = new Streams(sources, { now: () => clock.now(), logger, perPrincipal: limits.streams });
  return { ...more, runtime, streams, senderAddresses, eventTypes: new EventTypes(runtime.catalog) };
}
