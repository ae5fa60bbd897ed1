import { afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { prepareProcesses, type DispatchingProcesses } from '../support/dispatching-process.js';
import { networked } from '../support/proxied-database.js';
import type { Host } from './network.js';
import { PATIENT, Site } from './site.js';

const HOUR = 60 * 60 * 1_000;
const TIMEOUT_MS = 240_000;
const { namespaces, redis } = inject('servers');

let processes: DispatchingProcesses;
beforeAll(async () => {
  processes = await prepareProcesses();
}, 120_000);

// Without root or iproute2 the end of the run says so; .ci/counts.mjs requires the suite.
describe.skipIf(namespaces !== true).each(networked)('a host whose link drops every packet ($name)', (database) => {
  let site: Site;
  let cut: Host;
  let other: Host;
  let release: () => void;

  beforeEach(async () => {
    release = () => undefined;
    site = await Site.open(processes, database, redis?.url);
    [cut, other] = [await site.network.addHost(), await site.network.addHost()];
    await site.app.listeners.create({ events: ['*'], url: site.receiverUrl, ordering: 'entity' });
  }, TIMEOUT_MS);
  afterEach(async () => {
    release();
    await site.close();
  });

  const counts = () => site.app.deliveries.counts();
  const untilSucceeded = async (succeeded: number) => {
    await expect.poll(counts, PATIENT).toMatchObject({ succeeded, due: 0, leased: 0 });
  };
  const requests = () => site.app.receiver.requests;
  const ids = () => requests().map(({ headers }) => String(headers['webhook-id']));
  const attempts = async () => {
    const { items } = await site.app.deliveries.list();
    const details = await Promise.all(items.map(({ id }) => site.app.deliveries.get(id)));
    return details.flatMap((one) => one.attempts);
  };

  /** The connections whose program has closed them, while the kernel still repeats a statement. Farewells are shorter. */
  const statementsInKernel = async () =>
    (await cut.connections(site.database)).filter((line) => {
      const [state, , unsent] = line.split(/\s+/);
      return state === 'FIN-WAIT-1' && Number(unsent) > 64;
    });

  it(
    'cut off from the database: another host takes over, repeats what was in flight under the same ids, and the host works again',
    { timeout: TIMEOUT_MS },
    async () => {
      const held = new Promise<void>((resolve) => (release = resolve));
      site.app.receiver.respond({ status: 204, delayUntil: held });
      await site.startWorker(cut, { dispatcher: { concurrency: 4, concurrencyPerListener: 4, timeoutMs: 6_000 } });
      for (let n = 0; n < 12; n++) await site.save(`parcel ${n}`);
      await site.app.receiver.waitFor(4, PATIENT);
      await cut.drop(site.database);
      const inFlight = ids();
      release();
      const second = await site.startWorker(other);
      await untilSucceeded(12);
      expect(new Set(ids()).size).toBe(12);
      const repeated = ids().filter((id, index, all) => all.indexOf(id) !== index);
      expect(repeated.toSorted()).toEqual([...new Set(repeated)].toSorted());
      expect(repeated).toEqual(expect.arrayContaining(inFlight));
      for (const { headers, rawBody } of requests())
        expect(requests().find((one) => one.headers['webhook-id'] === headers['webhook-id'])?.rawBody).toEqual(rawBody);

      // Otherwise the database would run them when the packets pass again, such as a claim for nobody.
      expect(await statementsInKernel()).toEqual([]);
      await second.stop();
      await cut.mend(site.database);
      await site.save('afterwards');
      await untilSucceeded(13);
      expect(ids()).toHaveLength(12 + repeated.length + 1);
      // So the log counts the repetitions: what the host sent under a lease that it lost decides nothing.
      await expect
        .poll(async () => (await attempts()).filter(({ superseded }) => superseded).length, PATIENT)
        .toBe(repeated.length);
    },
  );

  it(
    'cut off from database and receiver: its requests never arrive after later changes of their row',
    { timeout: TIMEOUT_MS },
    async () => {
      await site.startWorker(cut, { retryMs: 4_000, dispatcher: { timeoutMs: 1_000 } });
      const { id } = await site.save('first');
      await untilSucceeded(1);
      // The connection is still open, so the kernel takes the next request, and repeats its packets.
      await cut.drop(site.receiver);
      await site.save('second', id);
      await expect.poll(async () => (await attempts()).map(({ errorCode }) => errorCode), PATIENT).toContain('TIMEOUT');
      await cut.drop(site.database);
      await site.startWorker(other);
      await untilSucceeded(2);
      await site.save('third', id);
      await untilSucceeded(3);

      await cut.mend(site.receiver);
      const closing = async () => (await cut.connections(site.receiver)).filter((line) => !line.startsWith('ESTAB'));
      await expect.poll(closing, PATIENT).toEqual([]);
      expect(site.names()).toEqual(['first', 'second', 'third']);
    },
  );

  it(
    'cut off from the receivers only: other hosts send, nothing is lost, and the order is kept',
    { timeout: TIMEOUT_MS },
    async () => {
      await cut.drop(site.receiver);
      const dispatcher = {
        timeoutMs: 1_000,
        concurrency: 4,
        concurrencyPerListener: 4,
        circuit: { cooldownMs: 1_000 },
      };
      await site.startWorker(cut, { dispatcher, retryMs: 200 });
      await site.startWorker(other, { dispatcher, retryMs: 200 });
      const { id } = await site.save('0');
      for (let n = 1; n < 8; n++) await site.save(String(n), id);
      await untilSucceeded(8);
      expect(site.names()).toEqual(['0', '1', '2', '3', '4', '5', '6', '7']);
      await cut.mend(site.receiver);
    },
  );

  describe.skipIf(!redis)('cut off from Redis', () => {
    it('starts, and finds the work by its poll', { timeout: TIMEOUT_MS }, async () => {
      await cut.drop(site.redis);
      await site.startWorker(cut, { usesRedis: true });
      await site.save('by the poll');
      await untilSucceeded(1);
    });

    it('gets the wake-ups again when packets pass again', { timeout: TIMEOUT_MS }, async () => {
      // No poll helps it.
      await site.startWorker(cut, { usesRedis: true, dispatcher: { pollIntervalMs: HOUR } });
      await expect.poll(async () => (await cut.connections(site.redis)).length, PATIENT).toBeGreaterThan(0);
      await site.save('before');
      await untilSucceeded(1);
      await cut.drop(site.redis);
      await site.save('while it is cut off');
      await cut.mend(site.redis);
      await untilSucceeded(2);
      expect(ids()).toHaveLength(2);
    });
  });
});
