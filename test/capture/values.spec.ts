import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  Column,
  CreateDateColumn,
  DeleteDateColumn,
  Entity,
  JoinColumn,
  ManyToOne,
  OneToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  UpdateDateColumn,
  VersionColumn,
  type ObjectLiteral,
  type Relation,
} from 'typeorm';
import { CaptureError, Webhook, type Json } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { PayloadSchemas } from '../support/payload-schemas.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { entitiesFor, familyOf, KINDS } from './every-kind.js';
import { storedEvents } from './shop.js';

const ID = '0190163d-8694-739b-aea5-966c26f8ad00';

/** The payload value of each column, in the order of the columns; `at` is 0 for the inserted row and 1 for the updated row. */
function shownAt(at: 0 | 1): Record<string, Json> {
  return Object.fromEntries(KINDS.map((kind) => [kind.name, kind.shown[at]]));
}

function written(at: 0 | 1): Record<string, unknown> {
  return Object.fromEntries(KINDS.map((kind) => [kind.name, kind.written[at]]));
}

@Webhook()
@Entity('composite')
class Composite {
  @PrimaryColumn({ type: 'varchar', length: 10 })
  tenant: string;

  @PrimaryColumn({ type: 'bigint' })
  number: string;

  @Column({ type: 'varchar', length: 10 })
  name: string;
}

@Webhook()
@Entity('composite_child')
class CompositeChild {
  @PrimaryGeneratedColumn()
  id: number;

  @ManyToOne(() => Composite, { nullable: true })
  parent: Relation<Composite> | null;
}

@Webhook()
@Entity('profile')
class Profile {
  @PrimaryColumn({ type: 'varchar', length: 10 })
  tenant: string;

  @PrimaryColumn({ type: 'bigint' })
  number: string;

  @OneToOne(() => Composite)
  @JoinColumn([
    { name: 'tenant', referencedColumnName: 'tenant' },
    { name: 'number', referencedColumnName: 'number' },
  ])
  composite: Relation<Composite>;

  @Column({ type: 'varchar', length: 10 })
  nick: string;
}

@Webhook()
@Entity('dated')
class Dated {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 10 })
  name: string;

  @CreateDateColumn()
  createdAt: Date;

  @UpdateDateColumn()
  updatedAt: Date;

  @DeleteDateColumn()
  deletedAt: Date | null;

  @VersionColumn()
  version: number;
}

const broken: { from: (value: unknown) => unknown } = { from: (value) => value };

@Webhook()
@Entity('fragile')
class Fragile {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({
    type: 'varchar',
    length: 10,
    transformer: { to: (value: unknown) => value, from: (value: unknown) => broken.from(value) },
  })
  value: unknown;
}

@Webhook()
@Entity('numbered')
class Numbered {
  @PrimaryColumn({ type: 'int' })
  id: number | string;

  @Column({ type: 'varchar', length: 10 })
  name: string;
}

@Webhook()
@Entity('priced')
class Priced {
  @PrimaryColumn({ type: 'decimal', precision: 10, scale: 2 })
  price: string;

  @Column({ type: 'varchar', length: 10 })
  name: string;
}

