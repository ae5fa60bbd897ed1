import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createWebhooksClient, type StreamEvent } from 'nestjs-entity-webhooks/client';
import { databases, type FreshDatabase, type TestDatabase } from '../support/databases.js';
import { createProxied, networked, type ProxiedDatabase } from '../support/proxied-database.js';
import { startShardedApi, type ShardedApi } from './sharded-api.js';

const OPERATOR = { as: 'operator' } as const;

// vitest fails a file without tests.
if (networked.length === 0)
  describe.skip('while the database of one shard is away (no server)', () => it('needs PostgreSQL'));

describe.each(networked.map((database) => [database.name, database] as const))(
  'while the database of one shard is away (%s)',
  (_, database) => {
    let away: ProxiedDatabase;
    let other: FreshDatabase;
    let api: ShardedApi;
    let ids: { eu: string; us: string };
    beforeAll(async () => {
      away = await createProxied(database);
      other = await (databases[0] as TestDatabase).create();
      api = await startShardedApi({ databases: { eu: away.proxied, us: other.options } });
      const listen = async (owner: string) =>
        (await (await api.shards.forOwner(owner)).listeners.create({ events: ['order.*'], url: api.receiver.url })).id;
      ids = { eu: await listen('eu-1'), us: await listen('us-1') };
      await api.eu.order('eu-1');
      await api.us.order('us-1');
      away.proxy.cut();
    });
    afterAll(async () => {
      away?.proxy.mend();
      await api?.close();
      await away?.drop();
      await other?.drop();
    });

    it.each(['/listeners', '/deliveries', '/events', '/tasks', '/audit', '/overview', '/stats', '/chores', '/sending'])(
      'GET %s has the rows of the other shard, and names the missing one',
      async (path) => {
        const { status, body } = await api.call('GET', path, OPERATOR);
        expect([status, body.missing]).toEqual([200, ['eu']]);
        if (path === '/deliveries') expect(body.items).toMatchObject([{ owner: 'us-1', shard: 'us' }]);
        if (path === '/stats') expect(body.totals.accepted).toBe(1);
      },
    );

    it('a list ends after the rows of the other shards', async () => {
      const { body } = await api.call('GET', '/listeners?limit=1', OPERATOR);
      const rest = body.next === null ? body : (await api.call('GET', `/listeners?cursor=${body.next}`, OPERATOR)).body;
      expect([rest.next, rest.missing]).toEqual([null, ['eu']]);
    });

    it('owners of the other shard notice nothing', async () => {
      const { status, body } = await api.call('GET', '/listeners', { as: 'us-1' });
      expect([status, body.items.map(({ id }: { id: string }) => id), body.missing]).toEqual([
        200,
        [ids.us],
        undefined,
      ]);
    });

    it('owners of the missing shard get 503, and the time to try again', async () => {
      const { status, headers, body } = await api.call('GET', '/listeners', { as: 'eu-1' });
      expect([status, body.code, headers.get('retry-after')]).toEqual([503, 'DATABASE_UNAVAILABLE', '5']);
    });

    it('an id of the other shard is found, and an unknown id may be in the missing shard', async () => {
      expect((await api.call('GET', `/listeners/${ids.us}`, OPERATOR)).status).toBe(200);
      expect((await api.call('GET', `/listeners/${ids.eu}`, OPERATOR)).status).toBe(503);
    });

    it('an operator can log in, and revokes a session only if every shard stores it', async () => {
      const session = { ...OPERATOR, body: { kind: 'operator', can: [] } };
      const { status, body } = await api.call('POST', '/sessions', session);
      const me = await api.call('GET', '/me', { headers: { authorization: `Bearer ${body.token}` } });
      expect([status, me.status]).toEqual([201, 200]);
      expect((await api.call('DELETE', `/sessions/${body.id}`, OPERATOR)).status).toBe(503);
    });

    it('streams of operators have the changes of the other shard, and those of the missing one when it is back', async () => {
      const client = createWebhooksClient({ url: `${api.origin}/webhooks/v1`, headers: { 'x-user': 'operator' } });
      const events: StreamEvent[] = [];
      const stop = new AbortController();
      const reading = (async () => {
        for await (const event of client.stream({}, { signal: stop.signal })) events.push(event);
      })().catch(() => undefined);
      const shardsOf = (kind: string) =>
        new Set(events.filter(({ event }) => event === kind).map(({ data }) => (data as { shard?: string }).shard));
      await vi.waitFor(() => {
        api.clock.advance(1_000);
        expect(events.some(({ event }) => event === 'overview')).toBe(true);
      }, 30_000);
      await api.us.order('us-1');
      await vi.waitFor(() => expect(shardsOf('delivery')).toEqual(new Set(['us'])), 30_000);
      away.proxy.mend();
      await vi.waitFor(() => api.eu.order('eu-1'), { timeout: 30_000, interval: 200 });
      await vi.waitFor(
        () => expect(events.some(({ event }) => event === 'reset') || shardsOf('delivery').has('eu')).toBe(true),
        30_000,
      );
      expect((await api.call('GET', '/listeners', OPERATOR)).body.missing).toEqual([]);
      stop.abort();
      await reading;
    }, 120_000);
  },
);
