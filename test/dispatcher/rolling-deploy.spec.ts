import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { SignatureScheme, SystemService, type DispatcherOptions } from 'nestjs-entity-webhooks';
import { describeOn, type FreshDatabase, type TestDatabase } from '../support/databases.js';
import {
  Parcel,
  prepareProcesses,
  type DispatchingProcess,
  type DispatchingProcesses,
  type WorkerProcessOptions,
} from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

/** Another process starts in this time, on a busy machine, too. */
const PATIENT = { timeout: 60_000, timeoutMs: 60_000 };
/** Longer than the test, so that no lease that expires helps. */
const LEASES: DispatcherOptions = { pollIntervalMs: 50, leaseMs: 10 * 60_000 };
/** Small against the work of one version, so that every version works. */
const MOST_UNSENT = 100;
const PARCELS_PER_SAVE = 10;
/** One of so many requests fails, so that deliveries are retried across versions. */
const FAILING = 7;

type Version = Omit<WorkerProcessOptions, 'database'>;
const OLD: Version = {
  webhooks: { dispatcher: { ...LEASES, concurrency: 4, concurrencyPerListener: 3, eventsPerBatch: 10 } },
  retryMs: 100,
  schemes: ['own-a'],
};
const NEW: Version = {
  webhooks: { dispatcher: { ...LEASES, concurrency: 24, concurrencyPerListener: 8, eventsPerBatch: 100 } },
  retryMs: 400,
  schemes: ['own-b', 'own-a'],
};

/** The old version comes back once, as after a deploy that was taken back. */
const REPLACEMENTS = [NEW, OLD, NEW];

class OwnA extends SignatureScheme {
  readonly name: string = 'own-a';

  sign(): never {
    throw new Error('This process does not send.');
  }

  verify(): never {
    throw new Error('No receiver of this test verifies.');
  }
}
class OwnB extends OwnA {
  override readonly name = 'own-b';
}

let processes: DispatchingProcesses;
beforeAll(async () => {
  processes = await prepareProcesses();
}, 120_000);

// One driver for each server: the drivers share their SQL. SQLite has one writer at a time, so there is no load.
for (const name of ['postgres', 'mariadb'] as const) {
  describeOn(name, 'two versions of a worker that replace one another under load', suite);
}

function suite(database: TestDatabase): void {
  let fresh: FreshDatabase;
  let app: TestApp;
  let running: DispatchingProcess[];
  const answered = new Map<string, number>();
  const saved: string[] = [];

  beforeEach(async () => {
    running = [];
    saved.length = 0;
    answered.clear();
    fresh = await database.reuse();
    const parts = { signatureSchemes: [OwnA, OwnB] };
    app = await startApp({ database: fresh.options, entities: [Parcel], webhooks: { parts } });
    app.receiver.respond(({ json, url }, index) => {
      if (index % FAILING === 0) return { status: 500 };
      const delivery = `${url} ${(json as { data: { name: string } }).data.name}`;
      answered.set(delivery, (answered.get(delivery) ?? 0) + 1);
      return { status: 204 };
    });
  });
  afterEach(async () => {
    for (const one of running) await one.stop();
    await app.close();
    await fresh.drop();
  });

  const listen = (path: string, schemes: string[]) =>
    app.listeners.create({ events: ['*'], url: new URL(path, app.receiver.url).href, schemes });

  async function start(version: Version): Promise<DispatchingProcess> {
    const worker = await processes.startWorker({ database: fresh.options, ...version });
    running.push(worker);
    return worker;
  }

  /** The new process runs before the old one ends, as in a rolling deploy. */
  async function replace(old: DispatchingProcess, version: Version): Promise<DispatchingProcess> {
    const next = await start(version);
    old.kill('SIGTERM');
    expect(await old.ended).toEqual([null, 'SIGTERM']);
    return next;
  }

  async function save(): Promise<void> {
    const names = Array.from({ length: PARCELS_PER_SAVE }, (_, n) => `parcel ${saved.length + n}`);
    await app.dataSource.getRepository(Parcel).save(names.map((name) => ({ name })));
    saved.push(...names);
  }

  async function unfinished(): Promise<object> {
    const { pending: events } = await app.app.get(SystemService).overview();
    const { due, leased } = await app.deliveries.counts();
    return { events, due, leased };
  }

  async function expectEachOnce(paths: readonly string[], names: readonly string[]): Promise<void> {
    const wanted = paths.flatMap((path) => names.map((name) => `${path} ${name}`));
    const lost = () => wanted.filter((delivery) => !answered.has(delivery));
    await expect.poll(lost, PATIENT).toEqual([]);
    // A request that repeats another one would come before nothing is pending.
    await expect.poll(unfinished, PATIENT).toEqual({ events: 0, due: 0, leased: 0 });
    expect(wanted.filter((delivery) => answered.get(delivery) !== 1)).toEqual([]);
  }

  it(
    'lose nothing and send nothing twice, and a scheme that only the new version has is used when the old one has ended',
    { timeout: 300_000 },
    async () => {
      await listen('/standard', ['standard']);
      await listen('/own-a', ['standard', 'own-a']);
      let worker = await start(OLD);
      const state = { isWriting: true };
      const writing = (async () => {
        for (; state.isWriting; await save()) await app.receiver.waitFor(2 * saved.length - MOST_UNSENT, PATIENT);
      })();
      for (const version of REPLACEMENTS) {
        worker = await replace(worker, version);
        await app.receiver.waitFor(app.receiver.requests.length + MOST_UNSENT, PATIENT);
      }
      state.isWriting = false;
      await writing;
      await expectEachOnce(['/standard', '/own-a'], saved);
      const { processes: rows } = await app.app.get(SystemService).overview();
      expect(rows.map(({ concurrency }) => concurrency)).toEqual([24]);

      await listen('/own-b', ['own-b']);
      const [first, second] = [saved.length, await save().then(() => saved.length)];
      await expectEachOnce(['/standard', '/own-a', '/own-b'], saved.slice(first, second));
      for (const { url: path, headers } of app.receiver.requests) {
        expect([path, headers['x-own-a'], headers['x-own-b']]).toEqual([
          path,
          path === '/own-a' ? 'signed' : undefined,
          path === '/own-b' ? 'signed' : undefined,
        ]);
      }
    },
  );
}
