import { readChangedListeners, type ChangedListenerRow } from '../store/listeners/changed-listeners.js';
import { HOUR, SECOND } from '../time.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import type { StreamSource } from './stream-source.js';

/**
 * If more listeners change at once, the cause is bulk work, such as new keys for all secrets. Readers get `reset` instead of each change.
 */
const MOST_ROWS = 1_000;

/** Listeners that were created, changed, enabled, disabled or removed. A position is a time. */
export function listenerChanges({ database, clock }: Pick<WebhooksRuntime, 'database' | 'clock'>): StreamSource {
  return {
    key: 'l',
    event: 'listener',
    capability: 'listeners:read',
    overlap: [10 * SECOND, HOUR],
    beginsBefore: 10 * SECOND,
    step: Infinity,
    farthest: 24 * HOUR,
    last: () => Promise.resolve(clock.now()),
    async read(scopes, { after, upTo }) {
      const owners = scopes.some(({ owner }) => owner === null)
        ? null
        : [...new Set(scopes.map(({ owner }) => owner as string))];
      const range = { after, upTo, limit: MOST_ROWS + 1 };
      const rows = await database.single(() => readChangedListeners(database, owners, range));
      if (rows.length > MOST_ROWS) return null;
      return rows.map((row) => ({
        id: `${row.id}.${row.deletedAt === null ? Number(row.revision) : 'removed'}`,
        position: Number(row.updatedAt),
        at: Number(row.updatedAt),
        owner: row.owner,
        listenerId: row.id,
        type: null,
        dataFor: () => ({ listener: shown(row) }),
      }));
    },
  };
}

function shown({ id, owner, state, disabledReason, revision, updatedAt, deletedAt }: ChangedListenerRow) {
  return {
    id,
    owner,
    state,
    disabledReason,
    revision: Number(revision),
    updatedAt: new Date(Number(updatedAt)),
    isRemoved: deletedAt !== null,
  };
}
