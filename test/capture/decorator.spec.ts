// Misspelt on purpose. cspell:ignore ownr
import { Exclude, Expose } from 'class-transformer';
import {
  Column,
  DeleteDateColumn,
  Entity,
  EntitySchema,
  ManyToOne,
  PrimaryGeneratedColumn,
  ChildEntity,
  TableInheritance,
  type DataSourceOptions,
  type Relation,
} from 'typeorm';
import { afterEach, describe, expect, it } from 'vitest';
import { EVERY_OWNER, Webhook, WebhookHidden, type WebhookFeature, type WebhookOptions } from 'nestjs-entity-webhooks';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

class Street {
  @Column({ type: 'varchar', length: 50, nullable: true })
  name: string | null;

  @WebhookHidden()
  @Column({ type: 'varchar', length: 50, nullable: true })
  doorCode: string | null;
}

class Address {
  @Column({ type: 'varchar', length: 50, nullable: true })
  city: string | null;

  @Exclude()
  @Column({ type: 'varchar', length: 50, nullable: true })
  note: string | null;

  @Column(() => Street)
  street: Street;
}

@Entity('deco_customer')
class Customer {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  tenant: string;
}

@Entity('deco_account')
class UserAccount {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'john' })
  name: string;

  @Column({ type: 'varchar', length: 50, nullable: true, select: false })
  password: string | null;

  @Column({ type: 'varchar', length: 50, nullable: true, select: false })
  tenantId: string | null;

  @WebhookHidden()
  @Column({ type: 'varchar', length: 50, nullable: true })
  hidden: string | null;

  @Exclude()
  @Column({ type: 'varchar', length: 50, nullable: true })
  excluded: string | null;

  @Expose({ groups: ['admin'] })
  @Column({ type: 'varchar', length: 50, nullable: true })
  forAdmins: string | null;

  @Column(() => Address)
  address: Address;

  @ManyToOne(() => Customer, { nullable: true })
  customer: Relation<Customer> | null;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Exclude()
@Entity('deco_vault')
class Vault {
  @PrimaryGeneratedColumn()
  @Expose()
  id: number;

  @Expose()
  @Column({ type: 'varchar', length: 50, default: 'blue' })
  label: string;

  @Column({ type: 'varchar', length: 50, default: '1234' })
  code: string;
}

@Webhook({ fields: ['id', 'title'], on: ['created'] })
abstract class Titled {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 't' })
  title: string;
}

@Entity('deco_book')
class Book extends Titled {
  @Column({ type: 'int', default: 1 })
  pages: number;
}

@Webhook({ name: 'vehicle' })
@Entity('deco_vehicle')
@TableInheritance({ column: { type: 'varchar', length: 20, name: 'kind' } })
class Vehicle {
  @PrimaryGeneratedColumn()
  id: number;
}

@ChildEntity()
class Car extends Vehicle {
  @Column({ type: 'int', default: 5 })
  seats: number;
}

const Tag = new EntitySchema<{ id: number; word: string }>({
  name: 'Tag',
  tableName: 'deco_tag',
  columns: {
    id: { type: Number, primary: true, generated: true },
    word: { type: 'varchar', length: 50 },
  },
});

let close: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const one of close.toReversed()) await one();
  close = [];
});

async function start(
  features: WebhookFeature[],
  options: DataSourceOptions | null = null,
  others: (abstract new (...args: never[]) => unknown)[] = [],
): Promise<TestApp> {
  let database = options;
  if (!database) {
    const fresh: FreshDatabase = await databases[0]!.reuse();
    close.push(() => fresh.drop());
    database = fresh.options;
  }
  const app = await startApp({ database, entities: features, others: others as never });
  close.push(() => app.close());
  return app;
}

