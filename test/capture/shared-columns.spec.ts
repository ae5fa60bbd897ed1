import {
  Column,
  Entity,
  JoinColumn,
  ManyToOne,
  OneToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  type EntityManager,
  type Relation,
} from 'typeorm';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { ownerFromRow, Webhook, type Json } from 'nestjs-entity-webhooks';

import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Entity('shared_buyer')
class Buyer {
  @PrimaryColumn({ type: 'int' })
  tenantId: number;

  @PrimaryColumn({ type: 'int' })
  id: number;
}

/** A key of three columns. */
@Entity('shared_site')
class Site {
  @PrimaryColumn({ type: 'int' })
  tenantId: number;

  @PrimaryColumn({ type: 'int' })
  buyerId: number;

  @PrimaryColumn({ type: 'bigint' })
  number: string;
}

/** A relation of several columns is part of its key. */
@Entity('shared_contract')
class Contract {
  @PrimaryColumn({ type: 'int' })
  year: number;

  @ManyToOne(() => Buyer)
  @JoinColumn([
    { name: 'tenantId', referencedColumnName: 'tenantId' },
    { name: 'buyerId', referencedColumnName: 'id' },
  ])
  buyer: Relation<Buyer>;

  @PrimaryColumn({ type: 'int' })
  tenantId: number;

  @PrimaryColumn({ type: 'int' })
  buyerId: number;
}

const TENANT = { name: 'tenantId', referencedColumnName: 'tenantId' };

/** The column of the tenant is a property. */
@Webhook({ owner: 'tenantId' })
@Entity('shared_invoice')
class Invoice {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int' })
  tenantId: number;

  @ManyToOne(() => Buyer, { nullable: true })
  @JoinColumn([TENANT, { name: 'buyerId', referencedColumnName: 'id' }])
  buyer: Relation<Buyer> | null;

  // TypeORM 0.3 writes a constraint's columns in this order, and MariaDB refuses one whose columns no key has in their order.
  @ManyToOne(() => Buyer, { nullable: true, createForeignKeyConstraints: false })
  @JoinColumn([{ name: 'payerId', referencedColumnName: 'id' }, TENANT])
  payer: Relation<Buyer> | null;

  @ManyToOne(() => Site, { nullable: true })
  @JoinColumn([
    TENANT,
    { name: 'buyerId', referencedColumnName: 'buyerId' },
    { name: 'siteNumber', referencedColumnName: 'number' },
  ])
  site: Relation<Site> | null;
}

/** The shared column belongs only to relations. */
@Webhook({ owner: ownerFromRow((row: Offer) => (row.payer === null ? 'nobody' : (row.buyer?.id ?? null))) })
@Entity('shared_offer')
class Offer {
  @PrimaryGeneratedColumn()
  id: number;

  @ManyToOne(() => Buyer, { nullable: true })
  @JoinColumn([TENANT, { name: 'buyerId', referencedColumnName: 'id' }])
  buyer: Relation<Buyer> | null;

  @OneToOne(() => Buyer, { nullable: true })
  @JoinColumn([TENANT, { name: 'payerId', referencedColumnName: 'id' }])
  payer: Relation<Buyer> | null;
}

/** The shared column is part of the primary key. */
@Webhook()
@Entity('shared_line')
class Line {
  @PrimaryColumn({ type: 'int' })
  tenantId: number;

  @PrimaryColumn({ type: 'int' })
  number: number;

  @ManyToOne(() => Buyer, { nullable: true })
  @JoinColumn([TENANT, { name: 'buyerId', referencedColumnName: 'id' }])
  buyer: Relation<Buyer> | null;
}

/** The key of the related row contains a foreign key. */
@Webhook()
@Entity('shared_renewal')
class Renewal {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int' })
  year: number;

  @ManyToOne(() => Contract, { nullable: true })
  @JoinColumn([
    { name: 'year', referencedColumnName: 'year' },
    { name: 'contractTenant', referencedColumnName: 'tenantId' },
    { name: 'contractBuyer', referencedColumnName: 'buyerId' },
  ])
  contract: Relation<Contract> | null;
}

/** With `capture: 'orm'`, its `previous` is the row that TypeORM has loaded. */
@Webhook({ exactPrevious: false })
@Entity('shared_memo')
class Memo {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int' })
  tenantId: number;

  @ManyToOne(() => Buyer, { nullable: true })
  @JoinColumn([TENANT, { name: 'buyerId', referencedColumnName: 'id' }])
  buyer: Relation<Buyer> | null;
}

const CAPTURED = [Invoice, Offer, Line, Renewal, Memo];
const others = [Buyer, Site, Contract];
const buyer = (id: number, tenantId = 1) => ({ tenantId, id });

