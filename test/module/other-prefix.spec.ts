import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

describeDatabases('a start with another tablePrefix', (database) => {
  let fresh: FreshDatabase;
  let running: TestApp[];
  let warned: string[];

  const start = async (tablePrefix: string) => {
    const app = await startApp({ database: fresh.options, entities: [Parcel], webhooks: { tablePrefix } });
    running.push(app);
    return app;
  };
  const stop = async () => {
    for (const app of running.splice(0).toReversed()) await app.close();
  };
  const ofPrefix = () => warned.filter((text) => text.includes('prefix'));

  beforeEach(async () => {
    fresh = await database.create();
    running = [];
    warned = [];
    vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warned.push(String(text)));
  });
  afterEach(async () => {
    await stop();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  it('warns about pending events in the tables with the old prefix', async () => {
    const old = await start('old_');
    expect(ofPrefix()).toEqual([]);
    await old.listeners.create({ events: ['*'], url: old.receiver.url });
    await old.dataSource.getRepository(Parcel).save({ name: 'left' });
    await stop();
    await start('new_');
    expect(ofPrefix()).toEqual([
      expect.stringMatching(
        /^Besides the webhook tables with the prefix 'new_' there are tables with the prefix 'old_', which contain unsent events or deliveries/,
      ),
    ]);
  });

  it('does not warn about another instance that has sent everything, if this instance has listeners', async () => {
    const other = await start('other_');
    await other.listeners.create({ events: ['*'], url: other.receiver.url });
    const ours = await start('ours_');
    expect(ofPrefix()).toHaveLength(1);
    await ours.listeners.create({ events: ['*'], url: ours.receiver.url });
    await stop();
    warned = [];
    await start('ours_');
    expect(ofPrefix()).toEqual([]);
  });
});
