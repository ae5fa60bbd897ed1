import sql, { join, raw, type Sql } from 'sql-template-tag';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ownerKeyOf } from '../../libs/webhooks/src/hash.js';
import { claimDeliveries } from '../../libs/webhooks/src/store/queue/claim-deliveries.js';
import type { ClaimedDelivery } from '../../libs/webhooks/src/store/queue/claimed-delivery.js';
import { readOutlook } from '../../libs/webhooks/src/store/queue/read-outlook.js';
import { readReadyAt, readReadyListeners } from '../../libs/webhooks/src/store/listeners/ready-listeners.js';
import { reclaimExpired } from '../../libs/webhooks/src/store/queue/reclaim-expired.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { MAX_SCANNED } from '../../libs/webhooks/src/store/database/page.js';
import {
  countDeliveries,
  deliveryScanEnd,
  listDeliveries,
  readAttempts,
  readDelivery,
  rearmDelivery,
  type DeliveryFilterRow,
  type DeliveryRow,
} from '../../libs/webhooks/src/store/queue/delivery-rows.js';
import { readCandidateById, type ReadCandidate } from '../../libs/webhooks/src/store/queue/candidates.js';
import { COUNTED, readBacklog } from '../../libs/webhooks/src/store/queue/read-backlog.js';
import { readPartitions } from '../../libs/webhooks/src/store/queue/partitions.js';
import { replayEvents } from '../../libs/webhooks/src/store/queue/replay-events.js';
import { fanOut } from '../../libs/webhooks/src/store/queue/fan-out.js';
import {
  listenerScanEnd,
  listListeners,
  type ListenerFilterRow,
} from '../../libs/webhooks/src/store/listeners/listed-listeners.js';
import {
  discardDue,
  insertListener,
  lockListener,
  removeListener,
  type ListenerRow,
} from '../../libs/webhooks/src/store/listeners/listener-rows.js';
import { expectDeliveries } from '../../libs/webhooks/src/store/listeners/listener-state.js';
import { listEvents, type EventFilterRow } from '../../libs/webhooks/src/store/outbox/listed-events.js';
import { publishOnce } from '../../libs/webhooks/src/store/outbox/published-events.js';
import { isOneStatement, recordAttempts } from '../../libs/webhooks/src/store/queue/record-attempts.js';
import { releaseDeliveries } from '../../libs/webhooks/src/store/queue/release-deliveries.js';
import type { Script } from '../../libs/webhooks/src/store/database/script.js';
import { readSentDeliveries, readSentEvent } from '../../libs/webhooks/src/store/queue/sent-deliveries.js';
import { routesOf } from '../../libs/webhooks/src/routing/route-key.js';
import type { TableName } from '../../libs/webhooks/src/store/database/tables.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { measure, type Cost } from './measured.js';
import {
  anEvent,
  attemptOf,
  CIRCUIT,
  failureOf,
  LEASE_MS,
  listenerValues,
  openStore,
  OWN_TEXT,
  roomFor,
  rowsOf,
  type OpenStore,
} from './support.js';

const ROWS = 200_000;
const LISTENERS = 20_000;
const OUTBOX = 20_000;
/** How many of the listeners have a due delivery; all are due at the same time. */
const READY = 5_000;
const NOW = 1_800_000_000_000;
const BATCH = 250;
const PAGE = 51;
const EXHAUSTED = 20;

/** The numbers from 0 up, as a table `s` with a column `n`, in SQL that every database accepts. */
function numbers(count: number): Sql {
  const digits = raw(
    '(select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9)',
  );
  const places = Math.ceil(Math.log10(count));
  const tables = Array.from({ length: places }, (_, place) => sql`${digits} ${raw(`p${place}`)}`);
  const n = raw(Array.from({ length: places }, (_, place) => `p${place}.d * ${10 ** place}`).join(' + '));
  return sql`(select n from (select ${n} as n from ${join(tables, ' cross join ')}) as every where n < ${raw(String(count))}) as s`;
}

