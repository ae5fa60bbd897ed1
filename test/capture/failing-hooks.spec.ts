import {
  Column,
  DeleteDateColumn,
  Entity,
  JoinTable,
  ManyToMany,
  PrimaryColumn,
  type EntityManager,
  type EntitySubscriberInterface,
  type Relation,
} from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { WebhookFeature } from 'nestjs-entity-webhooks';
import { EventWitness } from 'nestjs-entity-webhooks/testing';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Entity('hooked_tag')
class Tag {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

@Entity('hooked_note')
class Note {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'a' })
  name: string;

  @Column({ type: 'int', default: 0 })
  amount: number;

  @DeleteDateColumn()
  deletedAt: Date | null;

  @ManyToMany(() => Tag)
  @JoinTable({ name: 'hooked_note_tags' })
  tags: Relation<Tag>[];
}

type Write = (manager: EntityManager) => Promise<unknown>;
const find = (manager: EntityManager, id: number) =>
  manager.findOneOrFail(Note, { where: { id }, relations: { tags: true }, withDeleted: true });

/** Note 1 exists with tag 1, note 2 is soft-deleted, and notes 3 and 4 do not exist. */
const WRITES: Record<string, Write> = {
  'insert()': (m) => m.insert(Note, { id: 3 }),
  'insert() of two rows': (m) => m.insert(Note, [{ id: 3 }, { id: 4 }]),
  'update()': (m) => m.update(Note, { id: 1 }, { name: 'b' }),
  'increment()': (m) => m.increment(Note, { id: 1 }, 'amount', 1),
  'delete()': (m) => m.delete(Note, { id: 2 }),
  'softDelete()': (m) => m.softDelete(Note, { id: 1 }),
  'restore()': (m) => m.restore(Note, { id: 2 }),
  'upsert() of an old and a new row': (m) => m.upsert(Note, [{ id: 1, name: 'b' }, { id: 3 }], ['id']),
  'save() of a new row': (m) => m.save(Note, { id: 3, name: 'c' }),
  'save() without reload': (m) => m.save(Note, { id: 3, name: 'c' }, { reload: false }),
  'save() of an old row': (m) => m.save(Note, { id: 1, name: 'b' }),
  'remove()': async (m) => m.remove(await find(m, 2)),
  'softRemove()': async (m) => m.softRemove(await find(m, 1)),
  'recover()': async (m) => m.recover(await find(m, 2)),
  'a builder that inserts': (m) => m.createQueryBuilder().insert().into(Note).values({ id: 3 }).execute(),
  'a builder that ignores conflicts': (m) =>
    m
      .createQueryBuilder()
      .insert()
      .into(Note)
      .values([{ id: 1 }, { id: 3 }])
      .orIgnore()
      .execute(),
  'a builder that updates': (m) =>
    m.createQueryBuilder().update(Note).set({ name: 'b' }).where('id = :id', { id: 1 }).execute(),
  'a builder that deletes': (m) => m.createQueryBuilder().delete().from(Note).where('id = :id', { id: 2 }).execute(),
  'a builder that soft-deletes': (m) => m.createQueryBuilder().softDelete().from(Note).where({ id: 1 }).execute(),
};

/** Writes of links, which only capture by TypeORM sees, with the links of note 1 after the write. */
const LINKS: Record<string, [Write, number[]]> = {
  'save() that adds a link': [(m) => m.save(Note, { id: 1, tags: [{ id: 1 }, { id: 2 }] }), [1, 2]],
  'save() that removes a link': [(m) => m.save(Note, { id: 1, tags: [] }), []],
  'a relation builder that adds a link': [(m) => m.createQueryBuilder().relation(Note, 'tags').of(1).add(2), [1, 2]],
  'a relation builder that removes a link': [(m) => m.createQueryBuilder().relation(Note, 'tags').of(1).remove(1), []],
};

const RAW: Record<string, Write> = {
  'a raw INSERT': (m) => m.query(`INSERT INTO hooked_note (id, name) VALUES (3, 'c')`),
  'a raw UPDATE': (m) => m.query(`UPDATE hooked_note SET name = 'b' WHERE id = 1`),
  'a raw DELETE': (m) => m.query(`DELETE FROM hooked_note WHERE id = 2`),
};

