import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook, type WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ ordering: 'entity' })
@Entity('notice')
class Notice {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  text: string;
}

@Webhook()
@Entity('remark')
class Remark {
  @PrimaryGeneratedColumn()
  id: number;
}

/** More listeners than one page takes, so that there are two pages. */
const LISTENERS = 1_010;

describeDatabases('an event that very many listeners want', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const start = (webhooks: WebhooksModuleOptions = {}) =>
    startApp({ database: fresh.options, entities: [Notice, Remark], webhooks });
  beforeAll(async () => {
    fresh = await database.create();
    app = await start();
    for (let made = 0; made < LISTENERS; made += 101) {
      const urls = Array.from({ length: 101 }, (_, n) => `${app.receiver.url}/${made + n}`);
      await Promise.all(urls.map((url) => app.listeners.create({ entity: Notice, url })));
    }
  }, 120_000);
  afterEach(() => app.receiver.clear());
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const save = (notice: Partial<Notice>) => app.dataSource.manager.save(Notice, notice);
  const received = () => app.receiver.requests.map(({ json }) => (json as { data: { text?: string } }).data.text);

  /** Ids of the listeners that an event was delivered to. */
  async function receiversOf(eventId: string): Promise<string[]> {
    const ids: string[] = [];
    let cursor: string | null | undefined;
    while (cursor !== null) {
      const page = await app.deliveries.list({
        eventId,
        state: 'succeeded',
        limit: 500,
        ...(cursor ? { cursor } : {}),
      });
      ids.push(...page.items.map(({ listenerId }) => listenerId));
      cursor = page.next;
    }
    return ids;
  }

  it('reaches each of them once', async () => {
    await save({ text: 'hello' });
    await app.dispatcher.drain();
    expect(received()).toHaveLength(LISTENERS);
    const eventId = String(app.receiver.requests[0]?.headers['webhook-id']);
    const ids = await receiversOf(eventId);
    expect(ids).toHaveLength(LISTENERS);
    expect(new Set(ids).size).toBe(LISTENERS);
  });

  it('delays no later event', async () => {
    await app.listeners.create({ entity: Remark, url: `${app.receiver.url}/remarks` });
    await save({ text: 'hello' });
    await app.dataSource.manager.save(Remark, {});
    await app.dispatcher.runOnce();
    expect(app.receiver.requests.filter(({ url }) => url.endsWith('/remarks'))).toHaveLength(1);
    expect(received().length).toBeLessThan(LISTENERS);
    await app.dispatcher.drain();
    expect(received()).toHaveLength(LISTENERS + 1);
  });

  it('is continued by another process where the first one stopped', async () => {
    await save({ text: 'hello' });
    await app.dispatcher.runOnce();
    expect(received().length).toBeLessThan(LISTENERS);
    const second = await start();
    try {
      await second.dispatcher.drain();
    } finally {
      await second.close();
    }
    const eventId = String(app.receiver.requests[0]?.headers['webhook-id']);
    const ids = await receiversOf(eventId);
    expect(ids).toHaveLength(LISTENERS);
    expect(new Set(ids).size).toBe(LISTENERS);
    expect(received()).toHaveLength(LISTENERS);
  });

  it('arrives before the next event of its row at every ordered listener', async () => {
    const notice = await save({ text: 'first' });
    await save({ ...notice, text: 'second' });
    await app.dispatcher.drain();
    const textsAt = new Map<string, unknown[]>();
    for (const { url, json } of app.receiver.requests) {
      textsAt.set(url, [...(textsAt.get(url) ?? []), (json as { data: { text: string } }).data.text]);
    }
    expect(textsAt.size).toBe(LISTENERS);
    expect([...textsAt.values()].filter(([first, second]) => first !== 'first' || second !== 'second')).toEqual([]);
    expect(received()).toHaveLength(2 * LISTENERS);
  });
});
