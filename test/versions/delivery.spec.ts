import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { PayloadFormat, type WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import type { TestApp } from '../support/webhooks-app.js';
import { aShipment, deploy, DEPLOYS, sentOf, Shipment, TO_1 } from './deploys.js';

const MINUTE = 60_000;

class TextFormat extends PayloadFormat {
  readonly name = 'text';
  override readonly contentType = 'text/plain';

  render({ payload }: { payload: string }): string {
    const { data } = JSON.parse(payload) as { data: object };
    return Object.keys(data).join();
  }
}

describeDatabases('a listener with a pinned version', (database) => {
  let fresh: FreshDatabase;
  const apps: TestApp[] = [];
  const errors: string[] = [];

  beforeEach(async () => {
    errors.length = 0;
    vi.spyOn(Logger.prototype, 'error').mockImplementation((message: unknown) => void errors.push(String(message)));
    fresh = await database.reuse();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    for (const app of apps.splice(0).toReversed()) await app.close();
    await fresh.drop();
  });

  /** Starts a deploy. All deploys have one clock, that of the first. */
  async function start(options: Parameters<typeof deploy>[1], webhooks: WebhooksModuleOptions = {}): Promise<TestApp> {
    const app = await deploy(fresh, options, webhooks);
    const [first] = apps;
    if (first) app.clock.set(first.clock.now());
    apps.push(app);
    return app;
  }

  function advance(ms: number): void {
    const [first] = apps as [TestApp];
    first.clock.advance(ms);
    for (const app of apps) app.clock.set(first.clock.now());
  }

  const save = (app: TestApp, values: Partial<Shipment> = {}) =>
    app.dataSource.getRepository(Shipment).save(aShipment(values));

  const sent = (app: TestApp) => app.receiver.requests.map(sentOf);

  it('keeps the version that was the newest when it was created, through later deploys', async () => {
    const first = await start(DEPLOYS[1]);
    const url = first.receiver.url;
    const old = await first.listeners.create({ events: ['shipment.created'], url: `${url}/1` });
    const second = await start(DEPLOYS[2]);
    const middle = await second.listeners.create({ events: ['shipment.created'], url: `${url}/2` });
    const third = await start(DEPLOYS[3]);
    const fresh3 = await third.listeners.create({ events: ['shipment.*'], url: `${url}/3` });
    await third.listeners.create({ events: ['shipment.*'], url: `${url}/latest`, versions: 'latest' });
    await save(third);
    await third.dispatcher.drain();
    const byUrl = Object.fromEntries(first.receiver.requests.map((one) => [one.url, sentOf(one)]));
    const whole = { id: 1, grams: 500, customer: null, place: { city: 'Lyon', zip: '69001' } };
    expect(byUrl).toEqual({
      '/hooks/1': { header: '1', data: { ...whole, state: 'new', kilograms: 0.5 } },
      '/hooks/2': { header: '2', version: 2, data: { ...whole, status: 'new', kilograms: 0.5 } },
      '/hooks/3': { header: '3', version: 3, data: { ...whole, status: 'new' } },
      '/hooks/latest': { header: '3', version: 3, data: { ...whole, status: 'new' } },
    });
    const versionsOf = async (id: string) => (await third.listeners.get(id)).versions;
    expect(await versionsOf(old.id)).toEqual({ 'shipment.created': 1 });
    expect(await versionsOf(middle.id)).toEqual({ 'shipment.created': 2 });
    expect(await versionsOf(fresh3.id)).toEqual(
      Object.fromEntries(['created', 'deleted', 'restored', 'updated'].map((action) => [`shipment.${action}`, 3])),
    );
  });

  it('gets in `previous` what changed in its version, from whole states of the row', async () => {
    const app = await start(DEPLOYS[3]);
    await app.listeners.create({
      events: ['shipment.updated'],
      url: app.receiver.url,
      versions: { 'shipment.updated': 1 },
    });
    const shipment = await save(app);
    await app.dataSource
      .getRepository(Shipment)
      .save({ ...shipment, grams: 750, place: { city: 'Nice', zip: '69001' } });
    await app.dataSource.getRepository(Shipment).update(shipment.id, { status: 'sent' });
    await app.dispatcher.drain();
    expect(sent(app).map(({ previous }) => previous)).toEqual([
      { grams: 500, kilograms: 0.5, place: { city: 'Lyon', zip: '69001' } },
      { state: 'new' },
    ]);
  });

  it('gets an event that is older than its version as the event is, and the header says so', async () => {
    const old = await start(DEPLOYS[1]);
    await save(old);
    const app = await start(DEPLOYS[2]);
    const { id } = await app.listeners.create({ events: ['shipment.*'], url: app.receiver.url });
    await app.deliveries.replay({ listenerId: id, since: new Date(0) });
    await app.dispatcher.drain();
    expect(sent(app)).toEqual([{ header: '1', version: undefined, data: expect.objectContaining({ status: 'new' }) }]);
  });

  it('gets the same bytes in a retry, although a deploy changed the function meanwhile', async () => {
    const app = await start(DEPLOYS[2]);
    await app.listeners.create({ events: ['shipment.*'], url: app.receiver.url, versions: { 'shipment.created': 1 } });
    app.receiver.failTimes(1);
    await save(app);
    await app.dispatcher.drain();
    const changed = await start({ version: 2, versions: { 1: () => ({ changed: true }) } });
    advance(MINUTE);
    await changed.dispatcher.drain();
    const bodies = app.receiver.requests.map(({ rawBody }) => String(rawBody));
    expect(bodies).toHaveLength(2);
    expect(bodies[1]).toBe(bodies[0]);
    const { items } = await app.deliveries.list();
    const shown = await app.deliveries.body(items[0]?.id ?? '');
    expect(shown.body).toBe(bodies[0]);
  });

  it('gets its version in a format, and the format is given the older payload', async () => {
    const app = await start(DEPLOYS[2], { parts: { payloadFormats: [TextFormat] } });
    const listen = (format: string) =>
      app.listeners.create({
        events: ['*'],
        url: `${app.receiver.url}/${format}`,
        format,
        versions: { 'shipment.created': 1 },
      });
    for (const format of ['text', 'cloudevents', 'cloudevents-binary']) await listen(format);
    await save(app);
    await app.dispatcher.drain();
    const of = (format: string) => app.receiver.requests.find(({ url }) => url === `/hooks/${format}`);
    expect(String(of('text')?.rawBody)).toBe('id,grams,customer,place,state');
    expect(of('text')?.headers['webhook-version']).toBe('1');
    expect(of('cloudevents')?.json).toMatchObject({ data: { type: 'shipment.created', data: { state: 'new' } } });
    expect(of('cloudevents-binary')?.json).toMatchObject({ data: { state: 'new' } });
    expect(of('cloudevents-binary')?.headers).toMatchObject({ 'ce-type': 'shipment.created', 'webhook-version': '1' });
  });

  it('waits while no process offers its version, and other types and listeners do not wait', async () => {
    const old = await start(DEPLOYS[1], { publishedTypes: ['note'] });
    const pinned = await old.listeners.create({ events: ['*'], url: `${old.receiver.url}/pinned` });
    const removed = await start({ version: 2, versions: {} }, { publishedTypes: ['note'] });
    await removed.listeners.create({ events: ['*'], url: `${old.receiver.url}/new` });
    await save(removed);
    await removed.webhooks.publish('note', { id: 1 });
    await removed.dispatcher.drain();
    expect(old.receiver.requests.map(({ url }) => url).toSorted()).toEqual([
      '/hooks/new',
      '/hooks/new',
      '/hooks/pinned',
    ]);
    const waiting = () => removed.deliveries.list({ listenerId: pinned.id, state: 'due' });
    expect((await waiting()).items).toMatchObject([{ lastErrorCode: 'UNKNOWN_VERSION', attemptCount: 0 }]);
    expect((await removed.listeners.get(pinned.id)).failuresInARow).toBe(0);
    advance(MINUTE);
    await removed.dispatcher.drain();
    expect(errors).toEqual([expect.stringMatching(/^UNKNOWN_VERSION: .*version 1 of 'shipment.created'/)]);
    expect((await waiting()).items).toHaveLength(1);
    const missingOf = async (one: TestApp) => (await one.listeners.get(pinned.id)).missingVersions;
    expect(await missingOf(removed)).toContainEqual({ type: 'shipment.created', version: 1 });
    expect(await missingOf(removed)).not.toContainEqual(expect.objectContaining({ type: 'note' }));
    expect(await missingOf(old)).toEqual([]);

    const again = await start(DEPLOYS[2], { publishedTypes: ['note'] });
    advance(2 * MINUTE);
    await again.dispatcher.drain();
    const last = old.receiver.requests.at(-1);
    expect(last && sentOf(last)).toMatchObject({ header: '1', data: { state: 'new' } });
    const { items } = await again.deliveries.list({ listenerId: pinned.id });
    expect(items.map(({ state, attemptCount }) => [state, attemptCount])).toEqual([
      ['succeeded', 1],
      ['succeeded', 1],
    ]);
  });

  it('gets what waited in another version, if its version is moved', async () => {
    const old = await start(DEPLOYS[1]);
    const { id } = await old.listeners.create({ events: ['*'], url: old.receiver.url });
    const removed = await start({ version: 2, versions: {} });
    await save(removed);
    await removed.dispatcher.drain();
    expect(old.receiver.requests).toHaveLength(0);
    await removed.listeners.update(id, { versions: null });
    advance(MINUTE);
    await removed.dispatcher.drain();
    expect(sent(old)).toEqual([{ header: '2', version: 2, data: expect.objectContaining({ status: 'new' }) }]);
  });

  it('is left alone by an older deploy that lacks the function', async () => {
    const second = await start(DEPLOYS[2]);
    await second.listeners.create({ events: ['*'], url: second.receiver.url, versions: { 'shipment.created': 1 } });
    await save(second);
    const rolledBack = await start(DEPLOYS[1]);
    await rolledBack.dispatcher.drain();
    expect(second.receiver.requests).toEqual([]);
    advance(MINUTE);
    await second.dispatcher.drain();
    expect(sent(second)).toMatchObject([{ header: '1', data: { state: 'new' } }]);
  });

  it.each([
    [
      'throws',
      () => {
        throw new Error('no status');
      },
    ],
    ['returns a Promise', () => Promise.resolve({})],
    ['returns a list', () => []],
    ['returns a value without JSON', () => ({ big: 1n })],
  ])(
    'loses nothing if its function %s: the delivery is discarded with a code, and can be recovered',
    async (_, bad) => {
      const broken = await start({ version: 2, versions: { 1: bad as never } });
      const { id } = await broken.listeners.create({
        events: ['*'],
        url: `${broken.receiver.url}/old`,
        versions: { 'shipment.created': 1 },
      });
      await broken.listeners.create({ events: ['*'], url: `${broken.receiver.url}/new` });
      await save(broken);
      await broken.dispatcher.drain();
      expect(broken.receiver.requests.map(({ url }) => url)).toEqual(['/hooks/new']);
      const { items } = await broken.deliveries.list({ listenerId: id });
      expect(items).toMatchObject([{ state: 'discarded', lastErrorCode: 'VERSION_FAILED' }]);
      const deliveryId = items[0]?.id ?? '';
      await expect(broken.deliveries.resend(deliveryId)).rejects.toMatchObject({ code: 'VERSION_FAILED' });
      const fixed = await start({ version: 2, versions: { 1: TO_1 } });
      expect(await fixed.deliveries.recover({ listenerId: id, since: new Date(0), state: 'discarded' })).toBe(1);
      await fixed.dispatcher.drain();
      expect(sentOf(broken.receiver.requests.at(-1) as never)).toMatchObject({ header: '1', data: { state: 'new' } });
    },
  );

  it('gets test events in its version, or in the version that the caller names', async () => {
    const app = await start(DEPLOYS[3]);
    const { id } = await app.listeners.create({
      events: ['*'],
      url: app.receiver.url,
      versions: { 'shipment.created': 2 },
    });
    await app.listeners.sendTest(id, { type: 'shipment.created' });
    await app.listeners.sendTest(id, { type: 'shipment.created', version: 1 });
    await app.listeners.sendTest(id, { type: 'shipment.created', version: 3 });
    await expect(app.listeners.sendTest(id, { type: 'shipment.created', version: 4 })).rejects.toMatchObject({
      code: 'UNKNOWN_VERSION',
      message: "'shipment.created' has no version 4. Allowed: 3, 2, 1.",
    });
    await app.dispatcher.drain();
    expect(sent(app).map(({ header }) => header)).toEqual(['2', '1', '3']);
  });

  it('gets an older version that is too large thin', async () => {
    const large = { version: 2, versions: { 1: (data: object) => ({ ...data, text: 'x'.repeat(2_000) }) } };
    const app = await start(large, { payload: { maxPayloadBytes: 1_024 } });
    await app.listeners.create({ events: ['*'], url: app.receiver.url, versions: { 'shipment.created': 1 } });
    await save(app);
    await app.dispatcher.drain();
    expect(app.receiver.requests[0]?.json).toMatchObject({ truncated: true, data: { id: 1, status: 'new' } });
    expect(String(app.receiver.requests[0]?.rawBody).length).toBeLessThan(1_025);
  });

  it('of a published type keeps its version, too', async () => {
    const type = { type: 'note', version: 2, versions: { 1: ({ text }: Record<string, unknown>) => ({ body: text }) } };
    const app = await start({}, { publishedTypes: [type as never] });
    await app.listeners.create({ events: ['note'], url: `${app.receiver.url}/1`, versions: { note: 1 } });
    await app.listeners.create({ events: ['note'], url: `${app.receiver.url}/2` });
    await app.webhooks.publish('note', { text: 'hello' });
    await app.dispatcher.drain();
    const byUrl = Object.fromEntries(app.receiver.requests.map((one) => [one.url, sentOf(one)]));
    expect(byUrl).toEqual({
      '/hooks/1': { header: '1', data: { body: 'hello' } },
      '/hooks/2': { header: '2', version: 2, data: { text: 'hello' } },
    });
  });
});
