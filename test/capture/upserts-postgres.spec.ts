import { Column, DeleteDateColumn, Entity, Index, PrimaryGeneratedColumn, Unique, type EntityManager } from 'typeorm';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';

import { describeOn, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook({ fields: ['account', 'key', 'value'] })
@Entity('upg_setting')
@Index('uq_live', ['account', 'key'], { unique: true, where: '"deletedAt" IS NULL' })
class Setting {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  account: string;

  @Column({ type: 'varchar', length: 20 })
  key: string;

  @Column({ type: 'int', default: 0 })
  value: number;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook({ fields: ['code', 'rev', 'other'] })
@Entity('upg_part')
@Unique('uq_part_code', ['code'])
class Part {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 40, nullable: true })
  code: string | null;

  @Column({ type: 'int', default: 0 })
  rev: number;

  @Column({ type: 'int', default: 0 })
  other: number;
}

/** Its table is created by the test in SQL. */
@Webhook({ fields: ['name', 'uses'] })
@Entity('upg_tag')
class Tag {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', nullable: true })
  name: string | null;

  @Column({ type: 'int', default: 0 })
  uses: number;
}

describeOn('postgres', 'which row an upsert wrote on PostgreSQL, and whether it existed', (postgres) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let manager: EntityManager;

  beforeAll(async () => {
    fresh = await postgres.create();
    app = await startApp({ database: fresh.options, entities: [Setting, Part, Tag] });
    ({ manager } = app.dataSource);
  });

  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  beforeEach(async () => {
    await manager.query('DELETE FROM upg_setting');
    await manager.query('DELETE FROM upg_part');
    await manager.query('DROP TABLE IF EXISTS upg_tag');
    await events();
  });

  async function events() {
    const stored = await storedEvents(app);
    await manager.query('DELETE FROM webhook_events');
    return stored.map(({ type, data, previous }) => [type.split('.')[1], Object.values(data).join(' '), previous]);
  }

  const onLive = { conflictPaths: ['account', 'key'], indexPredicate: '"deletedAt" IS NULL' };

  /** The table of {@link Tag}, with the constraint or index that makes a name unique. */
  async function tags(...statements: string[]): Promise<void> {
    for (const statement of statements) await manager.query(statement);
    await manager.insert(Tag, [{ name: 'Cafe' }, { name: 'two' }]);
    await events();
  }
  const PLAIN = 'CREATE TABLE upg_tag (id serial PRIMARY KEY, name varchar, uses int NOT NULL DEFAULT 0)';

  it('is answered by a partial index: a row outside of it does not conflict', async () => {
    await manager.insert(Setting, [
      { account: 'a', key: 'k', value: 1 },
      { account: 'a', key: 'k2', value: 1 },
    ]);
    await manager.softDelete(Setting, { key: 'k' });
    await events();
    await manager.upsert(
      Setting,
      [
        { account: 'a', key: 'k', value: 5 },
        { account: 'a', key: 'k2', value: 6 },
      ],
      onLive,
    );
    expect(await events()).toEqual([
      ['created', 'a k 5', undefined],
      ['updated', 'a k2 6', { value: 1 }],
    ]);
    // Now there are a deleted row and a live row.
    await manager.upsert(Setting, { account: 'a', key: 'k', value: 7 }, onLive);
    expect(await events()).toEqual([['updated', 'a k 7', { value: 5 }]]);
  });

  it('is answered where rows that would not change are skipped', async () => {
    await manager.insert(Part, [
      { code: 'x', rev: 5 },
      { code: 'y', rev: 1 },
    ]);
    await events();
    const rows = [{ code: 'x', rev: 5 }, { code: 'y', rev: 2 }, { code: 'z' }];
    await manager.upsert(Part, rows, { conflictPaths: ['code'], skipUpdateIfNoValuesChanged: true });
    expect(await events()).toEqual([
      ['updated', 'y 2 0', { rev: 1 }],
      ['created', 'z 0 0', undefined],
    ]);
  });

  it('is answered where a condition keeps a row as it is', async () => {
    await manager.insert(Part, [
      { code: 'x', rev: 5 },
      { code: 'y', rev: 1 },
    ]);
    await events();
    const where = { where: 'upg_part.rev < :rev', parameters: { rev: 3 } };
    const insert = manager.createQueryBuilder().insert().into(Part);
    const upsert = insert
      .values([
        { code: 'x', rev: 4, other: 1 },
        { code: 'new', rev: 1 },
        { code: 'y', rev: 9, other: 1 },
      ])
      .orUpdate(['rev', 'other'], ['code'], { overwriteCondition: where });
    await upsert.execute();
    expect(await events()).toEqual([
      ['created', 'new 1 0', undefined],
      ['updated', 'y 9 1', { rev: 1, other: 0 }],
    ]);
    expect(upsert.getQuery()).not.toContain('webhooks');
  });

  it('is answered by the name of a constraint', async () => {
    await manager.insert(Part, { code: 'x', rev: 1 });
    await events();
    const insert = manager.createQueryBuilder().insert().into(Part);
    const result = await insert
      .values([{ code: 'x', rev: 40 }, { code: 'q' }])
      .orUpdate(['rev'], 'uq_part_code')
      .returning(['code', 'rev'])
      .execute();
    expect(result.raw).toMatchObject([
      { code: 'x', rev: 40 },
      { code: 'q', rev: 0 },
    ]);
    expect(JSON.stringify(result)).not.toContain('wh_');
    expect(await events()).toEqual([
      ['updated', 'x 40 0', { rev: 1 }],
      ['created', 'q 0 0', undefined],
    ]);
  });

  it('is answered by an index on an expression', async () => {
    await tags(PLAIN, 'CREATE UNIQUE INDEX ON upg_tag (lower(name))');
    const insert = () => manager.createQueryBuilder().insert().into(Tag);
    await insert()
      .values([{ name: 'CAFE' }, { name: 'three' }])
      .orIgnore()
      .execute();
    expect(await events()).toEqual([['created', 'three 0', undefined]]);
  });

  it('is answered by a type that ignores case', async () => {
    await tags(
      'CREATE EXTENSION IF NOT EXISTS citext',
      'CREATE TABLE upg_tag (id serial PRIMARY KEY, name citext UNIQUE, uses int NOT NULL DEFAULT 0)',
    );
    await manager.upsert(Tag, [{ name: 'CAFE', uses: 3 }, { name: 'three' }], ['name']);
    expect(await events()).toEqual([
      ['updated', 'CAFE 3', { name: 'Cafe', uses: 0 }],
      ['created', 'three 0', undefined],
    ]);
  });

  it('is answered by a collation that ignores case and accents', async () => {
    await tags(
      `CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false)`,
      'CREATE TABLE upg_tag (id serial PRIMARY KEY, name varchar COLLATE blind UNIQUE, uses int NOT NULL DEFAULT 0)',
    );
    await manager.upsert(Tag, [{ name: 'CAFÉ', uses: 3 }, { name: 'three' }], ['name']);
    expect(await events()).toEqual([
      ['updated', 'CAFÉ 3', { name: 'Cafe', uses: 0 }],
      ['created', 'three 0', undefined],
    ]);
  });

  it('is answered by a generated column', async () => {
    await tags(PLAIN, 'ALTER TABLE upg_tag ADD short text GENERATED ALWAYS AS (lower(left(name, 2))) STORED UNIQUE');
    const insert = manager.createQueryBuilder().insert().into(Tag);
    await insert
      .values([{ name: 'CAR', uses: 3 }, { name: 'three' }])
      .orUpdate(['uses'], ['short'])
      .execute();
    expect(await events()).toEqual([
      ['updated', 'Cafe 3', { uses: 0 }],
      ['created', 'three 0', undefined],
    ]);
  });

  it('is answered where NULLs are not distinct', async ({ skip }) => {
    const [{ server_version_num: version }] = await manager.query('SHOW server_version_num');
    if (Number(version) < 150_000) {
      await manager.query(PLAIN);
      skip('PostgreSQL 15 has NULLS NOT DISTINCT');
    }
    await tags(PLAIN, 'CREATE UNIQUE INDEX ON upg_tag (name) NULLS NOT DISTINCT');
    await manager.upsert(Tag, { name: null, uses: 1 }, ['name']);
    await manager.upsert(Tag, { name: null, uses: 2 }, ['name']);
    expect(await events()).toEqual([
      ['created', ' 1', undefined],
      ['updated', ' 2', { uses: 1 }],
    ]);
  });

  it('is answered in a partitioned table', async () => {
    await tags(
      'CREATE TABLE upg_tag (id serial, name varchar, uses int NOT NULL DEFAULT 0, PRIMARY KEY (id, name), UNIQUE (name)) PARTITION BY HASH (name)',
      ...[0, 1].map(
        (n) => `CREATE TABLE upg_tag_${n} PARTITION OF upg_tag FOR VALUES WITH (MODULUS 2, REMAINDER ${n})`,
      ),
    );
    await manager.upsert(Tag, [{ name: 'Cafe', uses: 3 }, { name: 'three' }, { name: 'two', uses: 4 }], ['name']);
    expect(await events()).toEqual([
      ['updated', 'Cafe 3', { uses: 0 }],
      ['created', 'three 0', undefined],
      ['updated', 'two 4', { uses: 0 }],
    ]);
  });

  it('is answered where a trigger changes what is inserted', async () => {
    await tags(
      PLAIN,
      'ALTER TABLE upg_tag ADD UNIQUE (name)',
      `CREATE OR REPLACE FUNCTION upg_trim() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.name := trim(NEW.name); RETURN NEW; END'`,
      'CREATE TRIGGER trimmed BEFORE INSERT OR UPDATE ON upg_tag FOR EACH ROW EXECUTE FUNCTION upg_trim()',
    );
    await manager.upsert(Tag, [{ name: ' Cafe ', uses: 3 }, { name: ' three' }], ['name']);
    expect(await events()).toEqual([
      ['updated', 'Cafe 3', { uses: 0 }],
      ['created', 'three 0', undefined],
    ]);
  });

  it('is answered where a trigger keeps a row from being updated', async () => {
    await tags(
      PLAIN,
      'ALTER TABLE upg_tag ADD UNIQUE (name)',
      `CREATE OR REPLACE FUNCTION upg_keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
      `CREATE TRIGGER kept BEFORE UPDATE ON upg_tag FOR EACH ROW WHEN (OLD.name = 'Cafe') EXECUTE FUNCTION upg_keep()`,
    );
    await manager.upsert(Tag, [{ name: 'Cafe', uses: 3 }, { name: 'three' }, { name: 'two', uses: 1 }], ['name']);
    expect(await events()).toEqual([
      ['created', 'three 0', undefined],
      ['updated', 'two 1', { uses: 0 }],
    ]);
  });

  it('is answered for a role that may not read every column', async () => {
    await tags(
      PLAIN,
      'ALTER TABLE upg_tag ADD UNIQUE (name)',
      `ALTER TABLE upg_tag ADD secret text NOT NULL DEFAULT 's'`,
      'DROP ROLE IF EXISTS upg_writer',
      'CREATE ROLE upg_writer',
      'GRANT USAGE ON SCHEMA public TO upg_writer',
      'GRANT INSERT, UPDATE, SELECT (id, name, uses) ON upg_tag TO upg_writer',
      'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO upg_writer',
      'GRANT ALL ON webhook_events, webhook_outbox TO upg_writer',
    );
    await manager.transaction(async (inside) => {
      await inside.query('SET LOCAL ROLE upg_writer');
      await inside.upsert(Tag, [{ name: 'Cafe', uses: 3 }], ['name']);
    });
    expect(await events()).toEqual([['updated', 'Cafe 3', { uses: 0 }]]);
    await manager.query('DROP OWNED BY upg_writer; DROP ROLE upg_writer');
  });
});
