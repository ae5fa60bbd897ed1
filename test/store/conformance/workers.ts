import { expect, it } from 'vitest';
import { addEvents, addListener, openStore, roomFor } from '../support.js';
import { START, type StoreSuite } from './store-suite.js';

/** Two workers on one database. SQLite has one writer. */
export function describeWorkers(suite: StoreSuite): void {
  if (suite.title.includes('sqlite')) return;
  const { fan, claim } = suite;
  it('two workers that fan out and claim at the same time share the work, and miss nothing', async () => {
    const other = await openStore(suite.options, { synchronize: false });
    try {
      for (let n = 0; n < 8; n++) await addListener(suite.database, START);
      for (let n = 0; n < 10; n++) await addEvents(suite.database, 20);
      const workers = [suite.database, other.database];
      const routed = await Promise.all(
        workers.flatMap((by) => [0, 1, 2].map(() => fan({ limit: 40, room: roomFor(40) }, by))),
      );
      for (let left = 1; left > 0;) {
        const more = await fan({ room: roomFor(40) });
        routed.push(more);
        left = more.events;
      }
      expect(routed.reduce((sum, { events }) => sum + events, 0)).toBe(200);
      const seqs = routed.flatMap(({ leased }) => leased.map(({ id }) => id));
      for (let idle = 0; idle < 2;) {
        const claims = await Promise.all(workers.map((by) => claim(START + 10_000, 100, 16, by)));
        const got = claims.flatMap(({ deliveries }) => deliveries.map(({ id }) => id));
        seqs.push(...got);
        idle = got.length ? 0 : idle + 1;
      }
      expect([seqs.length, new Set(seqs).size]).toEqual([1_600, 1_600]);
    } finally {
      await other.close();
    }
  });
}
