import { Logger } from '@nestjs/common';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  EVERY_OWNER,
  Webhook,
  type JsonObject,
  type WebhookFeature,
  type WebhookOptions,
} from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

abstract class Owned {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'varchar', length: 255, nullable: true })
  customerId: string | null;
}

@Webhook({ name: 'declared', owner: 'customerId' })
@Entity('owners_declared')
class Declared extends Owned {}

@Webhook({ name: 'undeclared' })
@Entity('owners_undeclared')
class Undeclared extends Owned {}

@Webhook({ name: 'shared', owner: EVERY_OWNER })
@Entity('owners_shared')
class Shared extends Owned {}

@Webhook({ owner: 'accountId' })
@Entity('owners_ticket')
class Ticket {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int' })
  accountId: number;
}

@Webhook({ owner: 'accountId' })
@Entity('owners_invoice')
class Invoice {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'bigint' })
  accountId: string;
}

const NOTHING: Record<string, unknown> = { null: null, '': '', undefined };
/** Values that are not valid owners. */
const IMPOSSIBLE: Record<string, unknown> = { long: 'x'.repeat(256), nul: 'a\0b', half: 'a\ud800' };

@Webhook({ name: 'computed', owner: (row: Computed) => ({ ...NOTHING, ...IMPOSSIBLE })[row.owner] as string })
@Entity('owners_computed')
class Computed {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  owner: string;
}

const STATES = { declared: Declared, undeclared: Undeclared, shared: Shared };
type State = keyof typeof STATES;

/** Pairs of owners that a careless comparison would confuse. */
const LOOKALIKES = [
  ...['acme', 'ACME', 'Acme', 'acmé', 'acme\u0301', 'acme ', ' acme', 'acme  '],
  ...['a:b', 'a|b', 'a,b', 'a.b', 'a/b', 'a\tb', 'a', 'b', "a'b", 'a"b', 'a\\b', 'a%', 'a_', '*', 'a.*'],
  ...[
    'null',
    'undefined',
    'true',
    '0',
    '00',
    '1',
    '1.0',
    '01',
    'ß',
    'ss',
    '😀',
    '😁',
    'x'.repeat(255),
    'x'.repeat(254),
  ],
];

interface ReceivedEvent {
  listener: string;
  type: string;
  data: JsonObject;
  previous?: JsonObject;
}

/** The requests of each listener, by the label in its URL. */
function received({ receiver }: TestApp): ReceivedEvent[] {
  return receiver.requests
    .map(({ url, json }) => ({
      listener: new URL(url, 'http://x').searchParams.get('l') ?? '',
      ...(json as Omit<ReceivedEvent, 'listener'>),
    }))
    .toSorted((a, b) => (`${a.listener}\0${a.type}` < `${b.listener}\0${b.type}` ? -1 : 1));
}

const labels = (app: TestApp) => received(app).map(({ listener }) => listener);
const urlOf = ({ receiver }: TestApp, label: string) => `${receiver.url}?l=${encodeURIComponent(label)}`;

async function removeAll({ listeners }: TestApp): Promise<void> {
  const { items } = await listeners.list({ limit: 500 });
  for (const { id } of items) await listeners.remove(id);
}

