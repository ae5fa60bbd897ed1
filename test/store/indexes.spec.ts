import { readFile } from 'node:fs/promises';
import sql, { raw } from 'sql-template-tag';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { claimDeliveries } from '../../libs/webhooks/src/store/queue/claim-deliveries.js';
import { readDelivery, listDeliveries, readAttempts } from '../../libs/webhooks/src/store/queue/delivery-rows.js';
import { firstEventTime } from '../../libs/webhooks/src/store/queue/archive-rows.js';
import { fanOut } from '../../libs/webhooks/src/store/queue/fan-out.js';
import { fanOutWide } from '../../libs/webhooks/src/store/queue/wide-fan-out.js';
import { findExisting } from '../../libs/webhooks/src/store/queue/existing-deliveries.js';
import { pruneListeners } from '../../libs/webhooks/src/store/queue/old-events.js';
import { readFailingListeners } from '../../libs/webhooks/src/store/queue/overview.js';
import { readSystemFigures } from '../../libs/webhooks/src/store/queue/system-overview.js';
import { reclaimExpired } from '../../libs/webhooks/src/store/queue/reclaim-expired.js';
import { claimTask, listTasks, readTask } from '../../libs/webhooks/src/store/queue/task-rows.js';
import { endExpiredLeases } from '../../libs/webhooks/src/store/outbox/expired-leases.js';
import { listEvents, readListedEvent } from '../../libs/webhooks/src/store/outbox/listed-events.js';
import { readRestOfMerged, type StoredImage } from '../../libs/webhooks/src/store/outbox/images.js';
import { readChangedListeners } from '../../libs/webhooks/src/store/listeners/changed-listeners.js';
import { listListeners } from '../../libs/webhooks/src/store/listeners/listed-listeners.js';
import {
  readByExternalKey,
  readListener,
  updateListener,
} from '../../libs/webhooks/src/store/listeners/listener-rows.js';
import { claimReadyListeners, expectDeliveries } from '../../libs/webhooks/src/store/listeners/listener-state.js';
import { eraseAnswers, pruneAnswers, takeKey } from '../../libs/webhooks/src/store/requests/idempotency.js';
import { isRevoked, pruneRevocations } from '../../libs/webhooks/src/store/requests/revoked-sessions.js';
import { deleteProcess } from '../../libs/webhooks/src/store/system/processes.js';
import { readSending } from '../../libs/webhooks/src/store/system/sending.js';
import { pruneStats, readStats } from '../../libs/webhooks/src/store/system/stats.js';
import { listAudit } from '../../libs/webhooks/src/store/system/audit.js';
import { advanceChore } from '../../libs/webhooks/src/store/database/chores.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import type { Script } from '../../libs/webhooks/src/store/database/script.js';
import { routesOf } from '../../libs/webhooks/src/routing/route-key.js';
import { describeOn, type FreshDatabase } from '../support/databases.js';
import { measure } from './measured.js';
import {
  addEvents,
  addListener,
  CIRCUIT,
  LEASE_MS,
  openStore,
  OWN_TEXT,
  roomFor,
  rowsOf,
  run,
  type OpenStore,
} from './support.js';

const NOW = 1_800_000_000_000;
const OWNER = 'acme';
const HASH = Buffer.alloc(16, 1);
const PAGE = 10;
const DECISION = new URL('../../docs/decisions/0001-tables.md', import.meta.url);

/** A function of the store, and a call of it that needs the index. */
type Reader = readonly [by: { readonly name: string }, script: (database: Database) => Script<unknown>];