function numbered(database: Database, prefix: string, n = 'n'): Sql {
  if (database.dialect === 'mysql') return raw(`concat('${prefix}', ${n})`);
  return raw(`'${prefix}' || (${n})`);
}

function* fill<T extends TableName>(
  database: Database,
  table: T,
  count: number,
  columns: Partial<Record<keyof Database['tables'][T]['$'], Sql>>,
): Script<void> {
  const { sql: path, $ } = database.tables[table] as { sql: Sql; $: Record<string, Sql> };
  const entries = Object.entries<Sql | undefined>(columns);
  const names = join(entries.map(([property]) => $[property] as Sql));
  yield sql`insert into ${path} (${names}) select ${join(entries.map(([, value]) => value as Sql))} from ${numbers(count)} order by n`;
}

const PAYLOAD = raw(`'{"type":"order.created","timestamp":"2027-01-15T08:00:00.000Z","data":{"id":1}}'`);
const ACME = 'acme';
const GLOBEX = 'globex';

/** A row that changes all the time and is delivered in order, to this listener: every tenth delivery is about it. */
const HOT_LISTENER = 'lst_0';

/**
 * Deliveries 0 to 199,999, one per event, oldest first. Nearly all have succeeded. The last ones are unfinished: 4,500 due deliveries, each
 * to another listener, and before them 900 leased ones, some of which have expired. {@link HOT_LISTENER} has one due delivery, and 19,999
 * earlier ones.
 */
