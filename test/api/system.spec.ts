import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Order, startApiApp, type Answer, type ApiApp } from './api-app.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

describeDatabases('the routes about the whole system', (database) => {
  let fresh: FreshDatabase;
  let api: ApiApp;
  let orderId = 0;

  beforeAll(async () => {
    fresh = await database.create();
    api = await startApiApp({
      database: fresh.options,
      api: { limits: { writesPerMinute: 100_000, readsPerMinute: 100_000, previewsPerMinute: 100_000 } },
    });
  });
  afterAll(async () => {
    await api.close();
    await fresh.drop();
  });

  const get = async (path: string, as = 'operator'): Promise<Answer['body']> => {
    const { status, body } = await api.call('GET', path, { as });
    expect([path, status]).toEqual([path, 200]);
    return body;
  };
  const order = async (customer: string) => {
    orderId += 1;
    await api.dataSource.getRepository(Order).save({ id: orderId, customer, status: 'new' });
  };

  it('count what is pending, for operators of everybody and for owners their own', async () => {
    const { id } = await api.listeners.create({
      owner: 'acme',
      events: ['order.*'],
      url: `${api.receiver.url}?token=s`,
    });
    const { id: other } = await api.listeners.create({ owner: 'globex', events: ['order.*'], url: api.receiver.url });
    await api.listeners.disable(other);
    api.receiver.respond({ status: 500 });
    await order('acme');
    await order('globex');
    await api.dispatcher.drain();
    await order('acme');
    api.clock.advance(MINUTE);
    const ofOperator = await get('/overview');
    expect(ofOperator).toEqual({
      outboxLagMs: MINUTE,
      queueLagMs: expect.any(Number) as number,
      ...{ pending: 1, due: 1, retrying: 0, held: 1, exhausted24h: 0, disabled: 1, paused: false },
      ...{ pause: null, processes: [] },
      failing: [
        {
          ...{ id, url: api.receiver.url, name: null, owner: 'acme', state: 'active', failuresInARow: 1 },
          ...{ failingSince: expect.any(String) as string, pausedUntil: null, lastErrorCode: 'HTTP_STATUS' },
        },
      ],
    });
    expect(await get('/overview', 'acme')).toEqual({
      ...ofOperator,
      ...{ queueLagMs: 50 * SECOND, held: 0, disabled: 0 },
    });
    expect(await get('/overview', 'globex')).toMatchObject({
      ...{ outboxLagMs: 0, queueLagMs: 0, pending: 0, due: 0, held: 1, failing: [], disabled: 1 },
    });
    expect(await get('/overview', 'nobody')).toMatchObject({ pending: 0, due: 0, held: 0, failing: [], disabled: 0 });
    expect((await get(`/listeners/${id}`)).health).toMatchObject({ circuit: 'closed', failuresInARow: 1, waiting: 1 });
    const listed = await get('/listeners', 'globex');
    expect(listed.items.map((one: Answer['body']) => one.health.waiting)).toEqual([1]);
    for (const one of [id, other]) await api.listeners.remove(one);
    api.receiver.respond({ status: 204 });
    await api.dispatcher.drain();
  });

  it('count exhausted deliveries of the last 24 hours', async () => {
    const { id } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    api.receiver.respond({ status: 500 });
    await order('acme');
    for (let attempt = 0; attempt < 10; attempt++) {
      await api.dispatcher.drain();
      api.clock.advance(2 * MINUTE);
      const [delivery] = (await api.deliveries.list({ listenerId: id })).items;
      if (delivery?.state === 'exhausted') break;
      api.clock.advance(Math.max(0, Number(delivery?.nextAttemptAt) - api.clock.now()));
    }
    api.receiver.respond({ status: 204 });
    // The attempts took three days, so the delivery is older than a day.
    expect(await get('/overview')).toMatchObject({ exhausted24h: 0 });
    await api.listeners.remove(id);
  });

  it('say when a circuit is open, and when the next request decides', async () => {
    const { id } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    api.receiver.respond({ status: 500 });
    for (let n = 0; n < 10; n++) await order('acme');
    await api.dispatcher.drain();
    expect((await get(`/listeners/${id}`)).health).toMatchObject({
      ...{ circuit: 'open', failuresInARow: 10, waiting: 10, pausedUntil: expect.any(String) as string },
    });
    api.clock.advance(MINUTE);
    expect((await get(`/listeners/${id}`, 'acme')).health).toMatchObject({ circuit: 'probing', pausedUntil: null });
    api.receiver.respond({ status: 204 });
    await api.listeners.remove(id);
  });

  it('pause and resume sending, for operators only', async () => {
    const ON = { paused: false, reason: null, since: null, actor: null };
    expect(await get('/sending')).toEqual(ON);
    const put = (as: string, body: object) => api.call('PUT', '/sending', { as, body });
    for (const body of [{ paused: true }, {}]) {
      expect(await put('acme', body)).toMatchObject({ status: 403, body: { code: 'CAPABILITY_MISSING' } });
    }
    expect(await api.call('GET', '/sending', { as: 'acme' })).toMatchObject({ status: 403 });
    for (const body of [{}, { paused: 'true' }, { paused: true, reason: '' }, { paused: true, until: 1 }])
      expect(await put('operator', body)).toMatchObject({ status: 400 });
    expect(await put('operator', { paused: true, reason: ' ' })).toMatchObject({
      ...{ status: 400, body: { code: 'INVALID_REASON' } },
    });
    expect(await get('/sending')).toEqual(ON);

    const paused = {
      paused: true,
      reason: 'a leak',
      since: new Date(api.clock.now()).toJSON(),
      actor: 'op@example.test',
    };
    expect(await put('operator', { paused: true, reason: 'a leak' })).toMatchObject({ status: 200, body: paused });
    expect(await get('/sending')).toEqual(paused);
    const { since, reason, actor } = paused;
    expect(await get('/overview')).toMatchObject({ paused: true, pause: { since, reason, actor } });
    // The reason and the name are for operators.
    expect(await get('/overview', 'acme')).toMatchObject({ paused: true, pause: { since, reason: null, actor: null } });
    expect(await put('operator', { paused: false })).toMatchObject({ status: 200, body: { paused: false } });
    for (const as of ['operator', 'acme'])
      expect(await get('/overview', as)).toMatchObject({ paused: false, pause: null });
  });

  it('count attempts by outcome and duration, of everybody and of one listener', async () => {
    const before = (await get('/stats')).totals;
    const beforeAcme = (await get('/stats', 'acme')).totals;
    const { id } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    const { id: other } = await api.listeners.create({ owner: 'globex', events: ['order.*'], url: api.receiver.url });
    for (const customer of ['acme', 'globex']) await order(customer);
    await api.dispatcher.drain();
    api.receiver.respond({ status: 500 });
    await order('acme');
    await api.dispatcher.drain();
    expect((await get(`/listeners/${id}`, 'acme')).health).toMatchObject({
      failuresInARow: 1,
      lastErrorCode: 'HTTP_STATUS',
    });
    api.receiver.respond({ status: 204 });
    const { step, series, totals } = await get(`/listeners/${id}/stats`, 'acme');
    expect(totals).toMatchObject({ accepted: 1, rejected: 1, unreachable: 0, blocked: 0, exhausted: 0 });
    expect(totals.p50).toBeGreaterThanOrEqual(0);
    expect(totals.p95).toBeGreaterThanOrEqual(totals.p50);
    expect([step, series.length, series[0].key]).toEqual(['5m', 1, 'all']);
    const startsAt = Math.floor(api.clock.now() / (5 * MINUTE)) * 5 * MINUTE;
    const points = series[0].points.filter((point: number[]) => point[1] || point[2]);
    expect(points).toEqual([[startsAt, 1, 1, 0, 0, totals.p50, totals.p95]]);
    expect(series[0].points).toHaveLength(24 * 12 + (api.clock.now() % (5 * MINUTE) ? 1 : 0));
    expect((await get('/stats')).totals.accepted - before.accepted).toBe(2);
    expect((await get('/stats', 'acme')).totals.accepted - beforeAcme.accepted).toBe(1);
    expect(await api.call('GET', `/listeners/${other}/stats`, { as: 'acme' })).toMatchObject({ status: 404 });
    expect((await get(`/listeners/${id}`)).health.lastAcceptedAt).toBe(new Date(api.clock.now()).toJSON());
    for (const query of [
      'step=2m',
      'by=entity',
      'since=2026-01-01T00:00:00Z&step=1h',
      'until=2020-01-01T00:00:00Z&since=2021-01-01T00:00:00Z',
    ])
      expect(await api.call('GET', `/stats?${query}`, { as: 'acme' })).toMatchObject({ status: 400 });
    for (const one of [id, other]) await api.listeners.remove(one);
  });

  it('count the attempts of the busiest listeners apart, and those of all others together', async () => {
    api.clock.advance(DAY);
    const since = new Date(api.clock.now()).toJSON();
    const ids: string[] = [];
    for (let n = 0; n < 12; n++) {
      const { id } = await api.listeners.create({
        ...{ owner: n ? 'busy' : 'quiet', url: api.receiver.url },
        ...{ events: [n % 2 ? 'order.*' : 'order.created'] },
      });
      ids.push(id);
    }
    for (const customer of ['busy', 'busy', 'quiet']) await order(customer);
    const updated = await api.dataSource.getRepository(Order).findOneByOrFail({ customer: 'busy' });
    await api.dataSource.getRepository(Order).save({ ...updated, status: 'paid' });
    await api.dispatcher.drain();
    api.clock.advance(5 * MINUTE);
    const stats = async (path: string, as: string) => {
      const { series, totals, step } = await get(`${path}?since=${since}&by=listener`, as);
      const counts = series.map(({ key, points }: Answer['body']) => [
        key,
        points.reduce((sum: number, [, accepted]: number[]) => sum + Number(accepted), 0),
      ]);
      return { step, counts, accepted: totals.accepted };
    };
    // Those with odd numbers got the update, too.
    const odd = ids.filter((_, n) => n % 2);
    const even = ids.filter((_, n) => n && n % 2 === 0);
    const ranked = [...odd.toSorted().map((id) => [id, 3]), ...even.toSorted().map((id) => [id, 2])];
    expect(await stats('/stats', 'operator')).toEqual({
      ...{ step: '5m', accepted: 6 * 3 + 5 * 2 + 1 },
      counts: [...ranked.slice(0, 10), ['other', 3]],
    });
    expect(await stats('/stats', 'busy')).toEqual({
      ...{ step: '5m', accepted: 6 * 3 + 5 * 2 },
      counts: [...ranked.slice(0, 10), ['other', 2]],
    });
    expect(await stats('/stats', 'quiet')).toMatchObject({ accepted: 1, counts: [[ids[0], 1]] });
    expect(await stats(`/listeners/${ids[0]}/stats`, 'quiet')).toMatchObject({ accepted: 1, counts: [[ids[0], 1]] });
    expect(await stats('/stats', 'nobody')).toMatchObject({ accepted: 0, counts: [] });
    for (const one of ids) await api.listeners.remove(one);
  });

  it('tell event types and errors apart, each for the owner of the listener only', async () => {
    api.clock.advance(DAY);
    const since = new Date(api.clock.now()).toJSON();
    const create = (owner: string, url: string) => api.listeners.create({ owner, url, events: ['order.*'] });
    const good = await create('typed', api.receiver.url);
    const refused = await create('typed', 'http://127.0.0.1:1/');
    const stranger = await create('other-typed', api.receiver.url);
    await order('typed');
    const saved = await api.dataSource.getRepository(Order).findOneByOrFail({ customer: 'typed' });
    await api.dispatcher.drain();
    // The second write of the same minute is appended to the row.
    await api.dataSource.getRepository(Order).save({ ...saved, status: 'paid' });
    await order('other-typed');
    await api.dispatcher.drain();
    const sums = async (by: string, as: string, path = '/stats') => {
      const { series, totals } = await get(`${path}?since=${since}&by=${by}`, as);
      const keys = series.map(({ key, points }: Answer['body']) => {
        const sum = (n: number) => points.reduce((all: number, point: number[]) => all + Number(point[n]), 0);
        expect(points.every(([, , , , , p50, p95]: unknown[]) => p50 === null && p95 === null)).toBe(true);
        return [key, sum(1), sum(2), sum(3), sum(4)];
      });
      return { keys: Object.fromEntries(keys.map(([key, ...counts]: unknown[]) => [key, counts])), totals };
    };
    const typed = { 'order.created': [1, 0, 1, 0], 'order.updated': [1, 0, 1, 0] };
    const errors = { CONNECTION_REFUSED: [0, 0, 2, 0] };
    expect(await sums('type', 'typed')).toMatchObject({ keys: typed, totals: { accepted: 2, unreachable: 2 } });
    expect((await sums('error', 'typed')).keys).toEqual(errors);
    expect((await sums('type', 'operator')).keys).toEqual({ ...typed, 'order.created': [2, 0, 1, 0] });
    expect((await sums('error', 'other-typed')).keys).toEqual({});
    expect((await sums('error', 'typed', `/listeners/${good.id}/stats`)).keys).toEqual({});
    expect((await sums('type', 'typed', `/listeners/${refused.id}/stats`)).keys).toEqual({
      ...{ 'order.created': [0, 0, 1, 0], 'order.updated': [0, 0, 1, 0] },
    });
    // Rows of minutes, and then of five minutes, become one row.
    const counts = await sums('type', 'typed');
    for (let n = 0; n < 2; n++) {
      api.clock.advance(8 * DAY);
      await api.dispatcher.runChores();
    }
    expect(await sums('type', 'typed')).toEqual(counts);
    for (const { id } of [good, refused, stranger]) await api.listeners.remove(id);
  });

  it('count attempts of each minute for six hours', async () => {
    const { id } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    api.clock.advance(5 * MINUTE - (api.clock.now() % (5 * MINUTE)));
    const first = api.clock.now();
    for (let n = 0; n < 3; n++) {
      await order('acme');
      await api.dispatcher.drain();
      api.clock.advance(MINUTE);
    }
    const asked = `since=${new Date(first).toJSON()}&until=${new Date(api.clock.now()).toJSON()}`;
    const counts = async () => {
      const { step, series } = await get(`/listeners/${id}/stats?${asked}&step=1m`, 'acme');
      return [step, ...series[0].points.map(([at, accepted]: number[]) => [(Number(at) - first) / MINUTE, accepted])];
    };
    const minutes = ['1m', [0, 1], [1, 1], [2, 1]];
    expect(await counts()).toEqual(minutes);
    api.clock.advance(5 * 60 * MINUTE);
    await api.dispatcher.runChores();
    expect(await counts()).toEqual(minutes);
    api.clock.advance(65 * MINUTE);
    await api.dispatcher.runChores();
    expect(await counts()).toEqual(['5m', [0, 3]]);
    const rows = await api.dataSource.query(`select span_ms as span from webhook_stats where listener_id = '${id}'`);
    expect(rows.map(({ span }: { span: unknown }) => Number(span))).toEqual([5 * MINUTE]);
    await api.listeners.remove(id);
  });

  it('keep figures of five minutes for 7 days, of hours for 90 days, and then none', async () => {
    const { id } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    const since = new Date(api.clock.now() - MINUTE).toJSON();
    for (let n = 0; n < 3; n++) {
      await order('acme');
      await api.dispatcher.drain();
      api.clock.advance(10 * MINUTE);
    }
    const rows = async () =>
      Number((await api.dataSource.query(`select count(*) as n from webhook_stats where listener_id = '${id}'`))[0].n);
    const accepted = async () => (await get(`/listeners/${id}/stats?since=${since}&step=1d`)).totals.accepted;
    expect(await accepted()).toBe(3);
    expect(await rows()).toBe(3);
    api.clock.advance(8 * DAY);
    await api.dispatcher.runChores();
    expect(await accepted()).toBe(3);
    expect(await rows()).toBeLessThanOrEqual(2);
    expect((await get(`/listeners/${id}/stats?since=${since}&step=5m`)).step).toBe('1h');
    api.clock.advance(83 * DAY);
    await api.dispatcher.runChores();
    expect(await rows()).toBe(0);
    await api.listeners.remove(id);
  });

  it('note every change, who made it, and no secret', async () => {
    api.clock.advance(SECOND);
    const since = new Date(api.clock.now()).toJSON();
    const body = { events: ['order.*'], url: `${api.receiver.url}?token=hidden` };
    const made = await api.call('POST', '/listeners', { as: 'acme', body });
    const { id } = made.body;
    const change = (method: string, path: string, given?: object) =>
      api.call(method, path, { as: 'acme', ...(given ? { body: given } : {}) });
    await change('PATCH', `/listeners/${id}`, { name: 'Billing', headers: { authorization: 'hidden' } });
    await change('POST', `/listeners/${id}/disable`, { reason: 'holiday' });
    await change('POST', `/listeners/${id}/enable`, {});
    const { secret } = (await change('POST', `/listeners/${id}/secret/rotate`, {})).body;
    await order('acme');
    await api.dispatcher.drain();
    const [delivery] = (await api.deliveries.list({ listenerId: id })).items;
    await change('POST', `/deliveries/${delivery?.id}/resend`);
    await api.dispatcher.drain();
    await api.call('POST', '/sessions', { as: 'operator', body: { kind: 'owner', owner: 'acme', can: [] } });
    await change('DELETE', `/listeners/${id}`);
    await api.listeners.eraseOwner('nobody');
    const { items } = await get(`/audit?since=${since}`);
    expect(items.map(({ actor, action, target }: Answer['body']) => [actor, action, target])).toEqual([
      [null, 'owner.erased', 'nobody'],
      ['user of acme', 'listener.removed', id],
      ['op@example.test', 'session.created', expect.stringMatching(/^ses_/)],
      ['user of acme', 'delivery.resent', delivery?.id],
      ['user of acme', 'listener.secret_rotated', id],
      ['user of acme', 'listener.enabled', id],
      ['user of acme', 'listener.disabled', id],
      ['user of acme', 'listener.updated', id],
      ['user of acme', 'listener.created', id],
    ]);
    expect(items.at(-1).details).toEqual({ owner: 'acme' });
    expect(items.at(-2).details).toEqual({ changed: expect.arrayContaining(['name', 'headers']) as string[] });
    for (const hidden of [secret, made.body.secret, 'hidden', 'token'])
      expect(JSON.stringify(items)).not.toContain(hidden);
    const first = await get(`/audit?since=${since}&limit=2`);
    const second = await get(`/audit?since=${since}&limit=2&cursor=${first.next}`);
    expect([...first.items, ...second.items]).toEqual(items.slice(0, 4));
    expect((await get(`/audit?action=listener.disabled&target=${id}`)).items).toHaveLength(1);
  });

  it('note bulk work, and what is done to one delivery or event', async () => {
    api.clock.advance(SECOND);
    const since = new Date(api.clock.now()).toJSON();
    const done = async (status: number, method: string, path: string, body?: object, as = 'acme operate') => {
      const answer = await api.call(method, path, { as, ...(body ? { body } : {}) });
      expect([path, answer.status]).toEqual([path, status]);
      return answer.body;
    };
    const { id: first } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    await api.listeners.disable(first);
    await order('acme');
    await api.dispatcher.drain();
    const [delivery] = (await api.deliveries.list({ listenerId: first })).items;
    const eventId = delivery?.eventId ?? '';
    const { id: second } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    await done(200, 'POST', `/deliveries/${delivery?.id}/discard`);
    await done(409, 'POST', `/deliveries/${delivery?.id}/discard`);
    const sent = await done(202, 'POST', `/events/${eventId}/deliveries`, { listenerId: second });
    await done(409, 'POST', `/events/${eventId}/deliveries`, { listenerId: second });
    await api.dispatcher.drain();
    await done(204, 'DELETE', `/events/${eventId}/content`, undefined, 'operator');
    const row = { entity: 'Order', entityId: String(orderId) };
    const task = { kind: 'recover', listenerId: first, since, ...row };
    await done(200, 'POST', '/tasks', { ...task, dryRun: true });
    const { id } = await done(202, 'POST', '/tasks', task);
    await done(200, 'POST', `/tasks/${id}/cancel`, undefined, 'operator');
    await done(409, 'POST', `/tasks/${id}/cancel`, undefined, 'operator');
    const { items } = await get(`/audit?since=${since}`);
    const ofRoutes = items.filter(({ actor }: Answer['body']) => actor !== null);
    expect(ofRoutes.map(({ at: _, ...item }: Answer['body']) => item)).toEqual(
      [
        ['op@example.test', 'task.cancelled', id, { kind: 'recover' }],
        ['user of acme', 'task.created', id, { kind: 'recover', listenerId: first, entity: 'Order' }],
        ['op@example.test', 'event.erased', eventId, null],
        ['user of acme', 'event.sent', eventId, { listenerId: second, deliveryId: sent.id }],
        ['user of acme', 'delivery.discarded', delivery?.id, null],
      ].map(([actor, action, target, details]) => ({ actor, action, target, details })),
    );
    for (const one of [first, second]) await api.listeners.remove(one);
  });

  it('note a change only if it is committed', async () => {
    const count = async () => (await get('/audit?action=listener.created&limit=200')).items.length;
    const before = await count();
    const input = { events: ['order.*'], url: api.receiver.url };
    const undone = api.dataSource.transaction(async (manager) => {
      await api.listeners.withManager(manager).create(input);
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    expect(await count()).toBe(before);
  });

  it('list the periodic work, and make it due', async () => {
    await api.dispatcher.runChores();
    const { items } = await get('/chores');
    expect(items.map(({ name }: { name: string }) => name)).toEqual(
      expect.arrayContaining(['prune', 'prune-audit', 'roll-stats']),
    );
    expect(await api.call('POST', '/chores/run', { as: 'acme view' })).toMatchObject({ status: 403 });
    const { status, body } = await api.call('POST', '/chores/run', { as: 'operator' });
    expect(status).toBe(202);
    const now = new Date(api.clock.now()).toJSON();
    expect(body.items.every((one: { dueAt: string }) => one.dueAt <= now)).toBe(true);
    await api.dispatcher.runChores();
    expect((await get('/chores')).items.every((one: { dueAt: string }) => one.dueAt > now)).toBe(true);
  });

  it('list damaged events, and try them again', async () => {
    const { id } = await api.listeners.create({ owner: 'acme', events: ['order.*'], url: api.receiver.url });
    await order('acme');
    const [event] = (await get('/events?limit=1')).items;
    const [{ payload }] = await api.dataSource.query(`select payload from webhook_events where id = '${event.id}'`);
    const setPayload = (text: string) =>
      api.dataSource.query(`update webhook_events set payload = '${text}' where id = '${event.id}'`);
    await setPayload('{');
    await api.dispatcher.drain();
    expect(await get('/damaged')).toEqual({
      capped: false,
      items: [
        {
          ...{ id: event.id, kind: 'event', name: 'order.created', createdAt: event.timestamp },
          reason: expect.stringContaining('JSON') as string,
        },
      ],
    });
    const retry = (one: string) => api.call('POST', `/damaged/${one}/retry`, { as: 'operator' });
    for (const unknown of ['evt_0', 'img_1', 'img_99999999999999999999', 'x'])
      expect(await retry(unknown)).toMatchObject({ status: 404, body: { code: 'DAMAGED_NOT_FOUND' } });
    await setPayload(payload);
    expect(await retry(event.id)).toMatchObject({ status: 202, text: '' });
    expect(await retry(event.id)).toMatchObject({ status: 404 });
    await api.dispatcher.drain();
    expect((await get(`/events/${event.id}`)).deliveries).toMatchObject({ succeeded: 1 });
    expect((await get('/damaged')).items).toEqual([]);
    await api.listeners.remove(id);
  });

  it('say which of the newest events a listener would receive', async () => {
    api.clock.advance(MINUTE);
    const since = new Date(api.clock.now()).toJSON();
    const repository = api.dataSource.getRepository(Order);
    const ids: number[] = [];
    for (const customer of ['preview', 'preview', 'other']) {
      orderId += 1;
      ids.push(orderId);
      await repository.save({ id: orderId, customer, status: 'new' });
    }
    api.clock.advance(SECOND);
    await repository.save({ id: ids[0] as number, status: 'paid' });
    const preview = async (as: string, body: object) => {
      const { status, body: answer } = await api.call('POST', '/listeners/preview', { as, body: { since, ...body } });
      expect([status, answer]).toEqual([200, expect.anything()]);
      return answer;
    };
    const where = { status: { changedTo: 'paid' }, customer: 'preview' };
    const own = await preview('preview', { events: ['order.updated', 'order.created'], where });
    expect(own).toMatchObject({
      ...{ examined: 3, matched: 1, since, until: new Date(api.clock.now()).toJSON() },
      samples: [
        { type: 'order.updated', matched: true, failedOn: [] },
        { type: 'order.created', matched: false, failedOn: ['status.changedTo'] },
        { type: 'order.created', matched: false, failedOn: ['status.changedTo'] },
      ],
    });
    expect(await preview('preview', { events: ['order.updated'], limit: 2 })).toMatchObject({
      ...{ examined: 2, matched: 1, samples: [{ failedOn: [] }, { failedOn: ['type'] }] },
    });
    expect(await preview('operator', { events: ['order.*'], where: { customer: 'other' } })).toMatchObject({
      ...{ examined: 4, matched: 1 },
    });
    expect(await preview('operator', { events: ['order.*'], owner: 'other' })).toMatchObject({
      examined: 1,
      matched: 1,
    });
    expect(await preview('nobody', { events: ['order.*'] })).toMatchObject({
      ...{ examined: 0, matched: 0, since: null, until: null, samples: [] },
    });
    for (const body of [
      { events: ['order.*'], where: { unknown: 1 } },
      { events: ['rate.created'] },
      { events: [] },
      { events: ['order.*'], limit: 501 },
    ])
      expect(await api.call('POST', '/listeners/preview', { as: 'preview', body })).toMatchObject({ status: 400 });
    expect(await api.call('POST', '/listeners/preview', { as: 'preview view', body: { events: ['*'] } })).toMatchObject(
      { status: 403 },
    );
  });

  it('list the processes whose dispatcher runs', async () => {
    api.dispatcher.start();
    await expect.poll(async () => (await get('/overview')).processes).toHaveLength(1);
    expect((await get('/overview')).processes).toEqual([
      {
        id: expect.stringMatching(/^prc_/) as string,
        host: expect.any(String) as string,
        version: expect.stringMatching(/^\d+\.\d+\.\d+/) as string,
        startedAt: new Date(api.clock.now()).toJSON(),
        seenAt: new Date(api.clock.now()).toJSON(),
        sending: 0,
        concurrency: expect.any(Number) as number,
      },
    ]);
    expect((await get('/overview', 'acme')).processes).toEqual([]);
    await api.dispatcher.stop();
    expect((await get('/overview')).processes).toEqual([]);
  });
});