const account = (options: WebhookOptions<UserAccount> = {}) => ({ entity: UserAccount, ...options });
const accountApp = (options: WebhookOptions<UserAccount> = {}) => start([account(options)], null, [Customer]);
const accounts = (app: TestApp) => app.dataSource.getRepository(UserAccount);
const owners = async (app: TestApp) => {
  const rows: { audience: string; owner: string | null }[] = await app.dataSource.query(
    'select audience, owner from webhook_events order by seq',
  );
  return rows.map(({ audience, owner }) => `${audience} ${owner}`);
};

describe('name', () => {
  it('is the class name in snake_case by default', async () => {
    const app = await accountApp();
    await accounts(app).save({});
    expect((await storedEvents(app)).map(({ type }) => type)).toEqual(['user_account.created']);
  });

  it.each(['User', 'user-account', 'a.b', '', 'x'.repeat(101)])('is refused when it is %j', async (name) => {
    await expect(accountApp({ name })).rejects.toMatchObject({
      code: 'INVALID_WEBHOOK_OPTIONS',
      message: expect.stringContaining('UserAccount') as string,
    });
  });
});

describe('on', () => {
  it.each(['created', 'updated', 'deleted', 'restored'] as const)(
    '%s alone makes events of no other action',
    async (on) => {
      const app = await accountApp({ on: [on] });
      const row = await accounts(app).save({ name: 'a' });
      await accounts(app).save({ id: row.id, name: 'b' });
      await accounts(app).softRemove(row);
      await accounts(app).recover(row);
      expect((await storedEvents(app)).map(({ type }) => type)).toEqual([`user_account.${on}`]);
    },
  );

  it('rejects an action that does not exist', async () => {
    await expect(accountApp({ on: ['changed' as never] })).rejects.toMatchObject({
      code: 'INVALID_WEBHOOK_OPTIONS',
      message: expect.stringContaining('changed') as string,
    });
  });
});

describe('fields', () => {
  it('are the only fields of the payload, embedded ones with a dot, relations as the id of the other row', async () => {
    const app = await accountApp({ fields: ['id', 'name', 'address.city', 'address.street.name', 'customer'] });
    const customer = await app.dataSource.getRepository(Customer).save({});
    const address = { city: 'Lyon', note: 'n', street: { name: 'Rue', doorCode: '1' } };
    await accounts(app).save({ name: 'a', excluded: 'x', address, customer });
    expect(await storedEvents(app)).toEqual([
      {
        type: 'user_account.created',
        data: { id: 1, name: 'a', address: { city: 'Lyon', street: { name: 'Rue' } }, customer: customer.id },
      },
    ]);
  });

  it.each([
    'nam',
    'password',
    'tenantId',
    'hidden',
    'excluded',
    'forAdmins',
    'address.note',
    'address.street.doorCode',
  ])('stop the bootstrap when they name %s', async (field) => {
    await expect(accountApp({ fields: ['id', field as 'id'] })).rejects.toMatchObject({
      code: 'INVALID_WEBHOOK_OPTIONS',
      message: expect.stringContaining(field) as string,
    });
  });

  it('make no event if only other columns change', async () => {
    const app = await accountApp({ fields: ['id', 'name'] });
    const row = await accounts(app).save({ name: 'a' });
    await accounts(app).save({ id: row.id, excluded: 'changed' });
    expect(await storedEvents(app)).toHaveLength(1);
  });
});

