import { afterEach, beforeEach, expect, it } from 'vitest';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { claimDeliveries } from '../../libs/webhooks/src/store/queue/claim-deliveries.js';
import type { ClaimedDelivery } from '../../libs/webhooks/src/store/queue/claimed-delivery.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { fanOut } from '../../libs/webhooks/src/store/queue/fan-out.js';
import { recordAttempts } from '../../libs/webhooks/src/store/queue/record-attempts.js';
import type { Script } from '../../libs/webhooks/src/store/database/script.js';
import { ServerDatabase } from '../../libs/webhooks/src/store/database/server-database.js';
import sql from 'sql-template-tag';
import { fanOutWide } from '../../libs/webhooks/src/store/queue/wide-fan-out.js';
import { describeServers, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { attemptOf, CIRCUIT, failureOf, LEASE_MS, OWN_TEXT, roomFor } from './support.js';

@Webhook()
@Entity()
class Ticket {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  text: string;
}

const WRITERS = 50;
/** Longer than fifty commits take on a busy machine, and far shorter than InnoDB's lock wait timeout of 50 s. */
const PATIENCE_MS = 20_000;

/** A transaction of the store that has sent all of its statements, and is stopped before its commit. */
class HeldScript {
  private open!: () => void;
  readonly ended: Promise<unknown>;
  readonly isHeld: Promise<void>;

  constructor(database: Database, script: () => Script<unknown>) {
    const gate = new Promise<void>((resolve) => (this.open = resolve));
    let reached!: () => void;
    this.isHeld = new Promise((resolve) => (reached = resolve));
    type Play = (runner: unknown, running: Script<unknown>) => Promise<unknown>;
    const server = database as unknown as { runScript: Play; runPipelined: Play; runStepByStep: Play };
    const held = Object.create(server) as typeof server & Database;
    held.runScript = async (runner, running) => {
      const result = await server.runScript.call(held, runner, running);
      reached();
      await gate;
      return result;
    };
    // With pipelining, the last statements and the COMMIT would be sent together.
    held.runPipelined = (runner, running) => server.runStepByStep.call(held, runner, running);
    this.ended = held.transaction(script);
  }

  async release(): Promise<void> {
    this.open();
    await this.ended;
  }
}

// SQLite has one writer at a time: `test/sqlite` tests its promises.
describeServers('while the store works', (target) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let database: Database;
  beforeEach(async () => {
    fresh = await target.reuse();
    app = await startApp({ database: fresh.options, entities: [Ticket] });
    database = await ServerDatabase.open(app.dataSource, {}, 3);
    for (let n = 0; n < 3; n++) await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.getRepository(Ticket).save(Array.from({ length: 20 }, () => ({ text: 'before' })));
  });
  afterEach(async () => {
    await database?.close();
    await app?.close();
    await fresh?.drop();
  });

  const now = () => app.clock.now();
  const policy = () => ({ now: now(), leaseMs: LEASE_MS, circuit: CIRCUIT });
  const fan = (room: number) => () =>
    fanOut(database, { ...policy(), limit: 10, room: roomFor(room), bodyOf: OWN_TEXT });

  it.skipIf(target.name === 'postgres')(
    'a page of a wide event waits for a claim that has locked its row and came too late',
    async () => {
      const { outbox: o } = database.tables;
      await app.dataSource.query("UPDATE webhook_outbox SET routed_through = ''");
      const late = new HeldScript(database, function* () {
        yield sql`select ${o.select('o', 'seq')} from ${o.sql} o${database.forUpdate}`;
      });
      await late.isHeld;
      const paging = database.transaction(() => fanOutWide(database, { now: now(), bodyOf: OWN_TEXT }));
      // InnoDB refreshes this table only if nothing has read it for 100 ms.
      const waiting = () =>
        app.dataSource.query("SELECT trx_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'");
      await expect.poll(waiting, { interval: 200, timeout: 5_000 }).not.toEqual([]);
      await late.release();
      expect((await paging).made).toHaveLength(3);
    },
  );

  it.each<{ what: string; prepare: () => Promise<() => Script<unknown>> }>([
    { what: 'a fan-out', prepare: () => Promise.resolve(fan(5)) },
    {
      what: 'a claim',
      prepare: async () => {
        await database.transaction(fan(0));
        return () => claimDeliveries(database, { ...policy(), handshakes: 0, bodyOf: OWN_TEXT, room: roomFor(10) });
      },
    },
    {
      what: 'a record of successes and failures',
      prepare: async () => {
        const { leased } = await database.transaction(fan(10));
        const records = leased.map((delivery: ClaimedDelivery, n) =>
          n % 2 ? attemptOf(delivery, now()) : failureOf(delivery, now(), 1_000),
        );
        return () => recordAttempts(database, records, policy());
      },
    },
  ])('$what that is held open keeps no user transaction waiting', async ({ prepare }) => {
    const held = new HeldScript(database, await prepare());
    await held.isHeld;
    try {
      const tickets = app.dataSource.getRepository(Ticket);
      const writes = Array.from({ length: WRITERS }, (_, n) =>
        n % 2 ? tickets.save({ text: `new ${n}` }) : tickets.save({ id: 1 + (n % 20), text: `changed ${n}` }),
      );
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<'waits'>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS, 'waits')));
      const written = await Promise.race([Promise.all(writes), limit]);
      clearTimeout(timer);
      expect(written).not.toBe('waits');
    } finally {
      await held.release();
    }
    await app.dispatcher.drain();
    const types = app.receiver.requests.map(({ json }) => (json as { data: { text: string } }).data.text);
    expect(types.filter((text) => text.startsWith('new'))).toHaveLength((3 * WRITERS) / 2);
  });
});
