import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import {
  EVERY_OWNER,
  EventService,
  InjectEvents,
  getEventsToken,
  Webhook,
  type StoredEventSummary,
} from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { createSqlite } from '../support/fresh-database.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: 'customer' })
@Entity('es_note')
class Note {
  @PrimaryColumn({ type: 'int' })
  id: number;
  @Column({ type: 'varchar' })
  customer: string;
}
@Webhook({ owner: EVERY_OWNER })
@Entity('es_product')
class Product {
  @PrimaryColumn({ type: 'int' })
  id: number;
}
@Webhook()
@Entity('es_rate')
class Rate {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

async function pages(
  list: (cursor?: string) => Promise<{ items: StoredEventSummary[]; next: string | null }>,
): Promise<StoredEventSummary[][]> {
  const all: StoredEventSummary[][] = [];
  for (let next: string | null | undefined; next !== null;) {
    const page = await list(next);
    all.push(page.items);
    next = page.next;
  }
  return all;
}

describeDatabases('the stored events', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let events: EventService;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Note, Product, Rate] });
    events = app.app.get(EventService);
    // Several of the same time, so that the order depends on the sequence, too.
    for (let id = 1; id <= 6; id++) {
      await app.dataSource.getRepository(Note).save({ id, customer: id % 2 ? 'acme' : 'globex' });
      await app.dataSource.getRepository(Product).save({ id });
      if (id % 3 === 0) app.clock.advance(1_000);
    }
    await app.dataSource.getRepository(Rate).save({ id: 1 });
    await app.dispatcher.drain();
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const show = async (service: EventService, { id }: StoredEventSummary) => {
    const { type, data } = await service.get(id);
    return `${type} ${String(data?.id)}`;
  };

  it('are listed newest first, page by page: those of an owner together with those for every owner', async () => {
    const acme = events.forOwner('acme');
    const read = await pages((cursor) => acme.list({ limit: 2, ...(cursor && { cursor }) }));
    expect(read.map(({ length }) => length)).toEqual([2, 2, 2, 2, 1]);
    expect(await Promise.all(read.flat().map((event) => show(acme, event)))).toEqual([
      ...['product.created 6', 'product.created 5', 'note.created 5', 'product.created 4', 'product.created 3'],
      ...['note.created 3', 'product.created 2', 'product.created 1', 'note.created 1'],
    ]);
    expect((await events.list({ limit: 500 })).items).toHaveLength(13);
  });

  it('are listed by type, owner and time', async () => {
    const count = async (service: EventService, filter: object) => (await service.list(filter)).items.length;
    expect(await count(events, { type: 'note.created' })).toBe(6);
    expect(await count(events, { owner: 'globex' })).toBe(3);
    expect(await count(events.forOwner('acme'), { type: 'note.created' })).toBe(3);
    expect(await count(events.forOwner('acme'), { type: 'product.created' })).toBe(6);
    expect(await count(events.forOwner('acme'), { owner: 'globex' })).toBe(0);
    const [newest] = (await events.list({ type: 'product.created' })).items;
    const since = newest?.timestamp as Date;
    expect(await count(events, { since, type: 'product.created' })).toBe(3);
    expect(await count(events, { until: since, type: 'product.created' })).toBe(3);
  });

  it('of other owners and of the application do not exist for an owner', async () => {
    const hidden = (await events.list({ limit: 500 })).items.filter(
      ({ type, owner }) => type === 'rate.created' || owner === 'globex',
    );
    expect(hidden).toHaveLength(4);
    for (const { id } of hidden) {
      const unknown = { code: 'EVENT_NOT_FOUND', httpStatus: 404, message: `There is no event '${id}'.` };
      await expect(events.forOwner('acme').get(id)).rejects.toMatchObject(unknown);
    }
    await expect(events.get('evt_x\0')).rejects.toMatchObject({ code: 'EVENT_NOT_FOUND' });
    expect(() => events.forOwner('acme').forOwner('globex')).toThrow(
      expect.objectContaining({ code: 'INVALID_OWNER' }) as Error,
    );
  });

  it('of one row are listed by its key, or by another event of the row', async () => {
    const notes = app.dataSource.getRepository(Note);
    await notes.save({ id: 71, customer: 'acme' });
    await notes.save({ id: 71, customer: 'globex' });
    await notes.delete(71);
    await app.dispatcher.drain();
    const of = async (service: EventService, filter: object) =>
      (await service.list(filter)).items.map(({ type, owner }) => `${type} ${String(owner)}`);
    // The row changed its owner, so the old owner got its end.
    const all = ['note.deleted globex', 'note.deleted acme', 'note.updated globex', 'note.created acme'];
    expect(await of(events, { entity: 'Note', entityId: 71 })).toEqual(all);
    expect(await of(events, { entity: 'Note', entityId: '71', limit: 2 })).toEqual(all.slice(0, 2));
    const [deleted] = (await events.list({ entity: 'Note', entityId: 71 })).items;
    const id = deleted?.id as string;
    expect(await of(events, { sameRowAs: id })).toEqual(all);
    expect(await of(events, { sameRowAs: id, type: 'note.updated' })).toEqual(['note.updated globex']);
    expect(await of(events.forOwner('globex'), { sameRowAs: id })).toEqual([all[0], all[2]]);
    expect(await of(events.forOwner('acme'), { entity: 'Note', entityId: 71 })).toEqual([all[1], all[3]]);
    expect(await of(events.forOwner('acme'), { sameRowAs: id })).toEqual([]);
    const wrong = { code: 'INVALID_ENTITY_ID', httpStatus: 400 };
    await expect(events.list({ entity: 'Note' })).rejects.toMatchObject(wrong);
    await expect(events.list({ entityId: 71 })).rejects.toMatchObject(wrong);
    await expect(events.list({ entity: 'Nothing', entityId: 1 })).rejects.toMatchObject({ code: 'UNKNOWN_ENTITY' });
  });

  it('are injected by class, and by InjectEvents() for another data source', () => {
    expect(getEventsToken()).toBe(EventService);
    expect(getEventsToken('billing')).toBe('EventService:billing');
    expect(InjectEvents('billing')).toBeTypeOf('function');
  });
});

