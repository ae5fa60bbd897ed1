import { beforeAll, expect, it } from 'vitest';
import type { ClaimedDelivery } from '../../../libs/webhooks/src/store/queue/claimed-delivery.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import {
  listDeliveries,
  readDelivery,
  rearmDelivery,
  type DeliveryRow,
} from '../../../libs/webhooks/src/store/queue/delivery-rows.js';
import { readListener, type ListenerRow } from '../../../libs/webhooks/src/store/listeners/listener-rows.js';
import { storeTestEvent } from '../../../libs/webhooks/src/store/queue/test-event.js';
import { addEvents, addListener, attemptOf, deliveriesOf, OWN_TEXT } from '../support.js';
import { START, type StoreSuite } from './store-suite.js';

export function describeDeliveries(suite: StoreSuite): void {
  const { fan, claim, record } = suite;
  let database: Database;
  beforeAll(() => {
    database = suite.database;
  });

  it('lists deliveries newest first, page by page, and counts them', async () => {
    await addListener(database, START);
    for (const now of [START, START + 1]) {
      await addEvents(database, 3);
      await fan({ now });
    }
    const all = (await deliveriesOf(database)).map(({ id }) => id).toReversed();
    const pages: string[] = [];
    let after: { at: number; seq: string } | null = null;
    for (;;) {
      const rows: DeliveryRow[] = await database.transaction(() =>
        listDeliveries(database, { scope: undefined }, after, 2),
      );
      pages.push(...rows.map(({ id }) => id));
      const last = rows.at(-1);
      if (!last) break;
      after = { at: Number(last.createdAt), seq: String(last.seq) };
    }
    expect(pages).toEqual(all);
  });

  it('resends a finished delivery, and no delivery in flight', async () => {
    await addListener(database, START);
    await addEvents(database, 2);
    await fan();
    const leased = (await claim(START)).deliveries;
    await record([attemptOf(leased[0] as ClaimedDelivery, START)], START);
    const rearm = (n: number) =>
      database.transaction(function* () {
        const row = yield* readDelivery(database, leased[n]?.id ?? '', undefined);
        return yield* rearmDelivery(
          database,
          row as DeliveryRow,
          START + 1,
          { trigger: 'resend', by: null },
          undefined,
        );
      });
    expect([await rearm(0), await rearm(1)]).toEqual([true, false]);
    expect((await claim(START + 1)).deliveries).toMatchObject([{ seq: leased[0]?.seq, attempts: 1, retries: 0 }]);
  });

  it('stores a test event for one listener, and no fan-out takes it', async () => {
    const id = await addListener(database, START, { patterns: ['*'] });
    await addListener(database, START, { patterns: ['*'] });
    const listener = await database.transaction(() => readListener(database, id, undefined));
    const deliveryId = await database.transaction(() =>
      storeTestEvent(
        database,
        {
          listener: listener as ListenerRow,
          example: { type: 'order.created', version: 1, data: { id: 1 } },
          actor: null,
        },
        START,
        OWN_TEXT,
      ),
    );
    expect((await fan()).events).toBe(0);
    expect((await claim(START)).deliveries.map((delivery) => delivery.id)).toEqual([deliveryId]);
  });
}
