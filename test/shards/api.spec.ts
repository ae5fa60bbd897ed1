import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPair, PAIRS, type TestShard } from './sharded-app.js';
import { startShardedApi, type ShardedApi } from './sharded-api.js';

const OPERATOR = { as: 'operator' } as const;
/** The lists that owners may read. */
const LISTS = ['/listeners', '/deliveries', '/events', '/tasks'];

interface Listed {
  id: string;
  owner: string | null;
  shard?: string;
  createdAt: string;
}

describe.each(PAIRS)('one API over two shards (%s)', (_, eu, us) => {
  let pair: Awaited<ReturnType<typeof createPair>>;
  let api: ShardedApi;
  beforeAll(async () => {
    pair = await createPair(eu, us);
    api = await startShardedApi({ databases: pair.options });
  });
  afterAll(async () => {
    await api?.close();
    await pair?.drop();
  });

  const listen = (shard: TestShard, owner: string | null) =>
    shard.listeners.create({ ...(owner === null ? {} : { owner }), events: ['order.*'], url: api.receiver.url });

  /** Every item of a list, page by page. @param between runs between two pages */
  async function read(path: string, as: string, between?: () => Promise<unknown>): Promise<Listed[]> {
    const items: Listed[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const page = `${path}${path.includes('?') ? '&' : '?'}${cursor && `cursor=${encodeURIComponent(cursor)}`}`;
      const { status, body } = await api.call('GET', page, { as });
      expect([path, status]).toEqual([path, 200]);
      items.push(...(body.items as Listed[]));
      cursor = body.next as string | null;
      if (cursor !== null) await between?.();
    }
    return items;
  }

  it('shows an owner only rows of the owner in the shard of the owner, whatever is stored elsewhere', async () => {
    const owners = ['eu-a', 'eu-b', 'us-a', 'us-b'];
    const writes = fc.array(fc.tuple(fc.constantFrom('eu', 'us'), fc.constantFrom(...owners)), { maxLength: 6 });
    const property = fc.asyncProperty(writes, async (given) => {
      for (const [name, owner] of given) {
        const shard = name === 'eu' ? api.eu : api.us;
        const { id: listenerId } = await listen(shard, owner);
        await shard.order(owner);
        await shard.tasks.forOwner(owner).create({ kind: 'discard', listenerId });
      }
      for (const owner of owners) {
        const { listeners, deliveries, events, tasks } = await api.shards.forOwner(owner);
        const own = [listeners, deliveries, events, tasks].map(
          async (service) => (await service.list({ limit: 500 })).items,
        );
        for (const [n, path] of LISTS.entries()) {
          const expected = ((await own[n]) as unknown as Listed[]).map(({ id }) => id);
          const shown = await read(`${path}?limit=200`, owner);
          expect(shown.map(({ id }) => id)).toEqual(expected);
          expect(shown.every((item) => item.owner === owner && !('shard' in item))).toBe(true);
        }
      }
    });
    await fc.assert(property, { numRuns: 6 });
  });

  it('ignores a shard that an owner names', async () => {
    await listen(api.us, 'us-named');
    expect(await read('/listeners?shard=eu', 'us-named')).toEqual(await read('/listeners', 'us-named'));
    expect(await read('/listeners', 'us-named')).toHaveLength(1);
  });

  it('answers an owner of one shard as it answers an unknown id, for ids of the other shard', async () => {
    const { id } = await listen(api.eu, 'eu-1');
    const unknown = `${id.slice(0, -4)}0000`;
    const [foreign, none] = await Promise.all(
      [id, unknown].map((one) => api.call('GET', `/listeners/${one}`, { as: 'us-1' })),
    );
    expect([foreign?.status, foreign?.body.code]).toEqual([404, 'LISTENER_NOT_FOUND']);
    expect(none?.status).toBe(404);
  });

  it('refuses an owner without a shard', async () => {
    const { status, body } = await api.call('GET', '/listeners', { as: 'nowhere' });
    expect([status, body.code]).toEqual([404, 'OWNER_WITHOUT_SHARD']);
  });

  it.each(['/listeners', '/events', '/deliveries', '/audit'])(
    '%s has each row of both shards once, newest first, while rows are written',
    async (list) => {
      const since = list === '/listeners' ? '' : `&since=${new Date(api.clock.now()).toISOString()}`;
      const { id } = await listen(api.eu, 'eu-pages');
      const { id: other } = await listen(api.us, 'us-pages');
      const write = async (shard: TestShard, owner: string) => {
        api.clock.advance(7);
        await Promise.all([listen(shard, `${owner}-more`), shard.order(owner)]);
        await shard.listeners.withActor('ann').update(owner === 'eu-pages' ? id : other, { name: `${Math.random()}` });
      };
      for (let n = 0; n < 5; n++) await Promise.all([write(api.eu, 'eu-pages'), write(api.us, 'us-pages')]);
      const before = await read(`${list}?limit=200${since}`, 'operator');
      const paged = await read(`${list}?limit=3${since}`, 'operator', () =>
        Promise.all([write(api.eu, 'eu-pages'), write(api.us, 'us-pages')]),
      );
      const keyOf = (item: Listed) => JSON.stringify(list === '/audit' ? item : [item.id, item.shard]);
      const keys = paged.map(keyOf);
      expect(new Set(keys).size).toBe(keys.length);
      for (const item of before) expect(keys).toContain(keyOf(item));
      const times = paged.map((item) => Date.parse((item as { at?: string }).at ?? item.createdAt));
      expect(times).toEqual(times.toSorted((a, b) => b - a));
      expect(new Set(paged.map(({ shard }) => shard))).toEqual(new Set(['eu', 'us']));
    },
  );

  it('refuses a cursor of another list', async () => {
    for (const cursor of [
      'x',
      Buffer.from('{"asia":"x"}').toString('base64url'),
      Buffer.from('[1]').toString('base64url'),
    ]) {
      const { status, body } = await api.call('GET', `/listeners?cursor=${cursor}`, OPERATOR);
      expect([status, body.code]).toEqual([400, 'INVALID_CURSOR']);
    }
  });

  it('finds the shard of an id for an operator, and writes there', async () => {
    const { id } = await listen(api.us, 'us-ids');
    const found = await api.call('GET', `/listeners/${id}`, OPERATOR);
    expect([found.status, found.body.shard]).toEqual([200, 'us']);
    const changed = await api.call('PATCH', `/listeners/${id}`, { ...OPERATOR, body: { name: 'changed' } });
    expect([changed.status, changed.body.shard]).toEqual([200, 'us']);
    expect((await api.us.listeners.get(id)).name).toBe('changed');
    const sent = await api.call('POST', `/listeners/${id}/test`, { ...OPERATOR, body: {} });
    expect(sent.status).toBe(202);
    await api.us.dispatcher.drain();
    const delivery = await api.call('GET', `/deliveries/${sent.body.deliveryId}`, OPERATOR);
    expect([delivery.status, delivery.body.shard, delivery.body.state]).toEqual([200, 'us', 'succeeded']);
    expect((await api.call('DELETE', `/listeners/${id}`, OPERATOR)).status).toBe(204);
    expect((await api.call('GET', `/listeners/${id}`, OPERATOR)).status).toBe(404);
    expect((await api.call('GET', '/listeners/lst_unknown', OPERATOR)).body.code).toBe('LISTENER_NOT_FOUND');
  });

  it('lists the history of a row from the shard of its event, and why a listener there did not get the event', async () => {
    await api.us.order('us-history');
    const { id } = await listen(api.us, 'us-history');
    const [event] = await read('/events', 'us-history');
    const history = await api.call('GET', `/events?sameRowAs=${event?.id}`, OPERATOR);
    expect(history.body.items).toMatchObject([{ id: event?.id, shard: 'us' }]);
    const skipped = await api.call('GET', `/events/${event?.id}/skipped-listeners?listenerId=${id}`, OPERATOR);
    expect(skipped.body.items).toMatchObject([{ listenerId: id, shard: 'us' }]);
  });

  it('creates a listener in the shard of its owner, or in the shard that the operator names', async () => {
    const body = { events: ['order.*'], url: api.receiver.url };
    const create = async (query: string, more: object = {}) => {
      const answer = await api.call('POST', `/listeners${query}`, { ...OPERATOR, body: { ...body, ...more } });
      if (answer.status === 201) await api.us.listeners.remove(answer.body.id as string);
      return [answer.status, answer.body.shard ?? answer.body.code];
    };
    expect(await create('', { owner: 'us-new' })).toEqual([201, 'us']);
    expect(await create('?shard=us')).toEqual([201, 'us']);
    expect(await create('')).toEqual([400, 'SHARD_REQUIRED']);
    expect(await create('?shard=eu', { owner: 'us-new' })).toEqual([400, 'INVALID_REQUEST']);
    expect(await create('?shard=asia')).toEqual([400, 'UNKNOWN_SHARD']);
    expect(await create('', { owner: 'nowhere' })).toEqual([404, 'OWNER_WITHOUT_SHARD']);
  });

  it('repeats the answer of a request with the same key, in the shard of the owner', async () => {
    const body = { owner: 'us-key', events: ['order.*'], url: api.receiver.url };
    const headers = { 'idempotency-key': 'once' };
    const [first, again] = [
      await api.call('POST', '/listeners', { ...OPERATOR, body, headers }),
      await api.call('POST', '/listeners', { ...OPERATOR, body, headers }),
    ];
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(again.body).toEqual(first.body);
    expect((await api.us.listeners.forOwner('us-key').list()).items).toHaveLength(1);
  });

  it('creates a task in the shard of the listener or the owner that it names', async () => {
    const { id: listenerId } = await listen(api.us, 'us-task');
    const create = async (body: object, query = '') => {
      const answer = await api.call('POST', `/tasks${query}`, { ...OPERATOR, body: { kind: 'discard', ...body } });
      return [answer.status, answer.body.shard ?? answer.body.code];
    };
    expect(await create({ listenerId })).toEqual([202, 'us']);
    expect(await create({ owner: 'eu-task' })).toEqual([202, 'eu']);
    expect(await create({ types: ['order.created'], dryRun: true }, '?shard=us')).toEqual([200, 'us']);
    expect(await create({ types: ['order.created'] })).toEqual([400, 'SHARD_REQUIRED']);
  });

  it('adds up the overview and the statistics, and keeps those of an owner apart', async () => {
    const statsOf = async (as: string, query = '') => (await api.call('GET', `/stats${query}`, { as })).body;
    const before = (await statsOf('operator')).totals.accepted as number;
    await Promise.all([listen(api.eu, 'eu-stats'), listen(api.us, 'us-stats')]);
    await Promise.all([api.eu.order('eu-stats'), api.us.order('us-stats'), api.us.order('us-stats')]);
    const all = await statsOf('operator');
    expect([all.totals.accepted - before, all.missing]).toEqual([3, []]);
    expect((await statsOf('us-stats')).totals.accepted).toBe(2);
    const [eu, us] = [await statsOf('operator', '?shard=eu'), await statsOf('operator', '?shard=us')];
    expect(eu.totals.accepted + us.totals.accepted).toBe(all.totals.accepted);
    for (const by of ['listener', 'type', 'error']) {
      const { series, totals } = await statsOf('operator', `?by=${by}`);
      expect([by, totals]).toEqual([by, all.totals]);
      expect(series.length).toBeLessThanOrEqual(11);
    }

    const { id } = await listen(api.us, 'us-off');
    await api.us.listeners.disable(id, 'for the test');
    const overviews = await Promise.all(
      ['', '?shard=eu', '?shard=us'].map((query) => api.call('GET', `/overview${query}`, OPERATOR)),
    );
    const [sum, one, other] = overviews.map(({ body }) => body.disabled as number);
    expect([sum, other]).toEqual([Number(one) + Number(other), expect.any(Number)]);
    expect(other).toBeGreaterThan(0);
  });

  it('pauses and resumes the sending of all shards, or of one', async () => {
    const sending = async () => [(await api.eu.system.sending()).paused, (await api.us.system.sending()).paused];
    const put = (query: string, paused: boolean) =>
      api.call('PUT', `/sending${query}`, { ...OPERATOR, body: { paused } });
    const both = await put('', true);
    expect([both.status, both.body.paused, both.body.shards]).toMatchObject([
      200,
      true,
      [{ shard: 'eu' }, { shard: 'us' }],
    ]);
    expect(await sending()).toEqual([true, true]);
    await put('?shard=eu', false);
    expect(await sending()).toEqual([false, true]);
    expect((await api.call('GET', '/overview', OPERATOR)).body.paused).toBe(true);
    await put('', false);
    expect(await sending()).toEqual([false, false]);
  });

  it('names the shard of chores, and needs it for an image, whose number is not unique', async () => {
    await Promise.all([api.eu.dispatcher.runChores(), api.us.dispatcher.runChores()]);
    const { items } = (await api.call('POST', '/chores/run', OPERATOR)).body;
    expect(new Set(items.map(({ shard }: Listed) => shard))).toEqual(new Set(['eu', 'us']));
    const retried = await api.call('POST', '/damaged/img_1/retry', { ...OPERATOR, body: {} });
    expect([retried.status, retried.body.code]).toEqual([400, 'SHARD_REQUIRED']);
    const named = await api.call('POST', '/damaged/img_1/retry?shard=us', { ...OPERATOR, body: {} });
    expect([named.status, named.body.code]).toEqual([404, 'DAMAGED_NOT_FOUND']);
  });

  it('tests a filter on the events of all shards, or of the shard of an owner', async () => {
    await Promise.all([api.eu.order('eu-preview'), api.us.order('us-preview', 'rare')]);
    const preview = async (body: object) => {
      const answer = await api.call('POST', '/listeners/preview', {
        ...OPERATOR,
        body: { events: ['order.*'], ...body },
      });
      return answer.body as { examined: number; matched: number };
    };
    expect((await preview({ where: { status: 'rare' } })).matched).toBe(1);
    expect(await preview({ owner: 'us-preview' })).toMatchObject({ examined: 1, matched: 1 });
  });

  it('says which shards there are, only to operators', async () => {
    expect((await api.call('GET', '/me', OPERATOR)).body.shards).toEqual(['eu', 'us']);
    const { body } = await api.call('GET', '/me', { as: 'us-me' });
    expect(body).not.toHaveProperty('shards');
  });

  it('refuses revoked sessions of owners and operators in every shard', async () => {
    const create = async (session: object) =>
      (await api.call('POST', '/sessions', { ...OPERATOR, body: { can: [], ...session } })).body as {
        id: string;
        token: string;
      };
    const status = async ({ token }: { token: string }) =>
      (await api.call('GET', '/me', { headers: { authorization: `Bearer ${token}` } })).status;
    const sessions = [await create({ kind: 'owner', owner: 'us-session' }), await create({ kind: 'operator' })];
    for (const session of sessions) {
      expect(await status(session)).toBe(200);
      expect((await api.call('DELETE', `/sessions/${session.id}`, OPERATOR)).status).toBe(204);
      expect(await status(session)).toBe(401);
    }
    const other = await create({ kind: 'owner', owner: 'us-session' });
    api.clock.advance(1);
    expect((await api.call('DELETE', '/sessions?owner=us-session', OPERATOR)).status).toBe(204);
    expect(await status(other)).toBe(401);
  });
});
