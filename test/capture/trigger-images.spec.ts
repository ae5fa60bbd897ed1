import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Column, DataSource, Entity, PrimaryColumn, type DataSourceOptions } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { isFaultOfImage } from '../../libs/webhooks/src/capture/triggers/image-fault.js';
import { describeDatabases, describeOn, type FreshDatabase } from '../support/databases.js';
import { listenToLog, type Said } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

/** The name is also a type of PostgreSQL. */
@Webhook({ capture: 'trigger' })
@Entity('line')
class Line {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'new' })
  status: string;
}

@Webhook({ capture: 'trigger' })
@Entity('date')
class Appointment {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

@Webhook({ capture: 'trigger' })
@Entity('plain')
class Plain {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

const ENTITIES = [Line, Appointment, Plain];

describeDatabases('an image', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let log: Said;
  beforeEach(async () => {
    log = listenToLog();
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: ENTITIES });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  const types = async () => {
    await app.dispatcher.drain();
    return (await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.id)}`);
  };

  it('of a table with the name of a type becomes an event', async () => {
    const { manager } = app.dataSource;
    await manager.insert(Line, { id: 1 });
    await manager.update(Line, 1, { status: 'paid' });
    await manager.insert(Appointment, { id: 2 });
    await app.dispatcher.drain();
    expect(await storedEvents(app)).toEqual([
      { type: 'line.created', data: { id: 1, status: 'new' } },
      { type: 'line.updated', data: { id: 1, status: 'paid' }, previous: { status: 'new' } },
      { type: 'appointment.created', data: { id: 2 } },
    ]);
  });

  it('whose event the database always refuses is marked as damaged, and the others become events', async () => {
    const refuse = {
      sqlite: `CREATE TRIGGER refuse BEFORE INSERT ON webhook_events WHEN NEW.payload LIKE '%poison%' BEGIN SELECT RAISE(ABORT, 'no poison'); END`,
      postgres: `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN IF NEW.payload LIKE '%poison%' THEN RAISE EXCEPTION 'no poison'; END IF; RETURN NEW; END $f$; CREATE TRIGGER refuse BEFORE INSERT ON webhook_events FOR EACH ROW EXECUTE FUNCTION refuse()`,
      mariadb: `CREATE TRIGGER refuse BEFORE INSERT ON webhook_events FOR EACH ROW IF NEW.payload LIKE '%poison%' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no poison', MYSQL_ERRNO = 1644; END IF`,
    };
    const name = database.name === 'mysql2' ? 'mariadb' : database.name;
    await app.dataSource.query(refuse[name]);
    const { manager } = app.dataSource;
    await manager.insert(Line, { id: 1, status: 'good' });
    await manager.insert(Line, { id: 2, status: 'poison' });
    await manager.insert(Plain, { id: 3 });
    expect(await types()).toEqual(['line.created 1', 'plain.created 3']);
    const left: { reason: string }[] = await app.dataSource.query('SELECT reason FROM webhook_images');
    expect(left).toEqual([{ reason: expect.stringContaining('no poison') as string }]);
    expect(log.errors.join('\n')).toContain('no poison');
  });
});

describeOn('postgres', 'an image on PostgreSQL', (postgres) => {
  let fresh: FreshDatabase;
  let other: DataSource;
  let app: TestApp | undefined;
  let log: Said;
  beforeEach(async () => {
    log = listenToLog();
    fresh = await postgres.reuse();
    other = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
  });
  afterEach(async () => {
    await app?.close();
    app = undefined;
    await other.destroy();
    await fresh.drop();
    vi.restoreAllMocks();
  });
  const types = async () => {
    await app?.dispatcher.drain();
    return (await storedEvents(app!)).map(({ type, data }) => `${type} ${String(data.id)}`);
  };

  it('of a table that was dropped meanwhile is marked as damaged alone, and becomes an event once the table exists again', async () => {
    app = await startApp({ database: fresh.options, entities: ENTITIES });
    await other.query(`INSERT INTO line VALUES (1, 'a'); INSERT INTO plain VALUES (2)`);
    await other.query('ALTER TABLE line RENAME TO line_away');
    expect(await types()).toEqual(['plain.created 2']);
    expect(log.errors.join('\n')).toMatch(/the table line of Line does not exist/);
    await other.query('ALTER TABLE line_away RENAME TO line');
    await other.query('UPDATE webhook_images SET reason = NULL');
    expect(await types()).toEqual(['plain.created 2', 'line.created 1']);
  });

  it('is read with the types that its table has at conversion', async () => {
    app = await startApp({ database: fresh.options, entities: ENTITIES });
    await other.query(`INSERT INTO line VALUES (1, 'a')`);
    await other.query('ALTER TABLE line ALTER status TYPE varchar(1), ALTER id TYPE bigint');
    await other.query(`INSERT INTO line VALUES (3000000000, 'b')`);
    expect(await types()).toEqual(['line.created 1', 'line.created 3000000000']);
  });

  it('holds enums, domains and arrays of any schema with the values at capture', async () => {
    @Webhook({ capture: 'trigger' })
    @Entity({ name: 'path', schema: 'sales' })
    class Path {
      @PrimaryColumn({ type: 'int' })
      id: number;

      @Column({ type: 'varchar' })
      mood: string;

      @Column({ type: 'varchar', array: true })
      moods: string[];

      @Column({ type: 'decimal', precision: 10, scale: 2 })
      amount: string;
    }
    await other.query(`CREATE SCHEMA sales; CREATE SCHEMA "my Types";
      CREATE TYPE "my Types"."Mood" AS ENUM ('glad', 'so, so');
      CREATE DOMAIN "my Types".amount AS numeric(10, 2) CHECK (value > 0);
      CREATE TABLE sales.path (id int PRIMARY KEY, mood "my Types"."Mood", moods "my Types"."Mood"[], amount "my Types".amount)`);
    const { installTriggers, webhookMigrations } = await import('nestjs-entity-webhooks/migrations');
    const source = await new DataSource({
      ...fresh.options,
      entities: [Path],
      migrations: webhookMigrations(),
    } as DataSourceOptions).initialize();
    await source.runMigrations();
    const runner = source.createQueryRunner();
    await installTriggers(runner);
    await runner.release();
    await source.destroy();
    app = await startApp({
      database: { ...fresh.options, synchronize: false } as DataSourceOptions,
      entities: [Path],
    });
    await other.query(`INSERT INTO sales.path VALUES (1, 'so, so', '{glad,"so, so"}', 1.5)`);
    await other.query(
      `ALTER TYPE "my Types"."Mood" RENAME VALUE 'so, so' TO 'fine'; ALTER DOMAIN "my Types".amount ADD CHECK (value > 5) NOT VALID`,
    );
    await app.dispatcher.drain();
    expect(log.errors).toEqual([]);
    expect(await storedEvents(app)).toEqual([
      { type: 'path.created', data: { id: 1, mood: 'so, so', moods: ['glad', 'so, so'], amount: '1.50' } },
    ]);
  });
});