describeDatabases('a value in a payload', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const { EveryKind, KindOwner } = entitiesFor(familyOf(database));

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [EveryKind, KindOwner, Composite, CompositeChild, Profile, Dated, Fragile, Numbered, Priced],
    });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    await app.dataSource.query('DELETE FROM webhook_events');
    broken.from = (value) => value;
  });

  const repository = <E extends ObjectLiteral>(entity: new () => E) => app.dataSource.getRepository(entity);
  const ofType = async (prefix: string) =>
    (await storedEvents(app)).filter((event) => event.type.startsWith(`${prefix}.`));

  describe('of each kind of column', () => {
    let events: Awaited<ReturnType<typeof storedEvents>>;

    beforeAll(async () => {
      await app.dataSource.query('DELETE FROM webhook_events');
      const [first, second] = await repository(KindOwner).save([{ id: '9007199254740993' }, { id: '2' }]);
      const rows = repository(EveryKind);
      const row = rows.create({ id: ID, ...written(0), address: { city: 'Köln', fee: '1.5' }, second: null } as never);
      Object.assign(row, { parent: first, lazy: Promise.resolve(first) });
      await rows.save(row);
      // Load as an application does, and remove the loaded row.
      const loaded = await rows.findOneByOrFail({ id: ID });
      Object.assign(loaded, written(1), {
        address: { city: null, fee: null },
        second: { city: 'x', fee: '0' },
        parent: second,
      });
      await rows.save(loaded);
      await rows.remove(await rows.findOneOrFail({ where: { id: ID }, relations: { parent: true } }));
      await rows.save({ id: ID } as never);
      events = await ofType('every_kind');
    });

    it.each(KINDS.map(({ name }) => name))(
      '%s has the same form when created, updated, before the update and deleted',
      (name) => {
        const [created, updated, deleted, absent] = events;
        const kind = shownAt(0)[name];
        expect({
          created: created?.data[name],
          updated: updated?.data[name],
          previous: updated?.previous?.[name],
          deleted: deleted?.data[name],
          absent: absent?.data[name],
        }).toEqual({
          created: kind,
          updated: shownAt(1)[name],
          previous: kind,
          deleted: shownAt(1)[name],
          absent: null,
        });
      },
    );

    it('fits the schema of its column', async () => {
      const schemas = await PayloadSchemas.of(app);
      expect(events.flatMap((event) => schemas.mistakesOf(event))).toEqual([]);
    });

    it('has the same text, in the order of the columns, on every database', () => {
      const rest = (at: 0 | 1) =>
        at === 0 ? { parent: '9007199254740993', lazy: '9007199254740993' } : { parent: '2', lazy: '9007199254740993' };
      const embedded = (at: 0 | 1) => ({
        address: at === 0 ? { city: 'Köln', fee: '1.50' } : { city: null, fee: null },
        second: at === 0 ? { city: null, fee: null } : { city: 'x', fee: '0.00' },
      });
      const data = (at: 0 | 1, version: number) => ({ id: ID, version, ...shownAt(at), ...rest(at), ...embedded(at) });
      const empty = { city: null, fee: null };
      const nothing = Object.fromEntries(KINDS.map(({ name }) => [name, null]));
      const { lazy: _, ...restBefore } = rest(0);
      const expected = [
        { type: 'every_kind.created', data: data(0, 1) },
        {
          type: 'every_kind.updated',
          data: data(1, 2),
          previous: { version: 1, ...shownAt(0), ...restBefore, ...embedded(0) },
        },
        { type: 'every_kind.deleted', data: data(1, 2) },
        {
          type: 'every_kind.created',
          data: { id: ID, version: 1, ...nothing, parent: null, lazy: null, address: empty, second: empty },
        },
      ];
      expect(events.map((event) => JSON.stringify(event))).toEqual(expected.map((event) => JSON.stringify(event)));
    });
  });

  it('of a composite key has one property for each column, and each row has its own event', async () => {
    const rows = repository(Composite);
    await rows.save([
      { tenant: 'a', number: '9007199254740993', name: 'one' },
      { tenant: 'b', number: '9007199254740993', name: 'two' },
      { tenant: 'a', number: '1', name: 'three' },
    ]);
    expect((await ofType('composite')).map(({ data }) => data)).toEqual([
      { tenant: 'a', number: '9007199254740993', name: 'one' },
      { tenant: 'b', number: '9007199254740993', name: 'two' },
      { tenant: 'a', number: '1', name: 'three' },
    ]);
    const child = await repository(CompositeChild).save({ parent: { tenant: 'a', number: '1' } as Composite });
    await repository(CompositeChild).save({ id: child.id, parent: null });
    expect(await ofType('composite_child')).toEqual([
      { type: 'composite_child.created', data: { id: child.id, parent: { tenant: 'a', number: '1' } } },
      {
        type: 'composite_child.updated',
        data: { id: child.id, parent: null },
        previous: { parent: { tenant: 'a', number: '1' } },
      },
    ]);
    await repository(CompositeChild).save({ id: child.id, parent: { tenant: 'a', number: '1' } as Composite });
    await repository(CompositeChild).remove(await repository(CompositeChild).findOneByOrFail({ id: child.id }));
    expect((await ofType('composite_child')).slice(2)).toEqual([
      {
        type: 'composite_child.updated',
        data: { id: child.id, parent: { tenant: 'a', number: '1' } },
        previous: { parent: null },
      },
      { type: 'composite_child.deleted', data: { id: child.id, parent: { tenant: 'a', number: '1' } } },
    ]);
    await repository(Profile).save({ composite: { tenant: 'a', number: '1' } as Composite, nick: 'x' } as Profile);
    const profile = await repository(Profile).findOneByOrFail({ tenant: 'a' });
    await repository(Profile).save(Object.assign(profile, { nick: 'y' }));
    await repository(Profile).remove(profile);
    expect((await ofType('profile')).map(({ type, data }) => [type, data])).toEqual([
      ['profile.created', { tenant: 'a', number: '1', nick: 'x' }],
      ['profile.updated', { tenant: 'a', number: '1', nick: 'y' }],
      ['profile.deleted', { tenant: 'a', number: '1', nick: 'y' }],
    ]);
  });

  it('of a relation is the id of the related row, also for a lazy relation with a separate column', async () => {
    await repository(KindOwner).save([{ id: '10' }, { id: '11' }]);
    const rows = repository(EveryKind);
    const id = ID.replace('00', '88');
    const row = rows.create({ id } as never);
    const [ten, eleven] = await repository(KindOwner).find({
      where: [{ id: '10' }, { id: '11' }],
      order: { id: 'ASC' },
    });
    Object.assign(row, { parent: ten, lazy: Promise.resolve(ten) });
    await rows.save(row);
    const loaded = await rows.findOneByOrFail({ id });
    loaded.lazy = Promise.resolve(eleven as InstanceType<typeof KindOwner>);
    await rows.save(loaded);
    await rows.remove(await rows.findOneByOrFail({ id }));
    const foreignKeys = ({ parent, lazy }: Record<string, Json> = {}) => ({ parent, lazy });
    const events = await ofType('every_kind');
    expect(events.map(({ data, previous }) => [foreignKeys(data), previous && foreignKeys(previous)])).toEqual([
      [{ parent: '10', lazy: '10' }, undefined],
      [
        { parent: '10', lazy: '11' },
        { parent: undefined, lazy: '10' },
      ],
      [{ parent: '10', lazy: '11' }, undefined],
    ]);
    expect(JSON.stringify(events)).not.toContain('__');
  });

  it('of create, update, delete and version columns is an instant with milliseconds, or a number', async () => {
    const rows = repository(Dated);
    const row = await rows.save({ name: 'a' });
    const { createdAt } = await rows.findOneByOrFail({ id: row.id });
    row.name = 'b';
    await rows.save(row);
    await rows.softRemove(row);
    await rows.recover(row);
    await rows.remove(row);
    const instant = expect.stringMatching(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string;
    const events = await ofType('dated');
    expect(events.map(({ type, data }) => [type, data])).toEqual(
      (
        [
          ['created', 'a', null],
          ['updated', 'b', null],
          ['deleted', 'b', instant],
          ['restored', 'b', null],
          ['deleted', 'b', null],
        ] as const
      ).map(([action, name, deletedAt]) => [
        `dated.${action}`,
        { id: 1, name, createdAt: instant, updatedAt: instant, deletedAt, version: expect.any(Number) as number },
      ]),
    );
    const [created, updated] = events;
    expect(created?.data).toMatchObject({ version: 1, createdAt: createdAt.toISOString() });
    expect(updated?.previous).toMatchObject({ name: 'a', version: 1 });
  });

  it.each(['America/New_York', 'Asia/Tokyo', 'UTC'])(
    'of a date is the stored day, in a process in %s',
    async (zone) => {
      const { TZ } = process.env;
      process.env.TZ = zone;
      try {
        const rows = repository(EveryKind);
        const row = await rows.save({ date: '2024-02-29' } as never);
        await rows.save(Object.assign(row, { date: '2024-03-31' }));
        await rows.remove(row);
        expect((await ofType('every_kind')).map(({ data, previous }) => [data.date, previous?.date])).toEqual([
          ['2024-02-29', undefined],
          ['2024-03-31', '2024-02-29'],
          ['2024-03-31', undefined],
        ]);
      } finally {
        if (TZ === undefined) delete process.env.TZ;
        else process.env.TZ = TZ;
      }
    },
  );

  it('is that of the row even if the writer gives the key in another form', async () => {
    const rows = repository(EveryKind);
    const upper = 'ABCDEF3D-8694-739B-AEA5-966C26F8AD91';
    await app.dataSource.transaction(async (manager) => {
      await manager.save(EveryKind, [
        { id: upper, int: 1 },
        { id: ID.replace('00', '99'), int: 2 },
      ] as never[]);
      const loaded = await manager.findOneByOrFail(EveryKind, { id: upper });
      loaded.int = 3;
      await manager.save(EveryKind, loaded);
    });
    expect((await ofType('every_kind')).map(({ type, data }) => `${type} ${String(data.int)}`)).toEqual([
      'every_kind.created 1',
      'every_kind.created 2',
      'every_kind.updated 3',
    ]);
    await rows.clear();

    await repository(Numbered).save([
      { id: '7', name: 'a' },
      { id: 8, name: 'b' },
    ]);
    await repository(Priced).save([
      { price: '1.5', name: 'a' },
      { price: '2', name: 'b' },
    ]);
    expect((await ofType('numbered')).map(({ data }) => data)).toEqual([
      { id: 7, name: 'a' },
      { id: 8, name: 'b' },
    ]);
    expect((await ofType('priced')).map(({ data }) => data)).toEqual([
      { price: '1.50', name: 'a' },
      { price: '2.00', name: 'b' },
    ]);
  });

  describe('that has no JSON form', () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    const forms: [string, unknown][] = [
      ['a function', () => 1],
      ['a symbol inside an array', [Symbol('x')]],
      ['a cycle', cycle],
      [
        'an object whose toJSON throws',
        {
          toJSON: () => {
            throw new Error('no');
          },
        },
      ],
    ];

    it.each(forms)(
      'makes the write fail with the names of entity and field, and rolls the row back: %s',
      async (_, value) => {
        const before = await repository(Fragile).count();
        broken.from = () => value;
        const error: unknown = await repository(Fragile)
          .save({ value: 'x' })
          .catch((caught: unknown) => caught);
        expect(error).toBeInstanceOf(CaptureError);
        expect(error).toMatchObject({
          code: 'UNSERIALIZABLE_FIELD',
          message: expect.stringContaining('Fragile.value') as string,
          details: { entity: 'Fragile', field: 'value' },
        });
        broken.from = (read) => read;
        expect(await repository(Fragile).count()).toBe(before);
        expect(await ofType('fragile')).toEqual([]);
      },
    );

    it('makes the transaction of the caller fail, with its other rows', async () => {
      const before = await repository(Composite).count();
      broken.from = () => () => 1;
      const writing = app.dataSource.transaction(async (manager) => {
        await manager.save(Composite, { tenant: 'z', number: '1', name: 'x' });
        await manager.save(Fragile, { value: 'x' });
      });
      await expect(writing).rejects.toMatchObject({ code: 'UNSERIALIZABLE_FIELD' });
      expect(await repository(Composite).count()).toBe(before);
      expect(await storedEvents(app)).toEqual([]);
      broken.from = (value) => value;
      await repository(Fragile).save({ value: 'y' });
      expect((await ofType('fragile')).map(({ data }) => data.value)).toEqual(['y']);
    });

    it('makes a remove fail, too, and the row stays', async () => {
      const row = await repository(Fragile).save({ value: 'z' });
      broken.from = () => () => 1;
      await expect(repository(Fragile).remove(row)).rejects.toMatchObject({ code: 'UNSERIALIZABLE_FIELD' });
      broken.from = (value) => value;
      expect(await repository(Fragile).countBy({ value: 'z' })).toBe(1);
    });
  });
});