for (const capture of ['orm', 'trigger'] as const) {
  describeDatabases(`a foreign key that shares a column, captured by ${capture}`, (database) => {
    let fresh: FreshDatabase;
    let app: TestApp;
    let manager: EntityManager;

    beforeAll(async () => {
      fresh = await database.create();
      app = await startApp({ database: fresh.options, entities: CAPTURED, others, webhooks: { capture } });
      ({ manager } = app.dataSource);
      await manager.insert(Buyer, [buyer(7), buyer(8), buyer(7, 2)]);
      await manager.insert(Site, { tenantId: 1, buyerId: 7, number: '9007199254740993' });
      await manager.insert(Contract, { year: 2026, buyer: buyer(7), tenantId: 1, buyerId: 7 });
    });

    afterAll(async () => {
      await app.close();
      await fresh.drop();
    });

    beforeEach(async () => {
      for (const entity of CAPTURED) await manager.query(`DELETE FROM ${app.dataSource.getMetadata(entity).tableName}`);
      await events();
    });

    /** The events that were stored since the last call. */
    async function events() {
      if (capture === 'trigger') await app.dispatcher.drain();
      const stored = await storedEvents(app);
      await app.dataSource.query('DELETE FROM webhook_events');
      return stored.map(({ type, data, previous }) => [type, data, ...(previous ? [previous] : [])]);
    }

    const only = async (): Promise<[string, Record<string, Json>, Record<string, Json>?]> => {
      const all = await events();
      expect(all).toHaveLength(1);
      return all[0] as never;
    };

    it('with a property is in the payload, and a change of it is an update', async () => {
      const { id } = await manager.save(Invoice, { tenantId: 1, buyer: buyer(7), payer: buyer(8) });
      const data = { id, tenantId: 1, buyer: buyer(7), payer: buyer(8), site: null };
      expect(await only()).toEqual(['invoice.created', data]);
      await manager.update(Invoice, id, { buyer: buyer(8) });
      expect(await only()).toEqual(['invoice.updated', { ...data, buyer: buyer(8) }, { buyer: buyer(7) }]);
      const invoice = await manager.findOneOrFail(Invoice, { where: { id }, relations: { buyer: true } });
      invoice.buyer = buyer(7);
      await manager.save(invoice);
      expect(await only()).toEqual(['invoice.updated', data, { buyer: buyer(8) }]);
      await manager.delete(Invoice, id);
      expect(await only()).toEqual(['invoice.deleted', data]);
    });

    it('of three columns is in the payload', async () => {
      const site = { tenantId: 1, buyerId: 7, number: '9007199254740993' };
      await manager.insert(Invoice, { tenantId: 1, buyer: buyer(7), site });
      expect((await only())[1]).toMatchObject({ buyer: buyer(7), site, payer: null });
    });

    it('with another relation is in the payload for both relations', async () => {
      await manager.insert(Offer, { buyer: buyer(7), payer: buyer(8) });
      const [, data] = await only();
      expect(data).toEqual({ id: data['id'], buyer: buyer(7), payer: buyer(8) });
      await manager.update(Offer, { id: data['id'] as number }, { payer: buyer(7) });
      expect((await only()).slice(1)).toEqual([
        { id: data['id'], buyer: buyer(7), payer: buyer(7) },
        { payer: buyer(8) },
      ]);
    });

    it('with the primary key is in the payload', async () => {
      await manager.save(Line, { tenantId: 1, number: 5, buyer: buyer(7) });
      const data = { tenantId: 1, number: 5, buyer: buyer(7) };
      expect(await only()).toEqual(['line.created', data]);
      await manager.update(Line, { number: 5 }, { buyer: buyer(8) });
      expect(await only()).toEqual(['line.updated', { ...data, buyer: buyer(8) }, { buyer: buyer(7) }]);
      await manager.upsert(Line, { tenantId: 1, number: 5, buyer: buyer(7) }, ['tenantId', 'number']);
      expect(await only()).toEqual(['line.updated', data, { buyer: buyer(8) }]);
      await manager.delete(Line, { number: 5 });
      expect((await only())[0]).toBe('line.deleted');
    });

    it('to a row whose key contains a foreign key is in the payload', async () => {
      await manager.insert(Renewal, { year: 2026, contract: { year: 2026, tenantId: 1, buyerId: 7 } });
      expect((await only())[1]).toMatchObject({ year: 2026, contract: { year: 2026, tenantId: 1, buyerId: 7 } });
    });

    it('is in previous if that is the loaded row', async () => {
      const memo = await manager.save(manager.create(Memo, { tenantId: 1, buyer: buyer(7) }));
      await events();
      memo.buyer = manager.create(Buyer, buyer(8));
      await manager.save(memo);
      const data = { id: memo.id, tenantId: 1, buyer: buyer(8) };
      expect(await only()).toEqual(['memo.updated', data, { buyer: buyer(7) }]);
    });

    it('may be used in a filter and as the owner', async () => {
      const { url } = app.receiver;
      await app.listeners.create({ entity: Offer, where: { 'buyer.id': 8 }, url, owner: '8' });
      await manager.insert(Offer, { buyer: buyer(7) });
      await manager.insert(Offer, { buyer: buyer(8), payer: buyer(7) });
      await app.dispatcher.drain();
      expect(app.receiver.requests.map(({ json }) => json)).toMatchObject([
        { data: { buyer: buyer(8), payer: buyer(7) } },
      ]);
    });

    it('is null if a part is missing', async () => {
      await manager.save(Invoice, { tenantId: 1 });
      expect((await only())[1]).toMatchObject({ tenantId: 1, buyer: null, payer: null, site: null });
      await manager.insert(Offer, { buyer: buyer(7) });
      if (capture === 'trigger') await app.dispatcher.drain();
      expect(await manager.query('SELECT owner FROM webhook_events')).toEqual([{ owner: 'nobody' }]);
      expect((await only())[1]).toMatchObject({ buyer: buyer(7), payer: null });
    });
  });
}
