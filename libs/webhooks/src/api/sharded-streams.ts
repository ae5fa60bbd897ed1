import { createHash } from 'node:crypto';
import sql from 'sql-template-tag';
import { isUnavailable } from '../store/database/database-errors.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { inTime } from './in-time.js';
import type { StreamSource } from './stream-source.js';
import { rowSources } from './stream-sources.js';

const KEY_LETTERS = 6;
const LETTERS = 26;

/**
 * The sources of one shard, for the streams of operators over all shards.
 *
 * While the database of the shard is away, its positions do not move. So the other shards are read, and the poll after the outage reads what
 * was missed.
 */
export function sourcesOfShard(shard: string, runtime: WebhooksRuntime): readonly StreamSource[] {
  const suffix = lettersOf(shard);
  return rowSources(runtime).map((source) => {
    let known = 0;
    let isAway = false;
    return {
      ...source,
      key: source.key + suffix,
      async last() {
        try {
          await inTime(answers(runtime));
          known = await inTime(source.last());
          isAway = false;
        } catch (error) {
          if (!isUnavailable(error)) throw error;
          isAway = true;
        }
        return known;
      },
      async read(scopes, range) {
        // Each poll reads the last positions again.
        if (isAway) return [];
        const changes = await source.read(scopes, range);
        return (
          changes && changes.map((change) => ({ ...change, dataFor: (kind) => ({ shard, ...change.dataFor(kind) }) }))
        );
      },
    };
  });
}

/** The position of some sources is a time, which they know without the database. */
async function answers({ database }: WebhooksRuntime): Promise<void> {
  await database.single(function* () {
    yield sql`select 1`;
  });
}

/** Keys of sources consist of letters. They must not depend on the order of the shards. */
function lettersOf(shard: string): string {
  const hash = createHash('sha256').update(shard).digest().subarray(0, KEY_LETTERS);
  return [...hash].map((byte) => String.fromCharCode('a'.charCodeAt(0) + (byte % LETTERS))).join('');
}
