import { BadRequestError } from '../errors.js';
import { messageOf } from '../foreign-text.js';
import type { WebhooksShards } from '../shards/webhooks-shards.js';
import type { WebhooksLogger } from '../webhooks-logger.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { ANYBODY } from './access.js';
import { ApiError, invalidRequest } from './api-error.js';
import { inTime } from './in-time.js';
import type { Asked, RunOn, ServedInstances } from './instances.js';
import { inShard } from './merge-answers.js';
import { mergePages, readShardCursors, writeShardCursors, type ShardCursors, type ShardPage } from './merge-pages.js';
import type { ApiAnswer, ApiParts, ApiRoute, Merging, Reach } from './route.js';

const DEFAULT_LIMIT = 50;

interface Answer<T> {
  readonly shard: string;
  readonly answer: T;
}

interface Failure {
  readonly shard: string;
  readonly error: unknown;
}

/**
 * All shards behind one API. A request of an owner reaches only the shard of the owner. A request of an operator reaches the shard that it
 * names, the shard of the owner that it names, or the shards that {@link ApiRoute.reach} says.
 */
export class ShardedInstances implements ServedInstances {
  /** Shards whose failure is logged already. */
  private readonly failing = new Set<string>();

  constructor(
    /** All shards together: the streams of operators. */
    readonly main: ApiParts,
    private readonly parts: ReadonlyMap<string, ApiParts>,
    private readonly shards: WebhooksShards,
    private readonly logger: Pick<WebhooksLogger, 'error'>,
  ) {}

  async answer(route: ApiRoute, asked: Asked, on: RunOn): Promise<ApiAnswer> {
    const { shard, ...query } = asked.query as Record<string, unknown> & { shard?: string };
    const onShard: RunOn = (parts, changed) => on(parts, { query, ...changed });
    const { owner } = asked.principal;
    if (asked.principal !== ANYBODY && owner !== null) return onShard(this.partsOf(await this.shards.nameFor(owner)));
    const reach = reachOf(route);
    const named = await this.namedBy(route, { ...asked, query }, shard);
    if (named !== undefined) return tagged(named, reach, await onShard(this.partsOf(named)));
    if (reach === 'any') return this.any(onShard);
    if (reach === 'all') return this.all({ ...asked, query }, onShard);
    if (reach === 'pages' && typeof query['sameRowAs'] !== 'string') return this.pages({ ...asked, query }, onShard);
    if (typeof reach === 'object') return this.merged(reach, onShard);
    const holder = await (reach === 'holder'
      ? this.holderOf(asked.id)
      : this.holderNamedBy({ ...query, ...asked.body }));
    return tagged(holder, reach, await onShard(this.partsOf(holder)));
  }

  async close(): Promise<void> {
    await Promise.all([this.main, ...this.parts.values()].map(({ streams }) => streams.close()));
  }

  /** The shard that the request names, or that has the owner whom it names. */
  private async namedBy(
    { method, path }: ApiRoute,
    { query, body }: Asked,
    shard: string | undefined,
  ): Promise<string | undefined> {
    if (shard !== undefined) this.shards.runtimeOf(shard);
    // Rows of an owner may be left in another shard, and a filter may look for them there.
    if (shard !== undefined && method === 'GET') return shard;
    const owner = query['owner'] ?? (path.includes('{') ? undefined : body['owner']);
    if (typeof owner !== 'string') return shard;
    const ofOwner = await this.shards.nameFor(owner);
    if (shard === undefined || shard === ofOwner) return ofOwner;
    throw invalidRequest([{ parameter: 'shard', detail: 'is not the shard of the owner' }]);
  }

  /** The answer of the first shard that answers. */
  private async any(on: RunOn): Promise<ApiAnswer> {
    const tried: Failure[] = [];
    for (const name of this.shards.names) {
      const { answers, failures } = await this.settle([name], (parts) => on(parts));
      if (answers[0]) return answers[0].answer;
      tried.push(...failures);
    }
    throw (tried[0] as Failure).error;
  }

  private async all({ query }: Asked, on: RunOn): Promise<ApiAnswer> {
    const { listenerId } = query;
    return on(typeof listenerId === 'string' ? this.partsOf(await this.holderOf(listenerId)) : this.main);
  }

  private async pages({ query }: Asked, on: RunOn): Promise<ApiAnswer> {
    const { cursor, limit = DEFAULT_LIMIT, ...filter } = query as { cursor?: string; limit?: number };
    const from: ShardCursors = cursor === undefined ? {} : readShardCursors(cursor, this.shards.names);
    const unread = this.shards.names.filter((name) => from[name] !== null);
    const { answers, missing } = await this.ask(unread, (parts) => {
      const position = from[parts.instance];
      return on(parts, { query: { ...filter, limit, ...(typeof position === 'string' ? { cursor: position } : {}) } });
    });
    const pages = answers.map(({ shard, answer }) => pageOf(shard, from[shard] ?? undefined, answer));
    const { items, cursors } = mergePages(pages, limit);
    const isEnd = Object.values(cursors).every((one) => one === null);
    // A missing shard keeps its position. But if only missing shards are left, the list ends, because a reader would never stop asking.
    const next = isEnd ? null : writeShardCursors({ ...from, ...cursors });
    return { body: { items, next, missing }, headers: missingHeader(missing) };
  }

