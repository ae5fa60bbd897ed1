import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { TaskService } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import {
  Parcel,
  prepareProcesses,
  type DispatchingProcess,
  type DispatchingProcesses,
} from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

let processes: DispatchingProcesses;
beforeAll(async () => {
  processes = await prepareProcesses();
}, 120_000);

describeDatabases('a process killed with SIGKILL', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let writer: DispatchingProcess | undefined;

  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: [Parcel] });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
  });
  afterEach(async () => {
    await writer?.stop();
    await app.close();
    await fresh.drop();
  });

  async function startWriter(autoStart: boolean, more: { uncommitted?: string } = { uncommitted: 'uncommitted' }) {
    const webhooks = { dispatcher: { autoStart } };
    writer = await processes.start({ database: fresh.options, webhooks, saves: ['committed'], ...more });
  }

  const names = () => app.receiver.requests.map(({ json }) => (json as { data: { name: string } }).data.name);

  it('between commit and send loses no event, and never sends uncommitted changes', async () => {
    await startWriter(false);
    await writer?.stop();
    await app.dispatcher.drain();
    expect(names()).toEqual(['committed']);
  });

  it('between send and record makes one more attempt under the same id, once its lease has expired', async () => {
    let release = () => undefined as void;
    app.receiver.respond([
      { status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) },
      { status: 204 },
    ]);
    await startWriter(true);
    await app.receiver.waitFor(1);
    await writer?.stop();
    release();
    await app.dispatcher.drain();
    expect(names()).toEqual(['committed']);
    app.clock.set(Date.now() + 61_000);
    await app.dispatcher.drain();
    expect(names()).toEqual(['committed', 'committed']);
    expect(app.receiver.requests[0]?.headers['webhook-id']).toBe(app.receiver.requests[1]?.headers['webhook-id']);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, leased: 0 });
  });

  it(
    'in the middle of a task leaves the rest to another process, which repeats nothing',
    { timeout: 40_000 },
    async () => {
      const [listener] = (await app.listeners.list()).items;
      await app.listeners.disable(listener?.id ?? '');
      await app.dataSource.getRepository(Parcel).save(Array.from({ length: 6 }, (_, n) => ({ name: `parcel ${n}` })));
      await app.dispatcher.drain();
      const tasks = app.app.get(TaskService);
      const { id } = await tasks.create({ kind: 'discard', states: ['held'], ratePerSecond: 2 });
      // SQLite has one writer at a time, so the other process leaves no transaction open.
      await startWriter(true, {});
      await expect
        // The other process creates its tables, and SQLite then locks the whole file for a moment.
        .poll(async () => (await tasks.get(id).catch(() => ({ done: 0 }))).done, { timeout: 20_000 })
        .toBeGreaterThan(0);
      await writer?.stop();
      const killed = await tasks.get(id);
      expect(killed.state).toBe('running');
      app.clock.set(Date.now() + 61_000);
      expect(await tasks.run(id)).toMatchObject({ state: 'done', done: 6, startedAt: killed.startedAt });
      expect((await app.deliveries.counts()).discarded).toBe(6);
    },
  );
});