describe('a list with a filter that no index serves', () => {
  it('looks at 20,000 rows at a time, and its next page goes on', async () => {
    const fresh = await createSqlite();
    const app = await startApp({ database: fresh.options, entities: [Note, Product, Rate] });
    try {
      const { id } = await app.listeners.create({
        url: app.receiver.url,
        events: ['note.*'],
        owner: 'acme',
        name: 'oldest',
      });
      await app.dataSource.getRepository(Note).save({ id: 1, customer: 'acme' });
      await app.dispatcher.drain();
      await multiply(app, 'webhook_events', ['id', 'type'], 'note.updated');
      await multiply(app, 'webhook_deliveries', ['id', 'type', 'event_seq'], 'note.updated');
      await multiply(app, 'webhook_listeners', ['id', 'name'], 'copy');
      const events = app.app.get(EventService);
      const found20k = await pages((cursor) => events.list({ type: 'note.created', ...(cursor && { cursor }) }));
      expect(found20k.map((items) => items.length)).toEqual([0, 1]);
      // Half of the rows of a page are for the events of the owner, and half for those of every owner.
      const own = events.forOwner('acme');
      const found10k = await pages((cursor) => own.list({ type: 'note.created', ...(cursor && { cursor }) }));
      expect(found10k.map((items) => items.length)).toEqual([0, 0, 1]);
      const empty = await app.deliveries.forOwner('acme').list({ type: 'note.created' });
      expect(empty).toMatchObject({ items: [], next: expect.any(String) as string });
      const found = await app.deliveries.list({ type: 'note.created', cursor: empty.next as string });
      expect(found).toMatchObject({ items: [{ listenerId: id }], next: null });
      const none = await app.listeners.list({ search: 'oldest' });
      expect(none.items).toEqual([]);
      expect(await app.listeners.list({ search: 'oldest', cursor: none.next as string })).toMatchObject({
        items: [{ id }],
        next: null,
      });
    } finally {
      await app.close();
      await fresh.drop();
    }
  });
});

/** Copies the only row of a table 20,000 times, later and later. */
async function multiply(app: TestApp, table: string, changed: readonly string[], name: string): Promise<void> {
  const columns = await app.dataSource.query<{ name: string }[]>(`pragma table_info(${table})`);
  const values = columns
    .filter((column) => column.name !== 'seq')
    .map(({ name: column }) => {
      if (column === 'id') return 'id || n';
      if (column === 'created_at') return 'created_at + n';
      if (column === 'event_seq') return 'event_seq + n';
      return changed.includes(column) ? `'${name}'` : column;
    });
  const names = columns.filter((column) => column.name !== 'seq').map((column) => column.name);
  await app.dataSource.query(
    `with recursive counted(n) as (select 1 union all select n + 1 from counted where n < 20000)
     insert into ${table} (${names.join()}) select ${values.join()} from ${table}, counted`,
  );
}