describeDatabases('what is hidden', (database) => {
  it('is never in data or in previous, even if it was loaded or set', async () => {
    const fresh = await database.create();
    close.push(() => fresh.drop());
    const app = await start([account()], fresh.options, [Customer]);
    const secrets = { password: 'hunter2', tenantId: 'hunter3', hidden: 'hunter4', excluded: 'hunter5' };
    const address = { city: 'Lyon', note: 'hunter6', street: { name: 'Rue', doorCode: 'hunter7' } };
    const row = await accounts(app).save({ name: 'a', ...secrets, forAdmins: 'hunter8', address });
    const loaded = await accounts(app)
      .createQueryBuilder('a')
      .addSelect(['a.password', 'a.tenantId'])
      .where({ id: row.id })
      .getOneOrFail();
    loaded.name = 'b';
    for (const key of ['password', 'tenantId', 'hidden', 'excluded', 'forAdmins'] as const) loaded[key] = 'hunter9';
    loaded.address.note = 'hunter9';
    loaded.address.street.doorCode = 'hunter9';
    await accounts(app).save(loaded);
    await accounts(app).remove(loaded);
    const payloads: { payload: string }[] = await app.dataSource.query(
      'select payload from webhook_events order by seq',
    );
    expect(payloads).toHaveLength(3);
    for (const { payload } of payloads) expect(payload).not.toContain('hunter');
    const [created, updated] = await storedEvents(app);
    expect(Object.keys(created!.data).toSorted()).toEqual(['address', 'customer', 'deletedAt', 'id', 'name']);
    expect(updated!.previous).toEqual({ name: 'a' });
  });

  it('includes the properties that @Exclude() on a class hides: all that are not exposed', async () => {
    const fresh = await database.create();
    close.push(() => fresh.drop());
    const app = await start([{ entity: Vault }], fresh.options);
    await app.dataSource.getRepository(Vault).save({});
    expect((await storedEvents(app)).map(({ data }) => data)).toEqual([{ id: 1, label: 'blue' }]);
  });
});

describeDatabases('owner', (database) => {
  const ownerApp = async (owner: WebhookOptions<UserAccount>['owner']) => {
    const fresh = await database.create();
    close.push(() => fresh.drop());
    return start([account(owner === undefined ? {} : { owner })], fresh.options, [Customer]);
  };

  it('is the application if it is not declared', async () => {
    const app = await ownerApp(undefined);
    await accounts(app).save({});
    expect(await owners(app)).toEqual(['application null']);
  });

  it('is every owner if declared so', async () => {
    const app = await ownerApp(EVERY_OWNER);
    await accounts(app).save({});
    expect(await owners(app)).toEqual(['every null']);
  });

  it('may be a property, an embedded one or a relation', async () => {
    const byName = await ownerApp('name');
    await accounts(byName).save({ name: 'acme' });
    expect(await owners(byName)).toEqual(['owner acme']);
    const byCity = await ownerApp('address.city');
    await accounts(byCity).save({ address: { city: 'Lyon' } });
    expect(await owners(byCity)).toEqual(['owner Lyon']);
    const byCustomer = await ownerApp('customer');
    const customer = await byCustomer.dataSource.getRepository(Customer).save({});
    await accounts(byCustomer).save({ customer });
    expect(await owners(byCustomer)).toEqual([`owner ${customer.id}`]);
  });

  it('may be a select: false column, even if a write neither loads nor sets it', async () => {
    const app = await ownerApp('tenantId');
    const { id } = await accounts(app).save({ tenantId: 'acme' });
    await accounts(app).save({ id, name: 'b' });
    await accounts(app).remove(await accounts(app).findOneByOrFail({ id }));
    expect(await owners(app)).toEqual(['owner acme', 'owner acme', 'owner acme']);
  });

  it('may be a function, which always sees the foreign key', async () => {
    const app = await ownerApp((row) => row.customer?.id);
    const customer = await app.dataSource.getRepository(Customer).save({});
    const { id } = await accounts(app).save({ customer });
    await accounts(app).save({ id, name: 'b' });
    await accounts(app).remove(await accounts(app).findOneByOrFail({ id }));
    expect(await owners(app)).toEqual(Array(3).fill(`owner ${customer.id}`));
  });

  it.each([null, undefined, ''])('is the application if it evaluates to %j', async (value) => {
    const app = await ownerApp(() => value);
    await accounts(app).save({});
    expect(await owners(app)).toEqual(['application null']);
  });

  it.each([0, 7n, 'ACME'])('is compared as text: %s', async (value) => {
    const app = await ownerApp(() => value);
    await accounts(app).save({});
    expect(await owners(app)).toEqual([`owner ${value}`]);
  });

  it.each([
    ['throws', () => expect.fail('no tenant'), 'OWNER_FAILED'],
    ['is a Promise', async () => 'acme', 'INVALID_OWNER'],
    ['is an object', () => ({ id: 1 }), 'INVALID_OWNER'],
    ['is not a number', () => Number.NaN, 'INVALID_OWNER'],
  ])('that %s fails the write, and leaves neither row nor event', async (_, owner, code) => {
    const app = await ownerApp(owner as never);
    await expect(accounts(app).save({})).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/owner.*UserAccount|UserAccount.*owner/s) as string,
    });
    expect(await accounts(app).count()).toBe(0);
    expect(await storedEvents(app)).toEqual([]);
  });
});