function* fillTables(database: Database): Script<void> {
  const isPostgres = database.dialect === 'postgres';
  const bytes = (value: Buffer) => (isPostgres ? sql`cast(${value} as bytea)` : sql`${value}`);
  const createdAt = raw(`${NOW} - ${ROWS} + n`);
  const owner = raw(`case when n % 100 = 0 then '${ACME}' else '${GLOBEX}' end`);
  const ownerKey = sql`case when n % 100 = 0 then ${bytes(ownerKeyOf(ACME))} else ${bytes(ownerKeyOf(GLOBEX))} end`;
  const constant = (text: string) => raw(`'${text}'`);
  yield* fill(database, 'listeners', LISTENERS, {
    id: numbered(database, 'lst_'),
    owner,
    ownerKey,
    url: constant('https://example.com/hooks'),
    patterns: constant('["order.created"]'),
    filter: constant('[]'),
    definition: constant('{}'),
    headers: constant('{}'),
    secrets: constant('{"v":1,"secrets":[]}'),
    schemes: constant('["standard"]'),
    format: constant('standard'),
    ordering: constant('none'),
    sequence: raw('0'),
    handshake: constant('none'),
    state: raw(`case when n % 100 = 1 then 'disabled' else 'active' end`),
    revision: raw('1'),
    afterSeq: raw('0'),
    createdAt: raw(`${NOW} - n`),
    updatedAt: raw(`${NOW} - n`),
  });
  yield* fill(database, 'listenerState', LISTENERS, {
    listenerId: numbered(database, 'lst_'),
    failuresInARow: raw('0'),
    handshakeTries: raw('0'),
    readyAt: raw(`case when n < ${READY} then ${NOW} else null end`),
  });
  yield* fill(database, 'events', ROWS, {
    id: numbered(database, 'evt_'),
    type: constant('order.created'),
    audience: raw(`case when n < ${ROWS / 2} then 'owner' else 'application' end`),
    owner: raw(`case when n < ${ROWS / 2} then '${GLOBEX}' else null end`),
    ownerKey: sql`case when n < ${raw(String(ROWS / 2))} then ${bytes(ownerKeyOf(GLOBEX))} else null end`,
    ordered: raw('0'),
    payload: PAYLOAD,
    createdAt,
  });
  // The last events are in the outbox.
  yield* fill(database, 'outbox', OUTBOX, {
    seq: raw(`${ROWS} - ${OUTBOX} + 1 + n`),
    eventAt: raw(`${NOW} - ${OUTBOX} + n`),
    claims: raw('0'),
  });
  const back = `${ROWS} - 1 - n`;
  yield* fill(database, 'deliveries', ROWS, {
    id: numbered(database, 'dlv_'),
    eventSeq: raw('n + 1'),
    eventAt: createdAt,
    listenerId: sql`case when n % 10 = 0 then ${raw(`'${HOT_LISTENER}'`)} else ${numbered(database, 'lst_', `(${back}) % ${LISTENERS}`)} end`,
    type: raw(`case when n % 1000 = 0 then 'order.deleted' else 'order.created' end`),
    owner,
    ownerKey,
    orderKey: sql`case when n % 10 = 0 then ${bytes(Buffer.alloc(16, 7))} else null end`,
    state: raw(
      `case when n % 10 = 0 then case when n = ${ROWS} - 10 then 'due' else 'succeeded' end when ${back} < ${READY} then 'due' when ${back} < ${READY + 1_000} then 'leased' when n % 10000 = 5 then 'exhausted' else 'succeeded' end`,
    ),
    attempts: raw('1'),
    retries: raw('1'),
    nextAt: raw(String(NOW)),
    leaseToken: raw(`case when ${back} >= ${READY} and ${back} < ${READY + 1_000} then 'lease_1' else null end`),
    leaseUntil: raw(
      `case when ${back} >= ${READY} and ${back} < ${READY + 1_000} then ${NOW} - 50 + (${back}) % 1000 else null end`,
    ),
    createdAt,
  });
  yield* fill(database, 'attempts', ROWS, {
    deliveryId: numbered(database, 'dlv_'),
    eventAt: createdAt,
    number: raw('1'),
    outcome: constant('accepted'),
    status: raw('200'),
    durationMs: raw('5'),
    superseded: raw('0'),
    startedAt: createdAt,
  });
  const { keys, paths } = routesOf({ owner: null, patterns: ['order.created'], filter: [] });
  const { routes: r, routePaths: p } = database.tables;
  for (const key of keys) {
    yield sql`insert into ${r.sql} (${r.$.key}, ${r.$.listenerId}) values (${key}, ${'lst_0'})`;
  }
  for (const { pattern, path } of paths) {
    yield sql`insert into ${p.sql} (${p.$.pattern}, ${p.$.path}) values (${pattern}, ${path})`;
  }
  yield* fill(database, 'routes', LISTENERS, {
    key: isPostgres
      ? raw(`decode(md5('' || n), 'hex')`)
      : raw(database.dialect === 'mysql' ? 'unhex(md5(n))' : 'cast(n as blob)'),
    listenerId: numbered(database, 'lst_'),
  });
}

function* analyze(database: Database): Script<void> {
  for (const { sql: path } of Object.values(database.tables) as { sql: Sql }[]) {
    yield database.dialect === 'mysql' ? sql`analyze table ${path}` : sql`analyze ${path}`;
  }
}

/** Stops the automatic refresh of statistics: here they are as old as the test defines. */
function* holdStatistics(database: Database): Script<void> {
  if (database.dialect === 'sqlite') return;
  const partitions = database.isPartitioned ? yield* readPartitions(database) : [];
  for (const [name, { sql: path }] of Object.entries<{ sql: Sql }>(database.tables)) {
    if (database.dialect === 'mysql') yield sql`alter table ${path} stats_auto_recalc = 0`;
    else {
      // Only the partitions of a partitioned table have rows, and storage parameters.
      const own = partitions.filter(({ table }) => table === name).map((one) => raw(one.path));
      for (const one of own.length ? own : [path]) yield sql`alter table ${one} set (autovacuum_enabled = false)`;
    }
  }
}