const READERS: Readonly<Record<string, Reader>> = {
  'events (id)': [readListedEvent, (database) => readListedEvent(database, 'evt_1', undefined)],
  'events (created_at)': [firstEventTime, (database) => firstEventTime(database, { from: 0, before: NOW })],
  'events (owner_key, created_at, seq) where owner_key is not null': [
    listEvents,
    (database) => listEvents(database, { scope: OWNER }, null, PAGE),
  ],
  'outbox (seq) where routed_through is not null': [
    fanOutWide,
    (database) => fanOutWide(database, { now: NOW, bodyOf: OWN_TEXT }),
  ],
  'leases (lease_until)': [endExpiredLeases, (database) => endExpiredLeases(database, NOW, 5)],
  'listeners (id)': [readListener, (database) => readListener(database, 'lst_1', undefined)],
  'listeners (external_key) where external_key is not null': [
    readByExternalKey,
    (database) => readByExternalKey(database, HASH),
  ],
  'listeners (owner_key, created_at, seq)': [
    listListeners,
    (database) => listListeners(database, { scope: OWNER, after: null, limit: PAGE }),
  ],
  'listeners (created_at, seq)': [
    listListeners,
    (database) => listListeners(database, { scope: undefined, after: null, limit: PAGE }),
  ],
  "listeners (created_at, seq) where state = 'disabled'": [
    listListeners,
    (database) => listListeners(database, { scope: undefined, state: 'disabled', after: null, limit: PAGE }),
  ],
  'listeners (deleted_at) where deleted_at is not null': [pruneListeners, (database) => pruneListeners(database, NOW)],
  'listeners (updated_at, seq)': [
    readChangedListeners,
    (database) => readChangedListeners(database, null, { after: 0, upTo: NOW, limit: PAGE }),
  ],
  'routes (key, listener_id)': [
    fanOut,
    (database) =>
      fanOut(database, {
        ...{ now: NOW, limit: PAGE, room: roomFor(1), leaseMs: LEASE_MS, circuit: CIRCUIT, bodyOf: OWN_TEXT },
      }),
  ],
  'routes (listener_id)': [
    updateListener,
    (database) => updateListener(database, 'lst_1', {}, routesOf({ owner: null, patterns: ['*'], filter: [] }), NOW),
  ],
  'route_paths (pattern, path)': [
    fanOut,
    (database) =>
      fanOut(database, {
        ...{ now: NOW, limit: PAGE, room: roomFor(1), leaseMs: LEASE_MS, circuit: CIRCUIT, bodyOf: OWN_TEXT },
      }),
  ],
  'deliveries (event_at, event_seq, listener_id)': [
    findExisting,
    (database) => findExisting(database, [{ seq: 1, createdAt: NOW }]),
  ],
  'deliveries (id)': [readDelivery, (database) => readDelivery(database, 'dlv_1', undefined)],
  "deliveries (listener_id, next_at, seq) where state = 'due'": [claimDeliveries, claimOne],
  "deliveries (lease_until) where state = 'leased'": [
    reclaimExpired,
    (database) => reclaimExpired(database, NOW, PAGE),
  ],
  "deliveries (listener_id, order_key, event_seq) where order_key is not null and state in ('due', 'leased')": [
    claimDeliveries,
    claimOne,
  ],
  'deliveries (listener_id, created_at, seq)': [
    listDeliveries,
    (database) => listDeliveries(database, { scope: undefined, listenerId: 'lst_1' }, null, PAGE),
  ],
  "deliveries (created_at, seq) where state = 'exhausted'": [
    readSystemFigures,
    (database) => readSystemFigures(database, NOW, []),
  ],
  'deliveries (owner_key, created_at, seq) where owner_key is not null': [
    listDeliveries,
    (database) => listDeliveries(database, { scope: OWNER }, null, PAGE),
  ],
  'deliveries (created_at, seq)': [
    listDeliveries,
    (database) => listDeliveries(database, { scope: undefined }, null, PAGE),
  ],
  'attempts (delivery_id, seq)': [readAttempts, (database) => readAttempts(database, 'dlv_1')],
  'listener_state (listener_id)': [
    expectDeliveries,
    (database) => expectDeliveries(database, new Map([['lst_1', NOW]])),
  ],
  'listener_state (ready_at, seq)': [
    claimReadyListeners,
    (database) => claimReadyListeners(database, { now: NOW, limit: PAGE, except: [], exceptOwners: [] }),
  ],
  'listener_state (failing_since) where failing_since is not null': [
    readFailingListeners,
    (database) => readFailingListeners(database, PAGE),
  ],
  'chores (name)': [advanceChore, (database) => advanceChore(database, 'prune', { position: 0, leaseUntil: NOW })],
  'tasks (id)': [readTask, (database) => readTask(database, 'tsk_1', undefined)],
  'tasks (state, seq)': [
    claimTask,
    (database) => claimTask(database, { token: 'lease_1', now: NOW, until: NOW + LEASE_MS }),
  ],
  'tasks (owner_key, seq) where owner_key is not null': [
    listTasks,
    (database) => listTasks(database, { scope: OWNER }, null, PAGE),
  ],
  'images (merge_key, seq) where merge_key is not null': [
    readRestOfMerged,
    (database) =>
      readRestOfMerged(database, [{ seq: 1, mergeKey: 'key' } as unknown as StoredImage], {
        tablePaths: ['orders'],
        limit: PAGE,
      }),
  ],
  'idempotency (key)': [
    takeKey,
    (database) =>
      takeKey(database, {
        ...{ key: HASH, bodyHash: HASH, owner: null, now: NOW, expiredBefore: 0, abandonedBefore: 0 },
      }),
  ],
  'idempotency (created_at)': [pruneAnswers, (database) => pruneAnswers(database, NOW)],
  'idempotency (owner_key) where owner_key is not null': [eraseAnswers, (database) => eraseAnswers(database, OWNER)],
  'revoked_sessions (key)': [
    isRevoked,
    (database) => isRevoked(database, { id: 'ses_1', owner: OWNER, createdAt: NOW }),
  ],
  'revoked_sessions (expires_at)': [pruneRevocations, (database) => pruneRevocations(database, NOW)],
  'processes (id)': [deleteProcess, (database) => deleteProcess(database, 'prc_1')],
  'settings (name)': [readSending, (database) => readSending(database)],
  'stats (listener_id, starts_at, span_ms)': [
    readStats,
    (database) => readStats(database, { listenerId: 'lst_1' }, { since: 0, until: NOW }),
  ],
  'stats (starts_at)': [pruneStats, (database) => pruneStats(database, NOW)],
  'audit (created_at, seq)': [listAudit, (database) => listAudit(database, {}, null, PAGE)],
};

