import {
  AfterInsert,
  AfterLoad,
  AfterUpdate,
  BeforeInsert,
  BeforeUpdate,
  Column,
  DeleteDateColumn,
  Entity,
  JoinTable,
  ManyToMany,
  ManyToOne,
  OneToMany,
  PrimaryColumn,
  type EntityManager,
  type EntitySubscriberInterface,
  type Logger,
  type Relation,
} from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

abstract class VaultRow {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'vault' })
  name: string;

  @Column({ type: 'varchar', length: 50 })
  iban: string;

  @BeforeInsert()
  @BeforeUpdate()
  close(): void {
    if (!this.iban.startsWith('closed:')) this.iban = `closed:${this.iban}`;
  }

  @AfterLoad()
  @AfterInsert()
  @AfterUpdate()
  open(): void {
    this.iban = this.iban.replace('closed:', '');
  }
}

/** Its `iban` is encoded in the row and decoded in memory. */
@Webhook()
@Entity('image_vault')
class Vault extends VaultRow {}

@Webhook({ owner: 'customer' })
@Entity('image_parent')
class Parent {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'decimal', precision: 8, scale: 2, default: '1.50' })
  price: string;

  @Column({ type: 'varchar', length: 20, default: 'new' })
  status: string;

  @Column({ type: 'varchar', length: 20, default: 'acme' })
  customer: string;

  @OneToMany(() => Child, ({ parent }) => parent, { cascade: true })
  children: Relation<Child>[];

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook()
@Entity('image_child')
class Child {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'child' })
  name: string;

  @ManyToOne(() => Parent, ({ children }) => children)
  parent: Relation<Parent> | null;
}

/** `previous` is the row that TypeORM has loaded. */
@Webhook({ exactPrevious: false })
@Entity('image_loaded')
class Loaded {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'new' })
  status: string;

  @Column({ type: 'varchar', length: 20, default: 'acme' })
  customer: string;

  @ManyToOne(() => Parent)
  parent: Relation<Parent> | null;
}

/** TypeORM loads it completely before a remove(), because it has no foreign key. */
@Webhook({ exactPrevious: false })
@Entity('image_loose')
class Loose {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

/** Not captured. */
@Entity('image_plain')
class Plain {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'int', default: 0 })
  n: number;
}

/** Its rows are read by the query builder of TypeORM, because the event has links. */
@Webhook({ fields: ['id', 'title', 'plains'] })
@Entity('image_album')
class Album {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'new' })
  title: string;

  @ManyToMany(() => Plain)
  @JoinTable({ name: 'image_album_plain' })
  plains: Relation<Plain>[];
}

/** With a key of two columns, one statement reads at most 500 rows. */
@Webhook()
@Entity('image_pair')
class Pair {
  @PrimaryColumn({ type: 'int' })
  a: number;

  @PrimaryColumn({ type: 'int' })
  b: number;

  @Column({ type: 'int', default: 0 })
  n: number;
}

/** Not captured. */
@Entity('image_photo')
class Photo {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @ManyToOne(() => Album)
  album: Relation<Album>;
}

class Statements implements Partial<Logger> {
  readonly texts: string[] = [];

  logQuery(query: string): void {
    this.texts.push(query);
  }

  logQueryError(): void {}
  logQuerySlow(): void {}
  logSchemaBuild(): void {}
  logMigration(): void {}
  log(): void {}
}