describeDatabases(`on ${ROWS} rows`, (target) => {
  let fresh: FreshDatabase;
  let store: OpenStore;
  let database: Database;

  beforeAll(async () => {
    fresh = await target.create();
    store = await openStore(fresh.options, { times: [NOW] });
    database = store.database;
    await database.transaction(() => holdStatistics(database));
    await database.transaction(() => analyze(database));
    await database.transaction(() => fillTables(database));
  });
  afterAll(async () => {
    await store?.close();
    await fresh?.drop();
  });

  const of = (filter: Partial<DeliveryFilterRow>): DeliveryFilterRow => ({ scope: undefined, ...filter });
  const policy = { now: NOW, leaseMs: LEASE_MS, circuit: CIRCUIT };

  /** Leased deliveries in the form in which a worker has them. */
  const leased = async () => {
    const { deliveries: d } = database.tables;
    const rows = await rowsOf<{ seq: unknown; id: string; listenerId: string; eventAt: unknown }>(
      database,
      sql`select ${d.select('d', 'seq', 'id', 'listenerId', 'eventAt')} from ${d.sql} d where d.${d.$.state} = 'leased' order by d.${d.$.seq} desc limit ${BATCH}`,
    );
    return rows.map(({ seq, id, listenerId, eventAt }): ClaimedDelivery => ({
      seq: String(seq),
      id,
      leaseToken: 'lease_1',
      lease: null,
      routedAt: NOW,
      attempts: 1,
      retries: 1,
      type: '',
      owner: null,
      event: { id: '', seq: '', payload: '', createdAt: Number(eventAt), context: null, isTest: false },
      body: '',
      format: null,
      version: null,
      isOrdered: false,
      listener: {
        id: listenerId,
        url: '',
        headers: {},
        secrets: [],
        schemes: [],
        auth: null,
        tls: null,
        format: '',
        versions: null,
        handshake: 'none',
        sendsSequence: false,
        isFailing: false,
      },
    }));
  };

  describe.each([
    { statistics: 'from when the tables were empty', refresh: false },
    { statistics: 'that are fresh', refresh: true },
  ])('with statistics $statistics', ({ refresh }) => {
    beforeAll(async () => {
      if (refresh) await database.transaction(() => analyze(database));
    });

    it.each<{ what: string; rows: number; script: () => Script<unknown>; as?: 'single' }>([
      {
        what: 'a fan-out reads its events',
        rows: BATCH,
        script: () => fanOut(database, { ...policy, limit: BATCH, room: roomFor(BATCH), bodyOf: OWN_TEXT }),
      },
      {
        what: 'a fan-out continues after the events that were taken',
        rows: BATCH,
        script: () =>
          fanOut(database, { ...policy, limit: BATCH, afterSeq: ROWS - 500, room: roomFor(BATCH), bodyOf: OWN_TEXT }),
      },
      {
        what: 'a claim reads as many listeners as its limit, however many are ready',
        rows: 64,
        script: () =>
          claimDeliveries(database, { ...policy, handshakes: 0, bodyOf: OWN_TEXT, room: roomFor(BATCH, 16) }),
      },
      {
        what: 'a claim of two listeners reads these two',
        rows: 2,
        script: () =>
          claimDeliveries(database, {
            ...policy,
            bodyOf: OWN_TEXT,
            handshakes: 0,
            room: roomFor(BATCH, 16),
            only: ['lst_19000', 'lst_19002'],
          }),
      },
      {
        what: 'a page of the ready listeners reads its listeners',
        rows: 64,
        script: () => readReadyListeners(database, { until: NOW, limit: 64 }),
        as: 'single',
      },
      {
        what: 'a page of the ready listeners is read backwards, too',
        rows: 64,
        script: () => readReadyListeners(database, { until: NOW, limit: 64, isNewestFirst: true }),
        as: 'single',
      },
      {
        what: 'when a listener is ready is read without looking at others',
        rows: 1,
        script: () => readReadyAt(database, ['lst_77']),
        as: 'single',
      },
      {
        what: 'a claim of one delivery reads one',
        rows: 1,
        script: () => claimDeliveries(database, { ...policy, handshakes: 0, bodyOf: OWN_TEXT, room: roomFor(1) }),
      },
      {
        what: 'the outlook reads one row of each kind',
        rows: 3,
        script: () => readOutlook(database, NOW),
        as: 'single',
      },
      {
        what: 'the backlog is counted up to a limit, whatever the size of the tables',
        rows: COUNTED,
        script: () => readBacklog(database, NOW, []),
        as: 'single',
      },
      { what: 'reclaiming reads the expired leases', rows: 50, script: () => reclaimExpired(database, NOW, 500) },
      {
        what: 'a listener is made due without looking at others',
        rows: 1,
        script: () => expectDeliveries(database, new Map([['lst_77', NOW - 1]])),
      },
      {
        what: 'a listener is removed without looking at others',
        rows: 1,
        script: function* () {
          yield* lockListener(database, 'lst_77', undefined);
          yield* removeListener(database, 'lst_77', NOW);
          yield* discardDue(database, 'lst_77', { now: NOW, limit: 1_000 });
        },
      },
      {
        what: 'a listener is made without looking at events',
        rows: 1,
        script: () =>
          insertListener(database, listenerValues(), routesOf({ owner: null, patterns: ['*'], filter: [] }), NOW),
      },
      {
        what: 'an idempotency key is looked up',
        rows: 1,
        script: () => publishOnce(database, anEvent(), Buffer.alloc(16, 1)),
      },
      { what: 'a delivery is read by its id', rows: 1, script: () => readDelivery(database, 'dlv_777', undefined) },
      { what: 'its attempts are read by its id', rows: 1, script: () => readAttempts(database, 'dlv_777') },
      {
        what: 'a delivery is sent again',
        rows: 1,
        script: function* () {
          const row = yield* readDelivery(database, 'dlv_777', undefined);
          yield* rearmDelivery(database, row as DeliveryRow, NOW, { trigger: 'resend', by: null }, undefined);
        },
      },
      {
        what: 'the verify view finds an event and its deliveries',
        rows: 2,
        script: function* () {
          yield* readSentEvent(database, 'evt_777', 10);
          yield* readSentDeliveries(
            database,
            { seq: 778, createdAt: NOW - ROWS + 777 },
            { bodyLength: 10, before: null, limit: 100 },
          );
        },
      },
    ])('$what', async ({ rows, script, as }) => {
      expectCheap((await measure(database, script, as)).costs, rows);
    });

    it('recording attempts reads their deliveries and listeners, and so does releasing deliveries', async () => {
      const batch = await leased();
      const ended = batch.map((one) => attemptOf(one, NOW));
      const failed = batch.map((one) => failureOf(one, NOW, 1_000));
      const as = isOneStatement(database, ended) ? 'single' : 'transaction';
      const success = await measure(database, () => recordAttempts(database, ended, policy), as);
      const failure = await measure(database, () => recordAttempts(database, failed, policy));
      expect([success.result.moved.size, failure.result.moved.size]).toEqual([BATCH, BATCH]);
      expectCheap(success.costs, BATCH);
      expectCheap(failure.costs, 2 * BATCH);
      expectCheap((await measure(database, () => releaseDeliveries(database, batch, NOW))).costs, 2 * BATCH);
    });

    it.each<{ filter: Partial<DeliveryFilterRow> }>([
      { filter: {} },
      { filter: { listenerId: 'lst_77' } },
      { filter: { eventId: 'evt_777' } },
      { filter: { type: 'order.created' } },
      { filter: { owner: ACME } },
      { filter: { scope: GLOBEX } },
      { filter: { since: NOW - 10_000 } },
      { filter: { until: NOW - 100_000 } },
      { filter: { since: NOW - 100_000, until: NOW - 90_000 } },
    ])('a page of the deliveries of $filter reads that page, wherever it begins', async ({ filter }) => {
      const first = await measure(database, () => listDeliveries(database, of(filter), null, PAGE));
      expectCheap(first.costs, PAGE);
      const { createdAt, seq } = first.result.at(-1) as DeliveryRow;
      const after = { at: Number(createdAt), seq: String(seq) };
      expectCheap((await measure(database, () => listDeliveries(database, of(filter), after, PAGE))).costs, PAGE);
      // A far page: a list of everything has skipped most of the table here.
      const deep = { at: NOW - 150_000, seq: String(ROWS - 150_000) };
      expectCheap((await measure(database, () => listDeliveries(database, of(filter), deep, PAGE))).costs, PAGE);
    });

    it.each<{ filter: Partial<EventFilterRow> }>([
      { filter: {} },
      { filter: { owner: GLOBEX } },
      { filter: { scope: GLOBEX } },
      { filter: { scope: GLOBEX, since: NOW - 180_000, until: NOW - 140_000 } },
      { filter: { since: NOW - 10_000 } },
      { filter: { until: NOW - 100_000 } },
    ])('a page of the events of $filter reads that page, wherever it begins', async ({ filter }) => {
      const deep = { at: NOW - 150_000, seq: String(ROWS - 150_000) };
      for (const after of [null, deep]) {
        const list = () => listEvents(database, { scope: undefined, ...filter }, after, PAGE);
        const { costs, result } = await measure(database, list);
        expectCheap(costs, PAGE);
        expect(result.rows).toHaveLength(filter.since === NOW - 10_000 && after ? 0 : PAGE);
      }
    });

    it.each<{ filter: Partial<EventFilterRow> }>([
      { filter: { type: 'order.lost' } },
      { filter: { orderKey: Buffer.alloc(16, 7) } },
      { filter: { owner: GLOBEX, orderKey: Buffer.alloc(16, 7) } },
      { filter: { owner: GLOBEX, type: 'order.lost', until: NOW - 150_000 } },
    ])('a page of the events of $filter, which match none, ends within the bound', async ({ filter }) => {
      const list = () => listEvents(database, { scope: undefined, ...filter }, null, PAGE);
      const { costs, result } = await measure(database, list);
      expect(result).toEqual({ rows: [], scanEnd: expect.anything() as object });
      expectBounded(costs, MAX_SCANNED);
    });

    it('a page of the events of an owner and of a rare type shares the bound among its two scans', async () => {
      const filter = { scope: GLOBEX, type: 'order.lost' };
      const { costs, result } = await measure(database, () => listEvents(database, filter, null, PAGE));
      expect(result).toEqual({ rows: [], scanEnd: expect.anything() as object });
      expectBounded(costs, MAX_SCANNED / 2);
    });

    it.each<{ filter: Partial<DeliveryFilterRow> }>([
      { filter: { type: 'order.lost' } },
      { filter: { status: [500, 599] } },
      { filter: { errorCode: 'TIMEOUT', scope: GLOBEX } },
      { filter: { errorCode: 'TIMEOUT', owner: GLOBEX, until: NOW - 100_000 } },
      { filter: { errorCode: 'TIMEOUT', listenerId: HOT_LISTENER } },
      { filter: { status: [500, 599], state: 'succeeded' } },
    ])('a page of the deliveries of $filter, which match none, ends within the bound', async ({ filter }) => {
      const list = function* () {
        const end = yield* deliveryScanEnd(database, of(filter), null);
        return { end, rows: yield* listDeliveries(database, of(filter), null, PAGE, end) };
      };
      const { costs, result } = await measure(database, list);
      expect(result).toEqual({ rows: [], end: expect.anything() as object });
      expectBounded(costs, MAX_SCANNED);
    });

    it.each<{ filter: Partial<ListenerFilterRow> }>([
      { filter: { patterns: ['order.lost'] } },
      { filter: { search: 'nowhere' } },
      { filter: { isFailing: true } },
    ])('a page of the listeners of an owner with $filter reads no others', async ({ filter }) => {
      const options = { scope: ACME, ...filter, after: null };
      const list = function* () {
        const until = yield* listenerScanEnd(database, options, null);
        return yield* listListeners(database, { ...options, until, limit: PAGE });
      };
      const { costs, result } = await measure(database, list);
      expect(result).toEqual([]);
      expectBounded(costs, LISTENERS / 100);
    });

    // MySQL and MariaDB find these rows by an estimate of the state's index, which needs fresh statistics.
    it.skipIf((target.name === 'mariadb' || target.name === 'mysql2') && !refresh)(
      'a few exhausted deliveries among many are found',
      async () => {
        const { costs, result } = await measure(database, () =>
          listDeliveries(database, of({ state: 'exhausted' }), null, PAGE),
        );
        expect(result).toHaveLength(EXHAUSTED);
        expectCheap(costs, EXHAUSTED);
      },
    );

    it.each([
      { of: 'a customer without events', listenerId: 'lst_0', events: 0 },
      { of: 'a customer with very many events', listenerId: 'lst_2', events: 200 },
    ])('a replay for $of reads no events of other customers', async ({ listenerId, events }) => {
      const replay = function* (): Script<number> {
        const listener = yield* readCandidateById(database, listenerId);
        const options = { after: { at: 0, seq: '0' }, until: NOW, now: NOW, bodyOf: OWN_TEXT, actor: null };
        return (yield* replayEvents(database, listener as ReadCandidate, options)).made;
      };
      const { result, costs } = await measure(database, replay);
      expect(result).toBe(events);
      expectCheap(costs, events);
    });

    it('a few disabled listeners among many are found', async () => {
      const options = { scope: undefined, state: 'disabled', after: null, limit: PAGE };
      expectCheap((await measure(database, () => listListeners(database, options))).costs, PAGE);
    });

    it.each([{ scope: undefined }, { scope: ACME }])(
      'a page of the listeners of $scope reads that page',
      async ({ scope }) => {
        const first = await measure(database, () => listListeners(database, { scope, after: null, limit: PAGE }));
        expectCheap(first.costs, PAGE);
        const { createdAt, seq } = first.result.at(-1) as ListenerRow;
        const after = { at: Number(createdAt), seq: String(seq) };
        expectCheap(
          (await measure(database, () => listListeners(database, { scope, after, limit: PAGE }))).costs,
          PAGE,
        );
      },
    );

    it.each([{ listenerId: 'lst_77' }, { eventId: 'evt_777' }, { since: NOW - 20 }])(
      'deliveries with %s are counted without reading others',
      async (filter) => {
        expectCheap((await measure(database, () => countDeliveries(database, of(filter)))).costs, 20);
      },
    );
  });
});

