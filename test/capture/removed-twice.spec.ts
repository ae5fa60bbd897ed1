import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { expect, it } from 'vitest';

import { describeDatabases } from '../support/databases.js';
import { startApp } from '../support/webhooks-app.js';

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