describeDatabases('owners', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Declared, Undeclared, Shared, Ticket, Invoice, Computed],
      webhooks: { publishedTypes: ['invoice.overdue'] },
    });
  });
  afterEach(async () => {
    await removeAll(app);
    await app.dispatcher.drain();
    app.receiver.clear();
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (label: string, owner: string | null, ...events: string[]) =>
    app.listeners.create({ events, owner, url: urlOf(app, label) });
  const save = (state: State, customerId: string | null) =>
    app.dataSource.manager.save(STATES[state], { customerId } as Owned);

  describe('each state of an entity and each kind of listener', () => {
    const kinds = { mine: 'acme', theirs: 'globex', application: null };
    const cells = (Object.keys(STATES) as State[]).flatMap((state) =>
      (Object.keys(kinds) as (keyof typeof kinds)[]).flatMap((kind) =>
        [`${state}.created`, `${state}.*`, '*'].map((pattern) => {
          const refused = state === 'undeclared' && kind !== 'application' && pattern !== '*';
          const receives = kind === 'application' || state === 'shared' || (state === 'declared' && kind === 'mine');
          const outcome = refused
            ? ('is refused' as const)
            : receives
              ? ('receives it' as const)
              : ('never sees it' as const);
          return { state, kind, pattern, outcome };
        }),
      ),
    );

    it('makes 27 cells', () => {
      expect(cells).toHaveLength(27);
    });

    it.each(cells)(
      '$state row of acme, listener $kind on $pattern: $outcome',
      async ({ state, kind, pattern, outcome }) => {
        const creating = listen('cell', kinds[kind], pattern);
        if (outcome === 'is refused') {
          await expect(creating).rejects.toMatchObject({ code: 'OWNER_NOT_DECLARED', httpStatus: 400 });
          expect((await app.listeners.list()).items).toEqual([]);
          return;
        }
        await creating;
        await save(state, 'acme');
        await app.dispatcher.drain();
        expect(received(app).map(({ type }) => type)).toEqual(outcome === 'receives it' ? [`${state}.created`] : []);
      },
    );

    it('decides by the same rules for published events', async () => {
      await listen('mine', 'acme', 'invoice.overdue');
      await listen('mine *', 'acme', '*');
      await listen('theirs', 'globex', 'invoice.*');
      await listen('application', null, 'invoice.overdue');
      await app.webhooks.publish('invoice.overdue', { n: 1 }, { owner: 'acme' });
      await app.dispatcher.drain();
      expect(labels(app)).toEqual(['application', 'mine', 'mine *']);
      app.receiver.clear();
      await app.webhooks.publish('invoice.overdue', { n: 2 });
      await app.webhooks.publish('invoice.overdue', { n: 3 }, { owner: '' });
      await app.dispatcher.drain();
      expect(labels(app)).toEqual(['application', 'application']);
      app.receiver.clear();
      await app.webhooks.publish('invoice.overdue', { n: 4 }, { owner: EVERY_OWNER });
      await app.dispatcher.drain();
      expect(labels(app)).toEqual(['application', 'mine', 'mine *', 'theirs']);
    });

    it('sends an event once to a listener with several matching patterns', async () => {
      await listen('mine', 'acme', 'declared.created', 'declared.*', '*', 'shared.*');
      await save('declared', 'acme');
      await save('shared', 'acme');
      await app.dispatcher.drain();
      expect(received(app).map(({ type }) => type)).toEqual(['declared.created', 'shared.created']);
    });
  });

  it.each([null, ''])('an event with the declared owner %j reaches only listeners without an owner', async (owner) => {
    await listen('application', null, 'declared.*');
    for (const other of ['acme', 'null', 'undefined']) await listen(other, other, 'declared.*', '*');
    await save('declared', owner);
    await app.dispatcher.drain();
    expect(labels(app)).toEqual(['application']);
  });

  it.each(Object.keys(NOTHING))(
    'an event whose owner function returns %o reaches only listeners without an owner',
    async (owner) => {
      await listen('application', null, 'computed.*');
      for (const other of ['acme', 'null', 'undefined']) await listen(other, other, 'computed.created', '*');
      await app.dataSource.manager.save(Computed, { owner });
      await app.dispatcher.drain();
      expect(labels(app)).toEqual(['application']);
    },
  );

  it('warns once for each entity whose declared owner is empty', async () => {
    const other = await startApp({
      database: { ...fresh.options, synchronize: false },
      entities: [Declared, Undeclared],
    });
    const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    try {
      await other.dataSource.manager.save(Declared, [{ customerId: null }, { customerId: '' }]);
      await other.dataSource.manager.save(Declared, { customerId: null });
      await other.dataSource.manager.save(Undeclared, { customerId: null });
      expect(warn.mock.calls.map(([message]) => String(message))).toEqual([
        expect.stringMatching(/^A row of Declared has no owner, although the entity declares an owner/),
      ]);
    } finally {
      warn.mockRestore();
      await other.close();
    }
  });

  it.each(Object.keys(IMPOSSIBLE))(
    'fails the write of a row whose owner no listener can have, with one code: %s',
    async (owner) => {
      await listen('application', null, 'computed.*');
      const writing = app.dataSource.manager.save(Computed, { owner });
      await expect(writing).rejects.toMatchObject({
        name: 'CaptureError',
        code: 'INVALID_OWNER',
        details: { entity: 'Computed' },
      });
      expect(await app.dataSource.manager.countBy(Computed, { owner })).toBe(0);
      await app.dispatcher.drain();
      expect(labels(app)).toEqual([]);
    },
  );

  it('compares owners as texts, also numbers and bigints beyond 2^53', async () => {
    const huge = '9007199254740993';
    await app.listeners.create({ entity: Ticket, owner: 7, url: urlOf(app, 'seven') });
    await app.listeners.create({ entity: Ticket, owner: '07', url: urlOf(app, '07') });
    await app.listeners.create({ entity: Invoice, owner: BigInt(huge), url: urlOf(app, 'huge') });
    await app.listeners.create({ entity: Invoice, owner: '9007199254740992', url: urlOf(app, 'rounded') });
    await app.listeners.forOwner('7').create({ events: ['ticket.created'], url: urlOf(app, 'seven bound') });
    await app.dataSource.manager.save(Ticket, { accountId: 7 });
    await app.dataSource.manager.save(Invoice, { accountId: huge });
    await app.dispatcher.drain();
    expect(labels(app)).toEqual(['huge', 'seven', 'seven bound']);
  });

  it('distinguishes owners that differ by case, accent, a space or a separator', async () => {
    for (const owner of LOOKALIKES) await listen(owner, owner, 'declared.*');
    for (const owner of LOOKALIKES) await save('declared', owner);
    await app.dispatcher.drain();
    const pairs = received(app).map(({ listener, data }) => [listener, data.customerId]);
    expect(pairs.toSorted()).toEqual(LOOKALIKES.map((owner) => [owner, owner]).toSorted());

    for (const owner of LOOKALIKES) {
      const mine = await app.listeners.forOwner(owner).list();
      expect(mine.items.map((listener) => listener.owner)).toEqual([owner]);
      const listed = await app.listeners.list({ owner });
      expect(listed.items.map((listener) => listener.owner)).toEqual([owner]);
      const log = await app.deliveries.forOwner(owner).list();
      expect(log.items.length).toBeGreaterThan(0);
      expect(log.items.every((delivery) => delivery.owner === owner)).toBe(true);
    }
  });

  it('does not split an owner or a value at a separator', async () => {
    const where = (status: string) => ({ status });
    await app.listeners.create({ entity: Declared, owner: 'a', where: where('b:c'), url: urlOf(app, 'a + b:c') });
    await app.listeners.create({ entity: Declared, owner: 'a:b', where: where('c'), url: urlOf(app, 'a:b + c') });
    await app.listeners.create({ entity: Declared, owner: 'a|s:b', where: where('c'), url: urlOf(app, 'a|s:b + c') });
    const { manager } = app.dataSource;
    await manager.save(Declared, { customerId: 'a', status: 'b:c' });
    await app.dispatcher.drain();
    expect(labels(app)).toEqual(['a + b:c']);
    app.receiver.clear();
    await manager.save(Declared, { customerId: 'a:b', status: 'c' });
    await app.dispatcher.drain();
    expect(labels(app)).toEqual(['a:b + c']);
  });

  it.each([
    ['a NUL', 'a\0b'],
    ['half a surrogate pair', 'a\ud800'],
    ['256 characters', 'x'.repeat(256)],
    ['nothing', ''],
  ])(
    'refuses an owner with %s, which not every database stores unchanged, everywhere with one code',
    async (_, owner) => {
      const refused = { code: 'INVALID_OWNER' };
      await expect(listen('x', owner, 'declared.*')).rejects.toMatchObject({ ...refused, httpStatus: 400 });
      await expect((async () => app.listeners.list({ owner }))()).rejects.toMatchObject(refused);
      expect(() => app.listeners.forOwner(owner)).toThrow(expect.objectContaining(refused));
      expect(() => app.deliveries.forOwner(owner)).toThrow(expect.objectContaining(refused));
      if (owner !== '') {
        await expect(app.webhooks.publish('invoice.overdue', {}, { owner })).rejects.toMatchObject(refused);
      }
      expect((await app.listeners.list()).items).toEqual([]);
    },
  );

  it.each([undefined, null, {}, [], true, Symbol('x')])('binds to no owner that is %o', (owner) => {
    const refused = expect.objectContaining({ code: 'INVALID_OWNER' });
    expect(() => app.listeners.forOwner(owner as never)).toThrow(refused);
    expect(() => app.deliveries.forOwner(owner as never)).toThrow(refused);
  });

  describe('a row that moves to another owner', () => {
    const everybody = async () => {
      for (const pattern of ['declared.*', '*', 'declared.updated', 'declared.deleted']) {
        for (const owner of ['acme', 'globex', 'other', null]) {
          await listen(`${owner ?? 'application'} ${pattern}`, owner, pattern);
        }
      }
    };

    it('is an update without old values for the new owner and the application, and deleted for the old owner', async () => {
      const row = await save('declared', 'acme');
      await app.dispatcher.drain();
      await everybody();
      await app.dataSource.manager.save(Declared, { id: row.id, customerId: 'globex', status: 'secret of globex' });
      await app.dispatcher.drain();

      const data = { id: row.id, status: 'secret of globex', customerId: 'globex' };
      const events = received(app).map(({ listener, type, data, previous }) => ({ listener, type, data, previous }));
      const updated = { type: 'declared.updated', data, previous: undefined };
      const deleted = { type: 'declared.deleted', data: { id: row.id }, previous: undefined };
      expect(events).toEqual([
        { listener: 'acme *', ...deleted },
        { listener: 'acme declared.*', ...deleted },
        { listener: 'acme declared.deleted', ...deleted },
        { listener: 'application *', ...updated },
        { listener: 'application declared.*', ...updated },
        { listener: 'application declared.updated', ...updated },
        { listener: 'globex *', ...updated },
        { listener: 'globex declared.*', ...updated },
        { listener: 'globex declared.updated', ...updated },
      ]);
      for (const { rawBody } of app.receiver.requests) expect(rawBody.toString()).not.toContain('acme');
    });

    it('has old values again from the next update on', async () => {
      const row = await save('declared', 'acme');
      await app.dataSource.manager.save(Declared, { id: row.id, customerId: 'globex' });
      await app.dispatcher.drain();
      await listen('globex', 'globex', 'declared.*');
      await app.dataSource.manager.save(Declared, { id: row.id, status: 'next' });
      await app.dispatcher.drain();
      expect(received(app)).toMatchObject([
        { listener: 'globex', type: 'declared.updated', previous: { status: 'new' } },
      ]);
    });

    it('has no old values if the row loses its owner, or gets its first owner', async () => {
      const row = await save('declared', 'acme');
      await app.dispatcher.drain();
      await listen('acme', 'acme', '*');
      await listen('application', null, '*');
      await app.dataSource.manager.save(Declared, { id: row.id, customerId: null });
      await app.dispatcher.drain();
      expect(received(app).map(({ listener, type, previous }) => [listener, type, previous])).toEqual([
        ['acme', 'declared.deleted', undefined],
        ['application', 'declared.updated', undefined],
      ]);
      app.receiver.clear();
      await app.dataSource.manager.save(Declared, { id: row.id, customerId: 'acme' });
      await app.dispatcher.drain();
      expect(received(app).map(({ listener, type, previous }) => [listener, type, previous])).toEqual([
        ['acme', 'declared.updated', undefined],
        ['application', 'declared.updated', undefined],
      ]);
    });

    it('makes events for each step if the row moves twice in one transaction', async () => {
      const row = await save('declared', 'acme');
      await app.dispatcher.drain();
      for (const owner of ['acme', 'globex', 'initech']) await listen(owner, owner, 'declared.*');
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Declared, { id: row.id, customerId: 'globex' });
        await manager.save(Declared, { id: row.id, customerId: 'initech' });
      });
      await app.dispatcher.drain();
      expect(received(app).map(({ listener, type, data }) => [listener, type, data.customerId])).toEqual([
        ['acme', 'declared.deleted', undefined],
        ['globex', 'declared.deleted', undefined],
        ['globex', 'declared.updated', 'globex'],
        ['initech', 'declared.updated', 'initech'],
      ]);
    });
  });

  describe('services bound to an owner', () => {
    const notFound = (id: string) => ({
      code: 'LISTENER_NOT_FOUND',
      httpStatus: 404,
      message: `There is no listener '${id}'.`,
    });

    it('listeners of another owner and of the application do not exist', async () => {
      const acme = await listen('acme', 'acme', 'declared.*');
      const application = await listen('application', null, 'declared.*');
      for (const owner of ['globex', 'ACME', 'acme ', 'acmé', 'null']) {
        const theirs = app.listeners.forOwner(owner);
        for (const { id } of [acme, application, { id: 'lst_nowhere' }]) {
          await expect(theirs.get(id)).rejects.toMatchObject(notFound(id));
          await expect(theirs.update(id, { description: 'mine now' })).rejects.toMatchObject(notFound(id));
          await expect(theirs.update(id, { events: ['*'] })).rejects.toMatchObject(notFound(id));
          await expect(theirs.remove(id)).rejects.toMatchObject(notFound(id));
          await expect(theirs.enable(id)).rejects.toMatchObject(notFound(id));
          await expect(theirs.disable(id)).rejects.toMatchObject(notFound(id));
          await expect(theirs.rotateSecret(id)).rejects.toMatchObject(notFound(id));
          await expect(theirs.sendTest(id)).rejects.toMatchObject(notFound(id));
        }
        expect(await theirs.list()).toEqual({ items: [], next: null });
      }
      const { secret: _, ...shown } = acme;
      expect(await app.listeners.get(acme.id)).toEqual(shown);
      await save('declared', 'acme');
      await app.dispatcher.drain();
      expect(labels(app)).toEqual(['acme', 'application']);
      const [mine] = app.receiver.requests.filter(({ url }) => url.endsWith('l=acme'));
      if (mine) app.receiver.verify(mine, acme.secret);
    });

    it('every method works with listeners of the owner', async () => {
      const mine = app.listeners.forOwner('acme');
      const { id } = await mine.create({ events: ['declared.*'], url: urlOf(app, 'acme') });
      expect(await mine.get(id)).toMatchObject({ id, owner: 'acme' });
      expect(await mine.update(id, { description: 'mine' })).toMatchObject({ description: 'mine' });
      expect(await mine.disable(id)).toMatchObject({ state: 'disabled' });
      expect(await mine.enable(id)).toMatchObject({ state: 'active' });
      expect((await mine.rotateSecret(id)).secret).toMatch(/^whsec_/);
      const { deliveryId } = await mine.sendTest(id);
      expect(await app.deliveries.forOwner('acme').get(deliveryId)).toMatchObject({ listenerId: id });
      expect((await mine.list()).items.map((listener) => listener.id)).toEqual([id]);
      await mine.remove(id);
      await expect(mine.get(id)).rejects.toMatchObject(notFound(id));
    });

    it('creates for that owner only, and cannot be bound to another', async () => {
      const mine = app.listeners.forOwner('acme');
      const input = { events: ['declared.*'], url: urlOf(app, 'acme') };
      expect(await mine.create(input)).toMatchObject({ owner: 'acme' });
      expect(await mine.create({ ...input, owner: null })).toMatchObject({ owner: 'acme' });
      await expect(mine.create({ ...input, owner: 'globex' })).rejects.toMatchObject({ code: 'INVALID_OWNER' });
      await expect(mine.list({ owner: 'globex' })).rejects.toMatchObject({ code: 'INVALID_OWNER' });
      expect(() => mine.forOwner('globex')).toThrow(expect.objectContaining({ code: 'INVALID_OWNER' }));
      expect(() => app.deliveries.forOwner('acme').forOwner('globex')).toThrow(
        expect.objectContaining({ code: 'INVALID_OWNER' }),
      );
      expect((await mine.forOwner('acme').list()).items).toHaveLength(2);
    });

    it('an update cannot move a listener to another owner', async () => {
      const { id } = await listen('acme', 'acme', 'declared.*');
      const moving = app.listeners.forOwner('acme').update(id, { owner: 'globex' } as never);
      await expect(moving).rejects.toMatchObject({ code: 'INVALID_LISTENER' });
      await expect(app.listeners.forOwner('acme').update(id, { events: ['undeclared.*'] })).rejects.toMatchObject({
        code: 'OWNER_NOT_DECLARED',
      });
      expect(await app.listeners.get(id)).toMatchObject({ owner: 'acme', events: ['declared.*'] });
    });

    it('deliveries of another owner do not exist', async () => {
      const { id: listenerId } = await listen('acme', 'acme', 'declared.*');
      await save('declared', 'acme');
      await app.dispatcher.drain();
      const [delivery] = (await app.deliveries.list({ listenerId })).items;
      const { id, eventId } = delivery as NonNullable<typeof delivery>;
      for (const owner of ['globex', 'ACME', 'acme ']) {
        const theirs = app.deliveries.forOwner(owner);
        const missing = { code: 'DELIVERY_NOT_FOUND', httpStatus: 404, message: `There is no delivery '${id}'.` };
        await expect(theirs.get(id)).rejects.toMatchObject(missing);
        await expect(theirs.resend(id)).rejects.toMatchObject(missing);
        for (const filter of [{}, { listenerId }, { eventId }, { owner: 'acme' }, { type: 'declared.created' }]) {
          const own = (await theirs.list(filter)).items;
          expect(own.filter((item) => item.owner !== owner)).toEqual([]);
        }
        const counts = await theirs.counts({ listenerId });
        expect(Object.values(counts).every((count) => count === 0)).toBe(true);
      }
      expect(await app.deliveries.forOwner('acme').get(id)).toMatchObject({ id, state: 'succeeded' });
      expect(await app.deliveries.forOwner('acme').counts({ listenerId })).toMatchObject({ succeeded: 1 });
      app.receiver.clear();
      await app.deliveries.forOwner('acme').resend(id);
      await app.dispatcher.drain();
      expect(labels(app)).toEqual(['acme']);
    });
  });
});

