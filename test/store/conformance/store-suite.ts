import sql, { raw } from 'sql-template-tag';
import type { RecordResult } from '../../../libs/webhooks/src/store/queue/attempt-record.js';
import { claimDeliveries } from '../../../libs/webhooks/src/store/queue/claim-deliveries.js';
import type { ClaimedDelivery } from '../../../libs/webhooks/src/store/queue/claimed-delivery.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { fanOut, type FanOutOptions } from '../../../libs/webhooks/src/store/queue/fan-out.js';
import { typed } from '../../../libs/webhooks/src/store/database/dialect-sql.js';
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

  readonly fan = (options: Partial<FanOutOptions> = {}, by = this.database) =>
    by.transaction(() =>
      fanOut(by, {
        now: START,
        limit: 250,
        room: NO_ROOM,
        leaseMs: LEASE_MS,
        circuit: CIRCUIT,
        bodyOf: OWN_TEXT,
        ...options,
      }),
    );

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
  return { ...delivery, leaseToken: token, lease: lease && { ...lease, token } };
}

/** Puts every event back into the outbox, as an operator does with a damaged event, or under a lease. */
export function putBack(database: Database, token: string | null = null): Promise<void> {
  const { outbox: o, events: e } = database.tables;
  return database.transaction(function* () {
    yield sql`delete from ${o.sql}`;
    yield sql`insert into ${o.sql} (${o.$.seq}, ${o.$.eventAt}, ${o.$.orderKey}, ${o.$.claims}, ${o.$.leaseUntil}, ${o.$.leaseToken}) select e.${e.$.seq}, e.${e.$.createdAt}, e.${e.$.orderKey}, 1, ${raw(token === null ? '0' : String(START + LEASE_MS))}, ${typed(database.dialect, 'text', token)} from ${e.sql} e`;
  });
}

export async function empty(database: Database): Promise<void> {
  for (const { sql: path } of Object.values(database.tables)) await run(database, sql`delete from ${path}`);
}
