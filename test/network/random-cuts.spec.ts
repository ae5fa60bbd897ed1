import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { buildWorkers, crashRun, DISPATCHER, PROCESSES, type CrashNetwork } from '../crash/crash-run.js';
import type { FreshDatabase } from '../support/databases.js';
import { networked } from '../support/proxied-database.js';
import type { Gateway } from './gateway.js';
import { ALLOWED, Network, type Direction } from './network.js';
import { serverOf, targetOf, through } from './site.js';

/** How long links break: 15 s in CI, and longer by hand. */
const SECONDS = Number(process.env.CRASH_SECONDS ?? 15);
/** `CRASH_SEED` repeats the random choices of a run, but not its timing. */
const SEED = Number(process.env.CRASH_SEED ?? randomInt(2 ** 31));
/** Some cuts are longer than a time limit of a request, a lease, and the time after which a silent database is left: 1.5, 4 and 6 s. */
const CUT_MS = { from: 200, to: 8_000 };
const DIRECTIONS: readonly Direction[] = ['both', 'requests', 'answers'];
const TIMEOUT_MS = SECONDS * 1_000 + 240_000;
const { namespaces } = inject('servers');

let program: string;
beforeAll(async () => {
  program = await buildWorkers();
}, 120_000);

describe.skipIf(namespaces !== true).each(networked)('hosts whose links break at random moments ($name)', (target) => {
  let fresh: FreshDatabase;
  beforeEach(async () => {
    fresh = await target.create();
  });
  afterEach(() => fresh.drop());

  /** Each process writes, and each but one sends, on a host of its own. */
  async function hosts(receiverUrl: string): Promise<CrashNetwork> {
    const network = await Network.create([targetOf(serverOf(fresh.options)), targetOf(receiverUrl)]);
    const [database, receiver] = [network.gateway(0), network.gateway(1)];
    const all = await Promise.all(Array.from({ length: PROCESSES }, () => network.addHost()));
    const oneOf = <T>(choices: readonly T[], random: () => number) =>
      choices[Math.floor(random() * choices.length)] as T;
    return {
      database: through(database, fresh.options),
      receiverUrl: `http://${receiver.address}:${receiver.port}/`,
      within: (host) => all[host]?.command ?? [],
      async disturb(index, random) {
        const host = all[index];
        const service: Gateway = oneOf([database, receiver], random);
        await host?.drop(service, 1, oneOf(DIRECTIONS, random));
        await pause(CUT_MS.from + random() * (CUT_MS.to - CUT_MS.from));
        await host?.mend(service);
      },
      remove: () => network.remove(),
    };
  }

  it(
    'lose no committed change, send none that was rolled back, keep the order, and repeat under the same id',
    async () => {
      const report = await crashRun(program, {
        database: fresh.options,
        seconds: SECONDS,
        seed: SEED,
        security: ALLOWED,
        network: hosts,
      });
      const { cuts, committed, wanted, duplicates, lost, ghosts, late, inconsistent, surprises } = report;
      console.log(
        `random cuts ${target.name}: seed ${SEED}, ${SECONDS} s, ${cuts} cuts, ${committed} changes committed, ` +
          `${wanted} deliveries, ${duplicates} duplicates`,
      );
      expect({ lost, ghosts, late, inconsistent, surprises }).toEqual({
        ...{ lost: [], ghosts: [], late: [], inconsistent: [], surprises: [] },
      });
      expect(cuts).toBeGreaterThanOrEqual(PROCESSES);
      expect(committed).toBeGreaterThan(SECONDS);
      // Each cut repeats at most the requests that one host had sent and not recorded.
      expect(duplicates).toBeLessThanOrEqual(cuts * (DISPATCHER.concurrency + DISPATCHER.eventsPerBatch));
    },
    TIMEOUT_MS,
  );
});
