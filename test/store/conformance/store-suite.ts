import sql, { join } from 'sql-template-tag';
import type { RecordResult } from '../../../libs/webhooks/src/store/queue/attempt-record.js';
import { claimDeliveries } from '../../../libs/webhooks/src/store/queue/claim-deliveries.js';
import type { ClaimedDelivery } from '../../../libs/webhooks/src/store/queue/claimed-delivery.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { fanOut, type FanOutOptions } from '../../../libs/webhooks/src/store/queue/fan-out.js';
import { query } from '../../../libs/webhooks/src/store/database/script.js';
import { endExpiredLeases, LEASES_PER_BATCH } from '../../../libs/webhooks/src/store/outbox/expired-leases.js';
import { toRuns } from '../../../libs/webhooks/src/store/outbox/sequence-runs.js';
import { recordAttempts } from '../../../libs/webhooks/src/store/queue/record-attempts.js';
import type { FreshDatabase } from '../../support/databases.js';
import {
  CIRCUIT,
  deliveriesOf,
  LEASE_MS,
  NO_ROOM,
  openStore,
  OWN_TEXT,
  roomFor,
  run,
  type OpenStore,
} from '../support.js';

export const START = 1_800_000_000_000;

/** A store of one kind of database, for the families of its promises. */
export class StoreSuite {
  private fresh: FreshDatabase | undefined;
  private store: OpenStore | undefined;

  /** @param create creates a database of this kind; its `options` may connect through a pooler */
  constructor(
    readonly title: string,
    private readonly create: () => Promise<FreshDatabase>,
  ) {}

  async open(): Promise<void> {
    this.fresh = await this.create();
    this.store = await openStore(this.options);
  }

  async close(): Promise<void> {
    await this.store?.close();
    await this.fresh?.drop();
  }

  get options(): FreshDatabase['options'] {
    return (this.fresh as FreshDatabase).options;
  }

  get database(): Database {
    return (this.store as OpenStore).database;
  }

  get application(): OpenStore['application'] {
    return (this.store as OpenStore).application;
  }

  /** Ends expired leases, and then routes events, as a round of the dispatcher does. */
  readonly fan = async (options: Partial<FanOutOptions> = {}, by = this.database) => {
    const all = { now: START, limit: 250, room: NO_ROOM, leaseMs: LEASE_MS, circuit: CIRCUIT, bodyOf: OWN_TEXT };
    await by.transaction(() => endExpiredLeases(by, options.now ?? START, LEASES_PER_BATCH));
    return by.transaction(() => fanOut(by, { ...all, ...options }));
  };

  readonly claim = (now: number, total = 250, each = total, by = this.database) =>
    by.transaction(() =>
      claimDeliveries(by, {
        now,
        leaseMs: LEASE_MS,
        room: roomFor(total, each),
        circuit: CIRCUIT,
        handshakes: 0,
        bodyOf: OWN_TEXT,
      }),
    );

  readonly record = (records: Parameters<typeof recordAttempts>[1], now: number): Promise<RecordResult> =>
    this.database.transaction(() => recordAttempts(this.database, records, { now, circuit: CIRCUIT }));

  readonly states = async () => (await deliveriesOf(this.database)).map(({ state }) => state);

  readonly ids = async () => (await deliveriesOf(this.database)).map(({ id }) => id);
}

/** The delivery as a worker has it that lost its lease. */
export function withToken(delivery: ClaimedDelivery, token: string): ClaimedDelivery {
  const { lease } = delivery;
  return { ...delivery, leaseToken: token, lease: lease && { token, left: new Map(lease.left) } };
}

/** Puts every event back into the outbox, as an operator does with a damaged event, or under a lease. */
export function putBack(database: Database, token: string | null = null): Promise<void> {
  const { outbox: o, leases: l, events: e } = database.tables;
  return database.transaction(function* () {
    yield sql`delete from ${o.sql}`;
    yield sql`delete from ${l.sql}`;
    if (token === null) {
      yield sql`insert into ${o.sql} (${o.$.seq}, ${o.$.eventAt}, ${o.$.orderKey}, ${o.$.claims}) select e.${e.$.seq}, e.${e.$.createdAt}, e.${e.$.orderKey}, 1 from ${e.sql} e`;
      return;
    }
    const seqs = yield* query<{ seq: unknown }>(sql`select ${e.select('e', 'seq')} from ${e.sql} e`);
    const events = toRuns(seqs.map(({ seq }) => String(seq)));
    const columns = join([l.$.token, l.$.leaseUntil, l.$.claims, l.$.events, l.$.firstAt, l.$.lastAt]);
    yield sql`insert into ${l.sql} (${columns}) values (${token}, ${START + LEASE_MS}, 1, ${events}, ${0}, ${Number.MAX_SAFE_INTEGER})`;
  });
}

export async function empty(database: Database): Promise<void> {
  for (const { sql: path } of Object.values(database.tables)) await run(database, sql`delete from ${path}`);
}