describe('an error of the conversion of one image', () => {
  const ofDriver = (driverError: object) => Object.assign(new Error('failed'), { driverError });

  it.each([
    ['a type that its text does not fit', ofDriver({ code: '22P02' })],
    ['an internal error of a type', ofDriver({ code: 'XX000' })],
    ['a column that its table lacks', ofDriver({ code: '42703' })],
    ['a right that is missing on its type', ofDriver({ code: '42501' })],
    ['a value that MySQL takes for no JSON', ofDriver({ errno: 4038, code: 'ER_INVALID_JSON_TEXT' })],
    ['a text that SQLite finds too big', Object.assign(new Error('too big'), { code: 'SQLITE_TOOBIG' })],
  ])('while it is read is its fault: %s', (_, error) => {
    expect(isFaultOfImage(error, { step: 'reading' })).toBe(true);
  });

  it.each([
    ['a connection that was closed', ofDriver(new Error('Connection terminated unexpectedly'))],
    ['a socket that was closed', Object.assign(new Error('write EPIPE'), { code: 'EPIPE', errno: -32 })],
    ['a lost connection of mysql2', ofDriver({ code: 'PROTOCOL_CONNECTION_LOST', fatal: true })],
    ['a server that shuts down', ofDriver({ code: '57P01' })],
    ['a database that is read-only', ofDriver({ code: '25006' })],
    ['a statement that takes longer than statement_timeout', ofDriver({ code: '57014' })],
    ['a disk that is full', ofDriver({ code: '53100' })],
    ['a MySQL that shuts down', ofDriver({ errno: 1053, code: 'ER_SERVER_SHUTDOWN' })],
    ['a MariaDB statement that takes longer than max_statement_time', ofDriver({ errno: 1969 })],
    ['a MySQL statement that takes longer than max_execution_time', ofDriver({ errno: 3024 })],
    ['a transaction that is read-only', ofDriver({ errno: 1792 })],
    ['a MariaDB that is read-only', ofDriver({ errno: 1290 })],
    ['a Galera node that is not part of its cluster', ofDriver({ errno: 1047 })],
    ['a full disk under SQLite', Object.assign(new Error('full'), { code: 'SQLITE_FULL' })],
  ])('is not its fault when the database is in trouble: %s', (_, error) => {
    expect(isFaultOfImage(error, { step: 'reading' })).toBe(false);
    expect(isFaultOfImage(error, { step: 'writing' })).toBe(false);
  });

  it('is not caused by the image if the table of events is wrong', () => {
    expect(isFaultOfImage(ofDriver({ code: '42703' }), { step: 'writing' })).toBe(false);
    expect(isFaultOfImage(ofDriver({ code: '42501' }), { step: 'writing' })).toBe(false);
    expect(isFaultOfImage(ofDriver({ errno: 1146 }), { step: 'writing' })).toBe(false);
  });

  it('is caused by the image if code outside the database throws, and never before it was taken', () => {
    const thrown = new RangeError('Maximum call stack size exceeded');
    expect(isFaultOfImage(thrown, { step: 'reading', thrown })).toBe(true);
    expect(isFaultOfImage(thrown, { step: 'taking', thrown })).toBe(false);
    expect(isFaultOfImage(ofDriver({ code: '22P02' }), { step: 'taking' })).toBe(false);
  });
});