describeDatabases('the before image of save(), remove() and similar calls', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let manager: EntityManager;
  let statements: Statements;
  const isPostgres = database.name === 'postgres';
  const isSqlite = database.name === 'sqlite';

  beforeAll(async () => {
    fresh = await database.create();
    statements = new Statements();
    app = await startApp({
      database: { ...fresh.options, logging: ['query'], logger: statements as Logger } as typeof fresh.options,
      entities: [Vault, Parent, Child, Loaded, Loose, Album, Pair],
      others: [Plain, Photo],
    });
    ({ manager } = app.dataSource);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    for (const table of [
      'image_loaded',
      'image_child',
      'image_parent',
      'image_vault',
      'image_photo',
      'image_album',
      'image_pair',
    ]) {
      await manager.query(`DELETE FROM ${table}`);
    }
  });

  const eventsOf = async (work: () => Promise<unknown>) => {
    await manager.query('DELETE FROM webhook_events');
    await work();
    return storedEvents(app);
  };
  /** The statements by which capture reads rows of an entity before some work writes them. */
  const readsOf = async (work: () => Promise<unknown>) => {
    statements.texts.length = 0;
    await work();
    const first = statements.texts.findIndex((text) => /^(?:BEGIN|START)/.test(text));
    const written = statements.texts.findLastIndex((text) => /^(?:UPDATE|DELETE)/.test(text));
    const inside = first < 0 ? [] : statements.texts.slice(first, written);
    return inside.filter((text) => /^SELECT.* .e. /s.test(text));
  };

  describe('where hooks of the entity decode a column', () => {
    it('is the stored row', async () => {
      const events = await eventsOf(async () => {
        await manager.save(manager.create(Vault, { id: 1, iban: 'one' }));
        const vault = await manager.findOneByOrFail(Vault, { id: 1 });
        vault.name = 'other';
        await manager.save(vault);
        vault.iban = 'two';
        await manager.save(vault);
        await manager.remove(vault);
      });
      expect(JSON.stringify(events)).not.toMatch(/"(?:one|two)"/);
      expect(events.map(({ type, previous }) => [type, previous])).toEqual([
        ['vault.created', undefined],
        ['vault.updated', { name: 'vault' }],
        ['vault.updated', { iban: 'closed:one' }],
        ['vault.deleted', undefined],
      ]);
    });
  });

  describe('when another writer changes the row between the load and the write', () => {
    /** Runs another write after TypeORM has loaded its rows, before it begins its transaction. */
    const between = async (other: () => Promise<unknown>, write: (given: EntityManager) => Promise<unknown>) => {
      const runner = app.dataSource.createQueryRunner();
      let isDone = false;
      const subscriber: EntitySubscriberInterface = {
        async beforeQuery({ query, queryRunner }) {
          if (isDone || queryRunner !== runner || !/^(?:START|BEGIN)/.test(query)) return;
          isDone = true;
          await other();
        },
      };
      app.dataSource.subscribers.unshift(subscriber);
      try {
        await write(runner.manager);
      } finally {
        app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber), 1);
        await runner.release();
      }
      expect(isDone).toBe(true);
    };
    const parent = async () => {
      await manager.save(Parent, { id: 1 });
      return manager.findOneByOrFail(Parent, { id: 1 });
    };
    const summary = (events: Awaited<ReturnType<typeof eventsOf>>) =>
      events.map(({ type, data, previous }) => [type, data.price, data.status, previous]);

    it.each([
      ['remove()', 'delete', (given: EntityManager, row: Parent) => given.remove(row)],
      ['softRemove()', 'delete', (given: EntityManager, row: Parent) => given.softRemove(row)],
      ['softRemove()', 'softDelete', (given: EntityManager, row: Parent) => given.softRemove(row)],
    ] as const)('%s of a row that it removed by %s() makes no event', async (_, call, write) => {
      const row = await parent();
      const events = await eventsOf(() =>
        between(
          () => manager[call](Parent, 1),
          (given) => write(given, row),
        ),
      );
      expect(events.map(({ type }) => type)).toEqual(['parent.deleted']);
    });

    it('save() of a row that the other writer deleted makes no event', async () => {
      await parent();
      const events = await eventsOf(() =>
        between(
          () => manager.delete(Parent, 1),
          (given) => given.save(Parent, { id: 1, status: 'paid' }),
        ),
      );
      expect(events.map(({ type }) => type)).toEqual(['parent.deleted']);
    });

    it('save() of a row that is deleted, and inserted again before the UPDATE, has the inserted row as previous', async () => {
      // On other databases the read of the missing row takes a lock, or there is one writer at a time.
      if (!isPostgres) return;
      await parent();
      let step = 0;
      const subscriber: EntitySubscriberInterface = {
        async beforeQuery({ query }) {
          if (step === 0 && /^SELECT.*image_parent.*FOR NO KEY UPDATE/s.test(query)) {
            step = 1;
            await manager.delete(Parent, 1);
          }
        },
        async afterQuery({ query }) {
          if (step === 1 && /^SELECT.*image_parent.*FOR NO KEY UPDATE/s.test(query)) {
            step = 2;
            await manager.insert(Parent, { id: 1, price: '3.00' });
          }
        },
      };
      app.dataSource.subscribers.unshift(subscriber);
      const events = await eventsOf(() => manager.save(Parent, { id: 1, status: 'paid' })).finally(() =>
        app.dataSource.subscribers.shift(),
      );
      expect(step).toBe(2);
      expect(summary(events)).toEqual([
        ['parent.deleted', '1.50', 'new', undefined],
        ['parent.created', '3.00', 'new', undefined],
        ['parent.updated', '3.00', 'paid', { status: 'new' }],
      ]);
    });

    it('save() of the values that the other writer has written makes no event', async () => {
      await parent();
      const events = await eventsOf(() =>
        between(
          () => manager.update(Parent, 1, { status: 'paid' }),
          (given) => given.save(Parent, { id: 1, status: 'paid' }),
        ),
      );
      expect(summary(events)).toEqual([['parent.updated', '1.50', 'paid', { status: 'new' }]]);
    });

    it('in a transaction with an older snapshot, save() of the values that the other writer has written makes no event', async () => {
      // On PostgreSQL such an update fails, and SQLite has one writer at a time.
      if (isPostgres || isSqlite) return;
      await parent();
      const events = await eventsOf(() =>
        manager.transaction('REPEATABLE READ', async (given) => {
          await given.find(Parent);
          await manager.update(Parent, 1, { status: 'paid' });
          await given.save(Parent, { id: 1, status: 'paid' });
        }),
      );
      expect(summary(events)).toEqual([['parent.updated', '1.50', 'paid', { status: 'new' }]]);
    });

    it('the last event has the values of the row', async () => {
      await parent();
      const events = await eventsOf(() =>
        between(
          () => manager.update(Parent, 1, { price: '2.00' }),
          (given) => given.save(Parent, { id: 1, price: '1.5' }),
        ),
      );
      expect(summary(events)).toEqual([
        ['parent.updated', '2.00', 'new', { price: '1.50' }],
        ['parent.updated', '1.50', 'new', { price: '2.00' }],
      ]);
    });

    it('the previous owner is the owner in the row', async () => {
      const row = await parent();
      row.customer = 'mine';
      await eventsOf(() =>
        between(
          () => manager.update(Parent, 1, { customer: 'theirs' }),
          (given) => given.save(row),
        ),
      );
      const stored: { type: string; owner: string }[] = await manager.query(
        'SELECT type, owner FROM webhook_events ORDER BY seq',
      );
      expect(stored.map(({ type, owner }) => `${type} ${owner}`)).toEqual([
        'parent.updated theirs',
        'parent.deleted acme',
        'parent.updated mine',
        'parent.deleted theirs',
      ]);
    });

    it('with exactPrevious: false, remove() of a row that it removed makes no event', async () => {
      const row = await manager.save(manager.create(Loose, { id: 1 }));
      const events = await eventsOf(() =>
        between(
          () => manager.delete(Loose, 1),
          (given) => given.remove(row),
        ),
      );
      expect(events.map(({ type }) => type)).toEqual(['loose.deleted']);
    });

    it('with exactPrevious: false, previous is the loaded row', async () => {
      await manager.save(Loaded, { id: 1 });
      const events = await eventsOf(() =>
        between(
          () => manager.query("UPDATE image_loaded SET status = 'theirs'"),
          (given) => given.save(Loaded, { id: 1, status: 'mine' }),
        ),
      );
      expect(events.map(({ previous }) => previous)).toEqual([{ status: 'new' }]);
    });
  });

  it('is read again if a hook has written the row', async () => {
    await manager.save(Parent, { id: 1 });
    const subscriber: EntitySubscriberInterface<Parent> = {
      listenTo: () => Parent,
      async beforeUpdate({ manager: inner, databaseEntity }) {
        // Undefined for query builders, although TypeORM's type says otherwise.
        if (databaseEntity) await inner.update(Parent, { id: 1 }, { price: '7.00' });
      },
    };
    app.dataSource.subscribers.push(subscriber);
    const events = await eventsOf(() => manager.save(Parent, { id: 1, status: 'paid' }));
    app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber), 1);
    expect(events.map(({ data, previous }) => [data.price, data.status, previous])).toEqual([
      ['7.00', 'new', { price: '1.50' }],
      ['7.00', 'paid', { status: 'new' }],
    ]);
  });

  it('is read again if another write has written the row since it was read', async () => {
    await manager.save(Parent, [{ id: 1 }, { id: 2 }]);
    let isDone = false;
    const subscriber: EntitySubscriberInterface = {
      async beforeQuery({ query, manager: inner }: { query: string; manager: EntityManager }) {
        if (isDone || !/^UPDATE .image_parent/.test(query)) return;
        isDone = true;
        await inner.update(Parent, { id: 2 }, { price: '7.00' });
      },
    };
    app.dataSource.subscribers.push(subscriber);
    const events = await eventsOf(() =>
      manager.save([1, 2].map((id) => manager.create(Parent, { id, status: 'paid' }))),
    );
    app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber), 1);
    const ofSecond = events.filter(({ data }) => data.id === 2);
    expect(ofSecond.map(({ data, previous }) => [data.price, data.status, previous])).toEqual([
      ['7.00', 'new', { price: '1.50' }],
      ['7.00', 'paid', { status: 'new' }],
    ]);
  });

  describe('is read and locked', () => {
    beforeEach(async () => {
      await manager.save(Parent, [
        { id: 1, children: [{ id: 1 }, { id: 2 }] },
        { id: 2, children: [{ id: 3 }] },
        { id: 3, children: [] },
      ]);
    });
    const changed = async () => {
      const rows = await manager.find(Parent, { relations: { children: true }, order: { id: 'DESC' } });
      for (const row of rows) {
        row.status = 'changed';
        for (const child of row.children) child.name = 'changed';
      }
      return rows;
    };

    it('by one statement for each entity of a save(), in the order of the primary key', async () => {
      const rows = await changed();
      const reads = await readsOf(() => manager.save(rows));
      expect(reads.map((text) => /image_\w+/.exec(text)?.[0])).toEqual(['image_parent', 'image_child']);
      if (!isSqlite) for (const text of reads) expect(text).toMatch(/ORDER BY .*FOR (?:NO KEY )?UPDATE$/s);
      if (isPostgres) for (const text of reads) expect(text).toMatch(/FOR NO KEY UPDATE$/);
    });

    it('by one statement for each entity of a remove(), with the lock strength of a DELETE', async () => {
      const rows = await changed();
      const reads = await readsOf(() => manager.remove([...rows.flatMap(({ children }) => children), ...rows]));
      expect(reads.map((text) => /image_\w+/.exec(text)?.[0])).toEqual(['image_child', 'image_parent']);
      if (!isSqlite) for (const text of reads) expect(text).toMatch(/ FOR UPDATE$/);
    });

    it('by one statement, even if rows that are not captured are written in between', async () => {
      const rows = await changed();
      const mixed = rows.flatMap((row) => [row, manager.create(Plain, { id: row.id, n: 1 })]);
      await manager.save(Plain, [{ id: 1 }, { id: 2 }, { id: 3 }]);
      const reads = await readsOf(() => manager.save(mixed));
      expect(reads.map((text) => /image_\w+/.exec(text)?.[0])).toEqual(['image_parent', 'image_child']);
      expect(await manager.countBy(Plain, { n: 1 })).toBe(3);
    });

    it('never by a save() that changes nothing', async () => {
      const rows = await manager.find(Parent, { relations: { children: true } });
      expect(await readsOf(() => manager.save(rows))).toEqual([]);
      expect(statements.texts.some((text) => /^(?:START|BEGIN)/.test(text))).toBe(false);
    });

    it('with exactPrevious: false only if a foreign key was not loaded', async () => {
      await manager.save(Loaded, { id: 1 });
      const events = await eventsOf(async () => {
        expect(await readsOf(() => manager.save(Loaded, { id: 1, status: 'paid' }))).toEqual([]);
      });
      expect(events).toMatchObject([{ type: 'loaded.updated', previous: { status: 'new' } }]);
      const moved = await eventsOf(() => manager.save(Loaded, { id: 1, parent: { id: 1 } }));
      expect(moved).toMatchObject([{ data: { parent: 1 }, previous: { parent: null } }]);
    });

    it.runIf(isPostgres).each<[string, (given: EntityManager) => Promise<unknown>]>([
      ['save()', (given) => given.save(Parent, { id: 1, status: 'held' })],
      ['update()', (given) => given.update(Parent, 1, { status: 'held' })],
      ['save() of a row with links', (given) => given.save(Album, { id: 1, title: 'held' })],
      ['update() of a row with links', (given) => given.update(Album, 1, { title: 'held' })],
    ])('with a lock that lets children of the row be inserted during %s', async (_, write) => {
      await manager.insert(Album, { id: 1 });
      await manager.transaction(async (given) => {
        await write(given);
        await manager.transaction(async (other) => {
          await other.query("SET LOCAL lock_timeout = '2s'");
          await other.insert(Child, { id: 9, parent: { id: 1 } });
          await other.insert(Photo, { id: 9, album: { id: 1 } });
        });
      });
      expect(await manager.countBy(Photo, { id: 9 })).toBe(1);
    });

    // The statements are the same on every database.
    it.runIf(isSqlite)(
      'in the same order by every save() of the same rows, also if it takes several statements',
      async () => {
        const rows = Array.from({ length: 501 }, (_, n) => ({ a: n % 7, b: n }));
        await manager.insert(Pair, rows);
        const keysRead = async (list: typeof rows, n: number) => {
          const reads = await readsOf(() => manager.save(list.map((row) => manager.create(Pair, { ...row, n }))));
          const keys = reads.map((text) => text.slice(text.indexOf('WHERE')).match(/\d+/g)?.toSorted());
          return keys.slice(0, 2); // The others are reads after the write.
        };
        const read = await keysRead(rows, 1);
        expect(read.map((keys) => keys?.length)).toEqual([1_000, 2]);
        expect(await keysRead(rows.toReversed(), 2)).toEqual(read);
      },
    );

    it('so that two saves of the same rows in different order cause no deadlock', async () => {
      for (let round = 1; round <= 20; round++) {
        const status = `round ${round}`;
        await Promise.all(
          [
            [1, 2, 3],
            [3, 2, 1],
            [2, 3, 1],
          ].map((ids, n) =>
            manager.save(
              Parent,
              ids.map((id) => ({ id, status: `${status} ${n}` })),
            ),
          ),
        );
      }
      const rows = await manager.find(Parent);
      expect(new Set(rows.map(({ status }) => status)).size).toBe(1);
    });
  });

  describe.runIf(isPostgres)('under row-level security', () => {
    const role = `image_role_${process.pid}`;
    const asRole = (write: (inner: EntityManager) => Promise<unknown>) =>
      manager.transaction(async (inner) => {
        await inner.query(`SET LOCAL ROLE ${role}`);
        await write(inner);
      });

    beforeAll(async () => {
      await manager.query(`CREATE ROLE ${role}`);
      await manager.query(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`);
      await manager.query(`GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ${role}`);
      await manager.query('ALTER TABLE image_child ENABLE ROW LEVEL SECURITY');
      for (const command of ['SELECT', 'DELETE']) {
        await manager.query(`CREATE POLICY allows_${command} ON image_child FOR ${command} TO ${role} USING (true)`);
      }
    });
    afterAll(async () => {
      await manager.query('ALTER TABLE image_child DISABLE ROW LEVEL SECURITY');
      await manager.query(`DROP OWNED BY ${role}`);
      await manager.query(`DROP ROLE ${role}`);
    });
    beforeEach(() => manager.save(Child, { id: 1 }));

    it('refuses to delete a row that no policy allows to lock', async () => {
      const remove = async (inner: EntityManager) => inner.remove(await inner.findOneByOrFail(Child, { id: 1 }));
      await expect(asRole(remove)).rejects.toMatchObject({ code: 'ROWS_MISSED' });
      await expect(asRole((inner) => remove(inner).catch(() => {}))).rejects.toMatchObject({ code: 'ROWS_UNKNOWN' });
      expect(await manager.countBy(Child, { id: 1 })).toBe(1);
    });

    it('captures a delete with a policy for UPDATE', async () => {
      await manager.query(`CREATE POLICY allows_update ON image_child FOR UPDATE TO ${role} USING (true)`);
      const events = await eventsOf(() =>
        asRole(async (inner) => inner.remove(await inner.findOneByOrFail(Child, { id: 1 }))),
      );
      expect(events.map(({ type }) => type)).toEqual(['child.deleted']);
    });
  });

  it('is the last row of the previous writer, for each of many concurrent writers', async () => {
    await manager.save(Parent, { id: 1 });
    const events = await eventsOf(() =>
      Promise.all(Array.from({ length: 10 }, (_, n) => manager.save(Parent, { id: 1, status: `by ${n}` }))),
    );
    let status: unknown = 'new';
    for (const { data, previous } of events) {
      expect(previous).toEqual({ status });
      ({ status } = data);
    }
    expect(status).toBe((await manager.findOneByOrFail(Parent, { id: 1 })).status);
  });
});