it.each(['ownr', 'address'])('an owner that names %s stops the bootstrap', async (owner) => {
  await expect(accountApp({ owner: owner as 'name' })).rejects.toMatchObject({ code: 'INVALID_WEBHOOK_OPTIONS' });
});

describe('when', () => {
  it('decides by the row and the action', async () => {
    const app = await accountApp({ when: (row, action) => row.name !== 'draft' || action === 'deleted' });
    const row = await accounts(app).save({ name: 'draft' });
    await accounts(app).save({ id: row.id, name: 'ready' });
    await accounts(app).save({ id: row.id, name: 'draft' });
    await accounts(app).remove(await accounts(app).findOneByOrFail({ id: row.id }));
    expect((await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.name)}`)).toEqual([
      'user_account.updated ready',
      'user_account.deleted draft',
    ]);
  });

  it.each([
    ['throws', () => expect.fail('no idea')],
    ['gives a Promise, which would count as true', async () => false],
  ])('that %s fails the write', async (_, when) => {
    const app = await accountApp({ when: when as never });
    await expect(accounts(app).save({})).rejects.toMatchObject({ code: 'WHEN_FAILED' });
    expect(await accounts(app).count()).toBe(0);
  });
});

it('an unknown option stops the bootstrap, and the error names it', async () => {
  await expect(accountApp({ field: ['id'] } as never)).rejects.toMatchObject({
    code: 'INVALID_WEBHOOK_OPTIONS',
    message: expect.stringMatching(/`field`.*fields/s) as string,
  });
});

describe('options of', () => {
  it('an abstract base class are inherited, except the name', async () => {
    const app = await start([Book]);
    const { id } = await app.dataSource.getRepository(Book).save({});
    await app.dataSource.getRepository(Book).save({ id, title: 'changed' });
    expect(await storedEvents(app)).toEqual([{ type: 'book.created', data: { id: 1, title: 't' } }]);
  });

  it('a child in a single table make events under its own name, which match the name of its parent', async () => {
    const app = await start([Vehicle], null, [Car]);
    await app.listeners.create({ events: ['vehicle.created'], url: app.receiver.url });
    await app.dataSource.getRepository(Car).save({});
    await app.dispatcher.drain();
    expect(app.receiver.requests.map((request) => request.json)).toMatchObject([
      { type: 'car.created', data: { id: 1, seats: 5 } },
    ]);
  });

  it('forFeature() for a class replace all options of the decorator', async () => {
    const app = await start([{ entity: Book, name: 'novel' }]);
    await app.dataSource.getRepository(Book).save({});
    expect(await storedEvents(app)).toEqual([{ type: 'novel.created', data: { id: 1, title: 't', pages: 1 } }]);
  });

  it('forFeature() for an EntitySchema are the only options', async () => {
    const app = await start([{ entity: Tag, fields: ['id'] }] as WebhookFeature[]);
    await app.dataSource.getRepository(Tag).save({ word: 'a' });
    expect(await storedEvents(app)).toEqual([{ type: 'tag.created', data: { id: 1 } }]);
  });
});
