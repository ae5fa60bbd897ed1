import { afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { prepareProcesses, type DispatchingProcesses } from '../support/dispatching-process.js';
import { networked } from '../support/proxied-database.js';
import { PATIENT, Site } from './site.js';

const ROUND_TRIP_MS = 200;
/** Of the packets in each direction. */
const LOST = 0.03;
const ROWS = 4;
const CHANGES = 3;
const TIMEOUT_MS = 300_000;
const { namespaces } = inject('servers');

let processes: DispatchingProcesses;
beforeAll(async () => {
  processes = await prepareProcesses();
}, 120_000);

describe.skipIf(namespaces !== true).each(networked)('links of 200 ms that lose packets ($name)', (database) => {
  let site: Site;
  beforeEach(async () => {
    site = await Site.open(processes, database);
  }, TIMEOUT_MS);
  afterEach(() => site.close());

  it(
    'two hosts send every change in order, and repeat only what had no answer in time',
    { timeout: TIMEOUT_MS },
    async () => {
      await site.app.listeners.create({ events: ['*'], url: site.receiverUrl, ordering: 'entity' });
      site.network.delay(ROUND_TRIP_MS / 2);
      const start = async () => {
        const host = await site.network.addHost();
        for (const service of [site.database, site.receiver]) await host.drop(service, LOST);
        await site.startWorker(host, { retryMs: 100, dispatcher: { timeoutMs: 10_000, leaseMs: 20_000 } });
      };
      await Promise.all([start(), start()]);
      const rows = await Promise.all(Array.from({ length: ROWS }, (_, row) => site.save(`${row}: 0`)));
      for (let change = 1; change < CHANGES; change++)
        for (const [row, { id }] of rows.entries()) await site.save(`${row}: ${change}`, id);

      await expect
        .poll(() => site.app.deliveries.counts(), { ...PATIENT, timeout: TIMEOUT_MS - 60_000 })
        .toMatchObject({ succeeded: ROWS * CHANGES, due: 0, leased: 0 });
      const names = site.names();
      const first = names.filter((name, index) => names.indexOf(name) === index);
      for (const row of rows.keys())
        expect(first.filter((name) => name.startsWith(`${row}: `))).toEqual(
          Array.from({ length: CHANGES }, (_, change) => `${row}: ${change}`),
        );
      const ids = site.app.receiver.requests.map(({ headers }) => headers['webhook-id']);
      for (const [index, name] of names.entries()) expect(ids[index]).toBe(ids[names.indexOf(name)]);
      const { items } = await site.app.deliveries.list({ limit: 100 });
      const attempts = items.reduce((sum, { attemptCount }) => sum + attemptCount, 0);
      expect(names.length).toBeLessThanOrEqual(attempts);
    },
  );
});