describeDatabases('a declaration that changes between two releases', (database) => {
  let fresh: FreshDatabase;
  const apps: TestApp[] = [];

  beforeAll(async () => {
    fresh = await database.create();
  });
  afterAll(async () => {
    for (const app of apps) await app.close();
    await fresh.drop();
  });

  it('decides for each event by the declaration at the time of the event', async () => {
    const release = async (owner?: WebhookOptions<Declared>['owner']) => {
      const app = await startApp({
        database: fresh.options,
        entities: [{ entity: Declared, name: 'thing', ...(owner === undefined ? {} : { owner }) } as WebhookFeature],
      });
      apps.push(app);
      return app;
    };
    const one = await release('customerId');
    const { url } = one.receiver;
    await one.listeners.create({ events: ['thing.*'], owner: 'acme', url: `${url}?l=acme` });
    await one.listeners.create({ events: ['*'], owner: 'globex', url: `${url}?l=globex` });
    const save = async (app: TestApp) => {
      one.receiver.clear();
      await app.dataSource.manager.save(Declared, { customerId: 'acme' });
      await app.dispatcher.drain();
      return labels(one);
    };
    expect(await save(one)).toEqual(['acme']);
    const two = await release();
    expect(await save(two)).toEqual([]);
    const three = await release(EVERY_OWNER);
    expect(await save(three)).toEqual(['acme', 'globex']);
  });
});