function claimOne(database: Database): Script<unknown> {
  return claimDeliveries(database, {
    ...{ now: NOW, leaseMs: LEASE_MS, room: roomFor(1), circuit: CIRCUIT, handshakes: 0, bodyOf: OWN_TEXT },
  });
}

describeOn('sqlite', 'each index of the first migration', (target) => {
  let fresh: FreshDatabase;
  let store: OpenStore;
  /** The name of each index, by its table, columns and condition. Primary keys are left out. */
  const names = new Map<string, string>();

  beforeAll(async () => {
    fresh = await target.create();
    const migrations = webhookMigrations();
    const migrating = await new DataSource({ ...fresh.options, migrations } as DataSourceOptions).initialize();
    await migrating.runMigrations();
    await migrating.destroy();
    store = await openStore(fresh.options, { synchronize: false });
    const { database } = store;
    const made = await rowsOf<{ table: string; name: string; text: string }>(
      database,
      sql`select tbl_name as "table", name, sql as text from sqlite_master where type = 'index' and sql is not null and tbl_name like 'webhook%'`,
    );
    for (const { table, name, text } of made) {
      const columns = await rowsOf<{ name: string }>(database, sql`select name from pragma_index_info(${name})`);
      const where = / WHERE (.*)$/i.exec(text)?.[1]?.replaceAll('"', '');
      const of = `${table.replace('webhook_', '')} (${columns.map((column) => column.name).join(', ')})`;
      names.set(where === undefined ? of : `${of} where ${where}`, name);
    }
    // A ready listener and an event, without which some functions end after their first statement.
    await addListener(database, 0);
    await addEvents(database, 1);
    const { listenerState: s } = database.tables;
    await run(database, sql`update ${s.sql} set ${s.$.readyAt} = ${raw('1')}`);
  });
  afterAll(async () => {
    await store.close();
    await fresh.drop();
  });

  it('has a reader, which decision 0001 names', async () => {
    const text = await readFile(DECISION, 'utf8');
    const rows = [...text.matchAll(/^\| `([a-z_]+ \([^`]+)` +\| `(\w+)` +\| +[\d,]+ \|$/gm)];
    const readers = Object.entries(READERS).map(([index, [by]]) => [index, by.name]);
    expect(rows.map(([, index, by]) => [index, by])).toEqual(readers);
    expect(Object.keys(READERS).toSorted()).toEqual([...names.keys()].toSorted());
  });

  it.each(Object.entries(READERS))('%s is used by its reader', async (index, [, script]) => {
    const { database } = store;
    const { costs } = await measure(database, () => script(database));
    const plans = costs.map(({ plan }) => plan).join('\n');
    expect(plans.split(/\s+/)).toContain(names.get(index));
  });
});