const MODES = [
  { mode: 'orm', fields: ['id', 'name', 'amount', 'tags'], writes: WRITES, links: LINKS },
  { mode: 'trigger', fields: ['id', 'name', 'amount'], writes: { ...WRITES, ...RAW }, links: {} },
] as const;

describeDatabases('a hook that fails after a statement', (database) => {
  describe.each(MODES)('in mode $mode', ({ mode, fields, writes, links }) => {
    let fresh: FreshDatabase;
    let app: TestApp;
    let witness: EventWitness;
    let hook: EntitySubscriberInterface | undefined;
    beforeAll(async () => {
      fresh = await database.create();
      const feature = { entity: Note, fields: [...fields] } as WebhookFeature;
      app = await startApp({
        database: fresh.options,
        entities: [feature],
        others: [Tag],
        webhooks: { capture: mode },
      });
      witness = await EventWitness.install(app.app);
      await app.dataSource.manager.insert(Tag, [{ id: 1 }, { id: 2 }]);
    });
    afterAll(async () => {
      await app.close();
      await fresh.drop();
    });
    beforeEach(async () => {
      const { manager } = app.dataSource;
      for (const table of ['hooked_note_tags', 'hooked_note']) await manager.query(`DELETE FROM ${table}`);
      await manager.save(Note, [
        { id: 1, tags: [{ id: 1 }] },
        { id: 2, deletedAt: new Date(0) },
      ]);
      await app.dispatcher.drain();
      await manager.query('DELETE FROM webhook_events');
      await witness.forget();
    });
    afterEach(() => {
      const { subscribers } = app.dataSource;
      if (hook) subscribers.splice(subscribers.indexOf(hook), 1);
      hook = undefined;
    });

    /** Makes a hook fail after the first statement that writes a note or a link. */
    const failOnce = (how: 'throws' | 'rejects') => {
      const state = { hasFailed: false };
      hook = {
        afterQuery: ({ query, success }) => {
          if (state.hasFailed || !success || !/^\s*(?:insert|update|delete|with)\b.*\bhooked_note/is.test(query))
            return;
          state.hasFailed = true;
          if (how === 'throws') throw new Error('the hook fails');
          return Promise.reject<void>(new Error('the hook fails'));
        },
      } as EntitySubscriberInterface;
      app.dataSource.subscribers.push(hook);
      return state;
    };

    const expectEventOf = async (write: Write, how: 'throws' | 'rejects') => {
      const state = failOnce(how);
      await app.dataSource.transaction(async (manager) => {
        await expect(write(manager)).rejects.toThrow('the hook fails');
      });
      expect(state.hasFailed).toBe(true);
      await app.dispatcher.drain();
      expect(await witness.expectEveryEvent()).toBeGreaterThan(0);
    };

    it.each(Object.entries(writes))('leaves the event of %s, whose error is swallowed', async (_, write) => {
      await expectEventOf(write, 'rejects');
    });

    it.each(Object.entries({ ...writes }).filter(([name]) => /^(?:insert|update|save|remove)\(\)/.test(name)))(
      'leaves the event of %s if the hook throws synchronously',
      async (_, write) => {
        await expectEventOf(write, 'throws');
      },
    );

    it.each(Object.entries(links))('leaves the event of %s', async (_, [write, tags]) => {
      const state = failOnce('rejects');
      await app.dataSource.transaction(async (manager) => {
        await expect(write(manager)).rejects.toThrow('the hook fails');
      });
      expect(state.hasFailed).toBe(true);
      const note = { id: 1, name: 'a', amount: 0 };
      expect(await storedEvents(app)).toEqual([
        { type: 'note.updated', data: { ...note, tags }, previous: { tags: [1] } },
      ]);
    });

    it('leaves the event of a write without a transaction', async () => {
      failOnce('rejects');
      const write = app.dataSource.manager.save(Note, { id: 3 }, { transaction: false });
      await expect(write).rejects.toThrow('the hook fails');
      await app.dispatcher.drain();
      expect(await witness.expectEveryEvent()).toBe(1);
    });
  });
});
