import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Logger } from '@nestjs/common';
import {
  Column,
  DataSource,
  Entity,
  JoinColumn,
  ManyToOne,
  PrimaryColumn,
  type DataSourceOptions,
  type Relation,
} from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { databases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents, stories } from './shop.js';

@Webhook({ capture: 'trigger' })
@Entity('td_parent')
class Parent {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  status: string;

  @Column({ type: 'timestamp', nullable: true })
  at: Date | null;
}

@Webhook({ capture: 'trigger' })
@Entity('td_child')
class Child {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'c' })
  status: string;

  @ManyToOne(() => Parent, { onDelete: 'CASCADE' })
  @JoinColumn({ name: 'parent_id' })
  parent: Relation<Parent>;
}

let fresh: FreshDatabase;
let app: TestApp;
let other: DataSource;
const warnings: string[] = [];

const startOn = (name: string) => {
  beforeEach(async () => {
    warnings.length = 0;
    vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warnings.push(String(text)));
    const database = databases.find((one) => one.name === name);
    fresh = await database!.create();
    app = await startApp({ database: fresh.options, entities: [Parent, Child] });
    other = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await other.destroy();
    await app.close();
    await fresh.drop();
  });
};
const capturedEvents = async () => {
  await app.dispatcher.drain();
  return stories(app);
};

describe.runIf(databases.some(({ name }) => name === 'postgres'))('triggers on PostgreSQL', () => {
  startOn('postgres');

  it('capture each row that a TRUNCATE or a foreign key deletes, and rows that COPY inserts', async () => {
    await other.query(`INSERT INTO td_parent VALUES (1, 'a'), (2, 'b')`);
    await other.query(`INSERT INTO td_child (id, parent_id, status) VALUES (1, 1, 'of a')`);
    await other.query('DELETE FROM td_parent WHERE id = 1');
    await other.query('TRUNCATE td_parent CASCADE');
    expect((await capturedEvents()).toSorted()).toEqual(
      [
        ...['parent.created a', 'parent.created b', 'child.created of a'],
        ...['parent.deleted a', 'child.deleted of a', 'parent.deleted b'],
      ].toSorted(),
    );
  });

  it('need no rights of the writer on the webhook tables, and other users cannot use their function', async () => {
    const role = `writer_${process.pid}_${Date.now()}`;
    await other.query(`CREATE ROLE ${role}`);
    try {
      await other.query(
        `GRANT SELECT, INSERT, UPDATE ON td_parent TO ${role}; GRANT CREATE, USAGE ON SCHEMA public TO ${role}`,
      );
      const runner = other.createQueryRunner();
      await runner.query(`SET ROLE ${role}`);
      // The function uses neither objects earlier in the search_path nor temporary objects.
      await runner
        .query(`CREATE TEMP TABLE webhook_images (LIKE pg_class); CREATE SCHEMA IF NOT EXISTS nobody`)
        .catch(() => undefined);
      await runner.query(`SET search_path = pg_temp, public`);
      await runner.query(`INSERT INTO public.td_parent VALUES (1, 'a')`);
      await expect(runner.query('SELECT * FROM public.webhook_images')).rejects.toThrow(/permission denied/);
      await runner.query('CREATE TABLE public.forged (id int, status text)');
      await expect(
        runner.query(
          `CREATE TRIGGER forge AFTER INSERT ON public.forged FOR EACH ROW EXECUTE FUNCTION public.webhook_images_write('td_parent')`,
        ),
      ).rejects.toThrow(/permission denied/);
      await runner.query('RESET ROLE; RESET search_path; DROP TABLE public.forged');
      await runner.release();
      expect(await capturedEvents()).toEqual(['parent.created a']);
    } finally {
      await other.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  it('continue to work if a column is added or dropped, without reinstallation', async () => {
    await other.query(`ALTER TABLE td_parent ADD COLUMN extra json DEFAULT '{}'`);
    await other.query(`INSERT INTO td_parent VALUES (1, 'a')`);
    await other.query(`UPDATE td_parent SET extra = '{"a": 1}'`);
    await other.query('ALTER TABLE td_parent DROP COLUMN extra');
    await other.query(`UPDATE td_parent SET status = 'b'`);
    expect(await capturedEvents()).toEqual(['parent.created a', 'parent.updated b']);
  });

  it('capture the changes of a row in order if another trigger changes it again', async () => {
    await other.query(
      `CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN UPDATE td_parent SET status = 'touched' WHERE id = NEW.id; RETURN NULL; END $f$`,
    );
    await other.query(`CREATE TRIGGER a_touch AFTER INSERT ON td_parent FOR EACH ROW EXECUTE FUNCTION touch()`);
    await other.query(`INSERT INTO td_parent VALUES (1, 'a')`);
    expect(await capturedEvents()).toEqual(['parent.created a', 'parent.updated touched']);
  });

  it('lose no event and make none twice if a process dies between conversion and commit', async () => {
    await other.query(`INSERT INTO td_parent VALUES (1, 'a'), (2, 'b')`);
    const blocker = other.createQueryRunner();
    await blocker.startTransaction();
    // The conversion has read the images, and has not yet written their events.
    await blocker.query('LOCK TABLE webhook_events IN ACCESS EXCLUSIVE MODE');
    const dying = app.dispatcher.drain().catch((error: unknown) => error);
    await vi.waitFor(async () => {
      const killed: { killed: boolean }[] = await other.query(
        `SELECT pg_terminate_backend(pid) AS killed FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%insert into "webhook_events"%'`,
      );
      expect(killed.some((one) => one.killed)).toBe(true);
    });
    await blocker.rollbackTransaction();
    await blocker.release();
    await dying;
    expect(await capturedEvents()).toEqual(['parent.created a', 'parent.created b']);
    expect(await other.query('SELECT count(*)::int AS n FROM webhook_images')).toEqual([{ n: 0 }]);
  });
});

describe.runIf(databases.some(({ name }) => name === 'mariadb'))('triggers on MariaDB', () => {
  startOn('mariadb');

  it('log a warning for each foreign key whose cascade fires no triggers', () => {
    expect(warnings.join('\n')).toMatch(/The foreign key FK_\w+ of td_child has ON DELETE CASCADE/);
    expect(warnings.join('\n')).not.toMatch(/of td_parent/);
  });

  it('capture a timestamp as the same instant in every time zone of the session', async () => {
    const runner = other.createQueryRunner();
    await runner.query(`SET time_zone = '-05:00'`);
    await runner.query(`INSERT INTO td_parent (id, status, at) VALUES (1, 'a', '2026-02-03 00:00:00')`);
    await runner.query('SET time_zone = DEFAULT');
    await runner.release();
    await app.dispatcher.drain();
    expect(await storedEvents(app)).toMatchObject([{ data: { at: '2026-02-03T05:00:00.000Z' } }]);
  });
});
