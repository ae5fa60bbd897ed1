import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { expect, it } from 'vitest';

import { describeDatabases } from '../support/databases.js';
import { startApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook()
@Entity()
class Ticket {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar' })
  title: string;
}

describeDatabases('a row that is removed a second time', (db) => {
  it('makes one event, because remove() of a deleted row deletes nothing', async () => {
    const database = await db.create();
    const app = await startApp({ database: database.options, entities: [Ticket] });
    try {
      await app.listeners.create({ events: ['ticket.deleted'], url: app.receiver.url });
      const tickets = app.dataSource.getRepository(Ticket);
      const ticket = await tickets.save({ title: 'x' });
      const copy = tickets.create({ ...ticket });
      const third = tickets.create({ ...ticket });
      await tickets.remove(ticket);
      await tickets.remove(copy);
      await tickets.remove(third);
      await app.dispatcher.drain();
      expect(app.receiver.requests.map(({ json }) => (json as { data: unknown }).data)).toEqual([
        { id: 1, title: 'x' },
      ]);
    } finally {
      await app.close();
      await database.drop();
    }
  });
});

describeDatabases('a row that was inserted after a transaction began', (db) => {
  it('is captured if that transaction removes it, although its snapshot does not show it', async () => {
    if (db.name === 'sqlite') return; // SQLite has one writer at a time.
    const database = await db.create();
    const app = await startApp({ database: database.options, entities: [Ticket] });
    try {
      await app.listeners.create({ events: ['ticket.deleted'], url: app.receiver.url });
      const tickets = app.dataSource.getRepository(Ticket);
      await app.dataSource.transaction(async (manager) => {
        await manager.find(Ticket);
        const ticket = await tickets.save({ title: 'since' });
        await manager.remove(Ticket, ticket);
      });
      expect(await tickets.count()).toBe(0);
      await app.dispatcher.drain();
      expect(app.receiver.requests.map(({ json }) => (json as { data: unknown }).data)).toEqual([
        { id: 1, title: 'since' },
      ]);
    } finally {
      await app.close();
      await database.drop();
    }
  });
});

describeDatabases('a row that a trigger keeps from being deleted', (db) => {
  it('makes no event, and the other rows of the remove() make theirs', async () => {
    const triggers: Partial<Record<typeof db.name, readonly string[]>> = {
      sqlite: ["CREATE TRIGGER kept BEFORE DELETE ON ticket WHEN OLD.title = 'kept' BEGIN SELECT RAISE(IGNORE); END"],
      postgres: [
        `CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
        `CREATE TRIGGER kept BEFORE DELETE ON ticket FOR EACH ROW WHEN (OLD.title = 'kept') EXECUTE FUNCTION keep()`,
      ],
    };
    const statements = triggers[db.name];
    if (!statements) return; // On MySQL a trigger can only make the whole statement fail.
    const database = await db.create();
    const app = await startApp({ database: database.options, entities: [Ticket] });
    try {
      for (const statement of statements) await app.dataSource.query(statement);
      const tickets = app.dataSource.getRepository(Ticket);
      const rows = await tickets.save(tickets.create([{ title: 'kept' }, { title: 'x' }]));
      await tickets.remove(rows);
      expect(await tickets.find()).toMatchObject([{ title: 'kept' }]);
      const events = (await storedEvents(app)).filter(({ type }) => type === 'ticket.deleted');
      expect(events.map(({ data }) => data.title)).toEqual(['x']);
    } finally {
      await app.close();
      await database.drop();
    }
  });
});