  private async merged({ read, merge, needsAll = false }: Merging, on: RunOn): Promise<ApiAnswer> {
    const { answers, missing } = await this.ask(
      this.shards.names,
      (parts) => on(parts, read ? { run: read } : {}),
      needsAll,
    );
    const body = merge(answers.map(({ shard, answer }) => ({ shard, body: answer.body })));
    return body === undefined ? {} : { body: { ...body, missing }, headers: missingHeader(missing) };
  }

  /** @throws the error of a shard that does not answer, if no other shard has the id */
  private async holderOf(id: string): Promise<string> {
    // Images are numbered, so two shards may have the same id.
    if (id.startsWith('img_')) throw this.shardRequired();
    const { answers, failures } = await this.settle(this.shards.names, ({ runtime }) => has(runtime, id));
    const holder = answers.find(({ answer }) => answer);
    if (holder) return holder.shard;
    if (failures[0]) throw failures[0].error;
    // Every shard gives the same error for an unknown id.
    return this.shards.names[0] as string;
  }

  /** The shard of an object that the body or the query names. The rows of one history are in one shard. */
  private async holderNamedBy({ sameRowAs, listenerId, eventId }: Asked['body']): Promise<string> {
    const id = sameRowAs ?? listenerId ?? eventId;
    if (typeof id === 'string') return this.holderOf(id);
    throw this.shardRequired();
  }

  private shardRequired(): ApiError {
    const names = this.shards.names.join(', ');
    const detail = `This call acts on one shard. Name an owner, or set the parameter \`shard\` to one of ${names}.`;
    return new ApiError('SHARD_REQUIRED', 400, detail, {
      faults: [{ parameter: 'shard', code: 'SHARD_REQUIRED', detail: 'is required' }],
    });
  }
  /**
   * The answers of the shards that answered, and the names of the others.
   *
   * @throws the error of a shard if no shard has answered, or if `needsAll` and one has not
   */
  private async ask<T>(
    names: readonly string[],
    work: (parts: ApiParts) => Promise<T>,
    needsAll = false,
  ): Promise<{ answers: readonly Answer<T>[]; missing: readonly string[] }> {
    const { answers, failures } = await this.settle(names, work);
    const [failure] = failures;
    if (failure && (needsAll || !answers.length)) throw failure.error;
    return { answers, missing: failures.map(({ shard }) => shard) };
  }

  /** @throws BadRequestError of any shard, because the caller caused it */
  private async settle<T>(
    names: readonly string[],
    work: (parts: ApiParts) => Promise<T>,
  ): Promise<{ answers: readonly Answer<T>[]; failures: readonly Failure[] }> {
    const settled = await Promise.all(
      names.map(async (shard): Promise<Answer<T> | Failure> => {
        try {
          const answer = await inTime(work(this.partsOf(shard)));
          this.failing.delete(shard);
          return { shard, answer };
        } catch (error) {
          if (error instanceof BadRequestError) throw error;
          this.report(shard, error);
          return { shard, error };
        }
      }),
    );
    return {
      answers: settled.filter((one): one is Answer<T> => 'answer' in one),
      failures: settled.filter((one): one is Failure => 'error' in one),
    };
  }

  /** Logs once for each outage. */
  private report(shard: string, error: unknown): void {
    if (!this.failing.has(shard)) {
      this.logger.error(`The shard '${shard}' does not answer, so answers of the API lack it: ${messageOf(error)}`);
    }
    this.failing.add(shard);
  }

  private partsOf(name: string): ApiParts {
    return this.parts.get(name) as ApiParts;
  }
}

function reachOf({ path, reach }: ApiRoute): Reach {
  return reach ?? (path.includes('{id}') ? 'holder' : 'any');
}

/** A page in a browser reads this header of every merged answer, without parsing the answer. */
function missingHeader(missing: readonly string[]): Readonly<Record<string, string>> {
  return { 'X-Webhooks-Missing': missing.map(encodeURIComponent).join() };
}

/** Names the shard in an answer that has objects of one shard. */
function tagged(shard: string, reach: Reach, answer: ApiAnswer): ApiAnswer {
  const { body } = answer;
  if (reach === 'any' || reach === 'all' || typeof body !== 'object' || body === null) return answer;
  const { items } = body as { items?: readonly object[] };
  return {
    ...answer,
    body: items ? { ...body, items: items.map((item) => inShard(shard, item)) } : inShard(shard, body),
  };
}

function pageOf(shard: string, from: string | undefined, { body, positions = [] }: ApiAnswer): ShardPage {
  return { ...(body as Pick<ShardPage, 'items' | 'next'>), shard, from, positions };
}

const KINDS: Readonly<Record<string, 'listeners' | 'deliveries' | 'events' | 'tasks'>> = {
  ...{ lst: 'listeners', dlv: 'deliveries', evt: 'events', tsk: 'tasks' },
};

/** Whether an instance has the object with this id. */
async function has(runtime: WebhooksRuntime, id: string): Promise<boolean> {
  const kind = KINDS[id.slice(0, 3)];
  if (!kind) return false;
  try {
    await runtime[kind].get(id);
    return true;
  } catch (error) {
    if (error instanceof BadRequestError) return false;
    throw error;
  }
}