/** Rows read per row of the result: its key, its row, its listener, its event; MariaDB counts each of them twice. */
const READS_PER_ROW = 8;
/** For statements without a result, and for the few rows of `route_paths`. */
const READS_AT_LEAST = 40;

/** Rows read per row that a list passes: the row, its key, and the row of another table that a filter names. */
const READS_PER_PASSED_ROW = 3;

function expectBounded(costs: readonly Cost[], passed: number): void {
  expectCheap(costs, Math.ceil((READS_PER_PASSED_ROW * passed) / READS_PER_ROW));
}

function expectCheap(costs: readonly Cost[], answer: number): void {
  for (const { text, rows, plan } of costs) {
    if (rows === null) {
      // A walk along an index is no table scan if a limit ends it and no sort comes between.
      const isLimited = text.includes('limit') && !plan.includes('TEMP B-TREE FOR ORDER BY');
      const scans = plan.split('\n').filter((step) => {
        const scanned = /^SCAN (\S+)( USING .*INDEX)?/.exec(step);
        // A walk along the row ids of the outbox, `o`, is one along its primary key.
        const isWalk = scanned?.[2] ?? scanned?.[1] === 'o';
        return scanned && !/^(json_each|CONSTANT|p|c|b\d+)$/.test(scanned[1] ?? '') && !(isWalk && isLimited);
      });
      expect(scans, `${text}\n${plan}`).toEqual([]);
    } else {
      expect(rows, `${text}\n${plan}`).toBeLessThanOrEqual(READS_PER_ROW * answer + READS_AT_LEAST);
    }
  }
}
