import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  EVERY_OWNER,
  PayloadFormat,
  RetrySchedule,
  Webhook,
  type CreateListenerInput,
  type DiscardOptions,
  type FailedState,
  type RecoverOptions,
} from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { changesOf, countRows } from './outbox.js';

@Webhook({ owner: 'customerId' })
@Entity('recovered_order')
class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customerId: string;
}

const HOUR = 60 * 60 * 1_000;
const DAY = 24 * HOUR;

/** No retries. */
class Once extends RetrySchedule {
  delayMs(): null {
    return null;
  }
}

let isBroken = false;

class ShortFormat extends PayloadFormat {
  readonly name = 'short';
  readonly contentType = 'text/plain';
  render({ type }: { type: string }): string {
    if (isBroken) throw new Error('a bug in the format');
    return `it happened: ${type}`;
  }
}

const TABLES = ['events', 'listeners', 'routes', 'route_paths', 'deliveries', 'attempts', 'listener_state'];

describeDatabases('after an outage', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let start: number;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order],
      webhooks: {
        publishedTypes: ['invoice.overdue'],
        parts: { retrySchedule: Once, payloadFormats: [ShortFormat] },
        dispatcher: { circuit: { failures: 1_000_000 } },
      },
    });
    start = app.clock.now();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    isBroken = false;
    app.clock.set(start);
    app.receiver.respond({ status: 204 }).clear();
    for (const table of TABLES) await app.dataSource.query(`DELETE FROM webhook_${table}`);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });
  const save = (customerId = 'acme', status = 'new') => app.dataSource.manager.save(Order, { customerId, status });
  const publishMany = (count: number) =>
    app.dataSource.transaction(async (manager) => {
      for (let n = 0; n < count; n++) await app.webhooks.publish('invoice.overdue', { n }, { manager });
    });
  const since = () => new Date(start);
  const requests = () => {
    const all = [...app.receiver.requests];
    app.receiver.clear();
    return all;
  };
  const fail = async () => {
    app.receiver.respond({ status: 500 });
    await app.dispatcher.drain();
    app.receiver.respond({ status: 204 }).clear();
  };

  describe('recover', () => {
    const recover = (options: Partial<RecoverOptions> = {}) =>
      app.deliveries.recover({ since: since(), state: 'exhausted', ...options });

    it('sends exhausted deliveries again, with the same bytes and id, and returns their number', async () => {
      await listen();
      await save();
      await save();
      app.receiver.respond({ status: 500 });
      await app.dispatcher.drain();
      const first = requests().map(({ rawBody, headers }) => `${String(headers['webhook-id'])} ${rawBody.toString()}`);
      app.receiver.respond({ status: 204 });
      expect(await recover()).toBe(2);
      expect(await app.deliveries.counts()).toMatchObject({ due: 2 });
      await app.dispatcher.drain();
      const again = requests().map(({ rawBody, headers }) => `${String(headers['webhook-id'])} ${rawBody.toString()}`);
      expect(again.toSorted()).toEqual(first.toSorted());
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: 2 });
      expect(await recover()).toBe(0);
    });

    it('selects deliveries by listener, period and states', async () => {
      const one = await listen();
      const other = await listen();
      await save();
      await fail();
      app.clock.advance(HOUR);
      await save();
      await fail();
      await app.dataSource.query(
        `UPDATE webhook_deliveries SET state = 'discarded', last_error_code = 'TOO_OLD' WHERE listener_id = '${other.id}'`,
      );
      const at = (hours: number) => new Date(start + hours * HOUR);
      expect(await recover({ since: at(2) })).toBe(0);
      expect(await recover({ since: at(0), until: at(0) })).toBe(0);
      expect(await recover({ listenerId: other.id })).toBe(0);
      expect(await recover({ listenerId: 'lst_unknown' })).toBe(0);
      expect(await recover({ listenerId: one.id, until: at(1) })).toBe(1);
      expect(await recover({ listenerId: other.id, state: 'discarded', since: at(1) })).toBe(1);
      expect(await recover({ state: ['exhausted', 'discarded'] })).toBe(2);
      expect(await app.deliveries.counts()).toMatchObject({ due: 4 });
    });

    it('restarts the retry schedule, and leaves succeeded, due and held deliveries unchanged', async () => {
      const { id } = await listen();
      await save();
      await app.dispatcher.drain();
      await app.listeners.disable(id);
      await save();
      await app.dispatcher.drain();
      expect(await recover({ state: ['exhausted', 'discarded'] })).toBe(0);
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, held: 1 });
    });

    it('holds deliveries to a disabled listener, and leaves deliveries to a removed listener unchanged', async () => {
      const disabled = await listen();
      const removed = await listen();
      await save();
      await fail();
      await app.listeners.disable(disabled.id);
      await app.listeners.remove(removed.id);
      expect(await recover({ listenerId: removed.id })).toBe(0);
      expect(await recover()).toBe(1);
      await app.dispatcher.drain();
      expect(requests()).toEqual([]);
      expect(await app.deliveries.counts()).toMatchObject({ held: 1, exhausted: 1 });
      await app.listeners.enable(disabled.id);
      await app.dispatcher.drain();
      expect(requests()).toHaveLength(1);
    });

    it('renders again after a format failed, and leaves the delivery unchanged if the format still fails', async () => {
      await listen({ format: 'short' });
      isBroken = true;
      await save();
      await app.dispatcher.drain();
      expect(await recover({ state: 'discarded' })).toBe(0);
      expect((await app.deliveries.list()).items).toMatchObject([
        { state: 'discarded', lastErrorCode: 'FORMAT_FAILED' },
      ]);
      isBroken = false;
      expect(await recover({ state: 'discarded' })).toBe(1);
      await app.dispatcher.drain();
      expect(requests().map(({ rawBody }) => rawBody.toString())).toEqual(['it happened: order.created']);
    });

    it('ignores ordering: an earlier delivery of the row does not delay it', async () => {
      await listen({ ordering: 'entity' });
      await save();
      await fail();
      expect(await recover()).toBe(1);
      expect(await app.dataSource.query('SELECT order_key FROM webhook_deliveries')).toEqual([{ order_key: null }]);
    });

    it('of one owner recovers no delivery of another, whatever listener is named', async () => {
      const acme = await listen({ owner: 'acme' });
      await listen({ owner: 'globex' });
      await listen();
      await save('acme');
      await save('globex');
      await fail();
      const globex = app.deliveries.forOwner('globex');
      expect(await globex.recover({ listenerId: acme.id, since: since(), state: 'exhausted' })).toBe(0);
      expect(await globex.recover({ since: since(), state: 'exhausted' })).toBe(1);
      expect(await app.deliveries.counts({ owner: 'globex' })).toMatchObject({ due: 1 });
      expect(await app.deliveries.counts({ owner: 'acme' })).toMatchObject({ exhausted: 1 });
    });

    it('uses transactions of a bounded number of rows', async () => {
      await listen();
      await publishMany(1_100);
      await app.dispatcher.runOnce();
      await app.dataSource.query('DELETE FROM webhook_outbox');
      await app.dispatcher.drain();
      await fillWithExhausted();
      const { exhausted } = await app.deliveries.counts();
      expect(exhausted).toBe(1_100);
      const transactions = changesOf(app);
      expect(await recover()).toBe(1_100);
      // The last transaction writes only the audit log.
      expect(transactions.map(({ deliveries = 0 }) => deliveries)).toEqual([500, 500, 100, 0]);
    });

    /** Makes an exhausted delivery of each event to the only listener. */
    async function fillWithExhausted(): Promise<void> {
      const [{ id }] = await app.dataSource.query('SELECT id FROM webhook_listeners');
      await app.dataSource.query('DELETE FROM webhook_deliveries');
      const concat = database.name === 'sqlite' ? `'dlv_' || seq` : `concat('dlv_', seq)`;
      await app.dataSource.query(
        `INSERT INTO webhook_deliveries (id, event_seq, event_at, listener_id, type, state, attempts, retries, next_at, created_at, finished_at) SELECT ${concat}, seq, created_at, '${id}', type, 'exhausted', 1, 1, ${start}, ${start}, ${start} FROM webhook_events`,
      );
    }

    it('rejects invalid times and states', async () => {
      const refused = async (options: object, code: string) => {
        const given = { since: since(), state: 'exhausted' as FailedState, ...options };
        await expect(app.deliveries.recover(given)).rejects.toMatchObject({ code, httpStatus: 400 });
      };
      await refused({ since: new Date(Number.NaN) }, 'INVALID_TIME');
      await refused({ since: undefined }, 'INVALID_TIME');
      await refused({ until: 'tomorrow' }, 'INVALID_TIME');
      for (const state of ['succeeded', 'due', undefined, [], ['exhausted', 'held']]) {
        await refused({ state }, 'INVALID_STATE');
      }
    });
  });

  describe('discard', () => {
    const discard = (options: Partial<DiscardOptions> = {}) => app.deliveries.discard({ state: 'due', ...options });

    it('discards pending deliveries of a listener, a period and a state, and sends nothing', async () => {
      const one = await listen();
      const other = await listen();
      const disabled = await listen();
      await save();
      await app.dispatcher.runOnce();
      app.clock.advance(HOUR);
      await save();
      await app.dispatcher.runOnce();
      await fillWithDue();
      await app.listeners.disable(disabled.id);
      const at = (hours: number) => new Date(start + hours * HOUR);
      expect(await discard({ listenerId: one.id, until: at(1) })).toBe(1);
      expect(await discard({ listenerId: one.id, since: at(2) })).toBe(0);
      expect(await discard({ listenerId: disabled.id })).toBe(0);
      expect(await discard({ listenerId: disabled.id, state: 'held' })).toBe(2);
      expect(await discard({ listenerId: 'lst_unknown', state: ['due', 'held'] })).toBe(0);
      expect(await app.deliveries.counts()).toMatchObject({ due: 3, held: 0, discarded: 3 });
      expect(await discard({ listenerId: other.id, state: ['due', 'held'] })).toBe(2);
      await app.dispatcher.drain();
      expect(requests()).toHaveLength(1);
      // Nothing is left to look for.
      const states = await app.dataSource.query(
        'SELECT ready_at FROM webhook_listener_state WHERE ready_at IS NOT NULL',
      );
      expect(states).toEqual([]);
      expect(await app.deliveries.recover({ since: since(), state: 'discarded', listenerId: other.id })).toBe(2);
    });

    it("releases the order of a row for a listener with ordering: 'entity'", async () => {
      const { id } = await listen({ ordering: 'entity' });
      const order = await save();
      await app.dispatcher.runOnce();
      await fillWithDue();
      expect(await discard({ listenerId: id })).toBe(1);
      await app.dataSource.getRepository(Order).save({ ...order, status: 'next' });
      await app.dispatcher.drain();
      expect(requests().map(({ json }) => (json as { type: string }).type)).toEqual(['order.updated']);
    });

    it('of one owner discards no delivery of another', async () => {
      await listen({ owner: 'acme' });
      const globex = await listen({ owner: 'globex' });
      await save('acme');
      await save('globex');
      await app.dispatcher.runOnce();
      await fillWithDue();
      const acme = app.deliveries.forOwner('acme');
      expect(await acme.discard({ listenerId: globex.id, state: 'due' })).toBe(0);
      expect(await acme.discard({ state: 'due' })).toBe(1);
      expect(await app.deliveries.counts({ owner: 'globex' })).toMatchObject({ due: 1 });
    });

    it('uses transactions of a bounded number of rows, and reports each', async () => {
      await listen();
      await publishMany(1_100);
      await app.dispatcher.drain();
      await fillWithDue();
      const transactions = changesOf(app);
      const counts: number[] = [];
      expect(await discard({ onBatch: (count) => counts.push(count) })).toBe(1_100);
      // The last transaction writes only the audit log.
      expect(transactions.map(({ deliveries = 0 }) => deliveries)).toEqual([500, 500, 100, 0]);
      expect(counts).toEqual([500, 1_000, 1_100]);
    });

    it('rejects states of deliveries that are not pending', async () => {
      for (const state of ['succeeded', 'leased', 'exhausted', undefined, [], ['due', 'discarded']]) {
        await expect(discard({ state: state as 'due' })).rejects.toMatchObject({ code: 'INVALID_STATE' });
      }
    });

    /** Makes every delivery due, as if no dispatcher had run. */
    async function fillWithDue(): Promise<void> {
      await app.dataSource.query(
        `UPDATE webhook_deliveries SET state = 'due', next_at = created_at, finished_at = NULL, lease_token = NULL, lease_until = NULL`,
      );
      await app.dataSource.query(`UPDATE webhook_listener_state SET ready_at = ${start}`);
      app.receiver.clear();
    }
  });

  describe('replay', () => {
    it('sends past events to a newer listener: the events that match it and that it has not received', async () => {
      await listen({ owner: 'acme' });
      await save('acme', 'paid');
      await save('acme', 'new');
      await save('globex', 'paid');
      await app.webhooks.publish('invoice.overdue', {}, { owner: 'acme' });
      await app.dispatcher.drain();
      requests();
      app.clock.advance(HOUR);
      const late = await listen({ owner: 'acme', events: ['order.*'], where: { status: 'paid' } });
      expect(await app.deliveries.replay({ listenerId: late.id, since: since() })).toBe(1);
      await app.dispatcher.drain();
      const [request, ...more] = requests();
      expect(more).toEqual([]);
      expect(request?.json).toMatchObject({ type: 'order.created', data: { status: 'paid', customerId: 'acme' } });
      const [event] = await app.dataSource.query(
        `SELECT id FROM webhook_events WHERE type = 'order.created' ORDER BY seq LIMIT 1`,
      );
      expect(request?.headers['webhook-id']).toBe(event.id);
      expect(await app.deliveries.replay({ listenerId: late.id, since: since() })).toBe(0);
    });

    it('only counts in a dry run, the deliveries that it would make', async () => {
      await save('acme', 'paid');
      await save('acme', 'new');
      await app.dispatcher.drain();
      const late = await listen({ where: { status: 'paid' } });
      const options = { listenerId: late.id, since: since() };
      expect(await app.deliveries.replay({ ...options, dryRun: true })).toBe(1);
      expect(await app.deliveries.counts()).toMatchObject({ due: 0 });
      expect(await app.deliveries.replay(options)).toBe(1);
      expect(await app.deliveries.replay({ ...options, dryRun: true })).toBe(0);
    });

    it('selects events by period, including events that are not routed yet', async () => {
      for (let hours = 0; hours < 4; hours++) {
        app.clock.set(start + hours * HOUR);
        await save();
      }
      const late = await listen();
      const at = (hours: number) => new Date(start + hours * HOUR);
      expect(await app.deliveries.replay({ listenerId: late.id, since: at(1), until: at(3) })).toBe(2);
      await app.dispatcher.drain();
      expect(requests()).toHaveLength(2);
      expect(await app.deliveries.replay({ listenerId: late.id, since: at(0) })).toBe(2);
    });

    it('skips damaged events, and test events of another listener', async () => {
      const other = await listen();
      await app.listeners.sendTest(other.id);
      await save();
      await save();
      await app.dispatcher.drain();
      await app.dataSource.query(
        `INSERT INTO webhook_damaged (seq, event_at, reason, created_at) SELECT MAX(seq), 0, 'a test', 0 FROM webhook_events`,
      );
      await app.dataSource.query(
        `INSERT INTO webhook_events (id, type, audience, ordered, payload, created_at) VALUES ('evt_bad', 'order.created', 'application', 0, 'no JSON', ${start})`,
      );
      const late = await listen();
      expect(await app.deliveries.replay({ listenerId: late.id, since: since() })).toBe(1);
    });

    it("does not wait for earlier deliveries, even for a listener with ordering: 'entity'", async () => {
      await save();
      await app.dispatcher.drain();
      const late = await listen({ ordering: 'entity' });
      expect(await app.deliveries.replay({ listenerId: late.id, since: since() })).toBe(1);
      expect(await app.dataSource.query('SELECT order_key FROM webhook_deliveries')).toEqual([{ order_key: null }]);
    });

    it("sends several events of one row in order to a listener with ordering: 'entity'", async () => {
      const orders = app.dataSource.getRepository(Order);
      const order = await orders.save({ status: 'first' });
      for (const status of ['second', 'third']) await orders.save({ ...order, status });
      await app.dispatcher.drain();
      requests();
      const late = await listen({ ordering: 'entity' });
      expect(await app.deliveries.replay({ listenerId: late.id, since: since() })).toBe(3);
      const rows = await app.dataSource.query('SELECT order_key FROM webhook_deliveries');
      expect(new Set(rows.map(({ order_key: key }: { order_key: Buffer }) => key.toString('hex'))).size).toBe(1);
      await app.dispatcher.drain();
      const statuses = requests().map(({ json }) => (json as { data: Order }).data.status);
      expect(statuses).toEqual(['first', 'second', 'third']);
    });

    it('skips events that are pending for the listener, which then arrive in order', async () => {
      const { id } = await listen({ ordering: 'entity' });
      const orders = app.dataSource.getRepository(Order);
      const order = await orders.save({ status: 'first' });
      for (const status of ['second', 'third']) await orders.save({ ...order, status });
      expect(await app.deliveries.replay({ listenerId: id, since: since() })).toBe(0);
      await app.dispatcher.drain();
      const statuses = requests().map(({ json }) => (json as { data: Order }).data.status);
      expect(statuses).toEqual(['first', 'second', 'third']);
    });

    it('holds deliveries to a disabled listener, and rejects a removed or unknown listener, or one of another owner', async () => {
      await save();
      await app.dispatcher.drain();
      const late = await listen({ owner: 'acme' });
      await app.listeners.disable(late.id);
      expect(await app.deliveries.replay({ listenerId: late.id, since: since() })).toBe(1);
      expect(await app.deliveries.counts()).toMatchObject({ held: 1 });
      const refused = { code: 'LISTENER_NOT_FOUND', httpStatus: 404 };
      const globex = app.deliveries.forOwner('globex');
      await expect(globex.replay({ listenerId: late.id, since: since() })).rejects.toMatchObject(refused);
      await expect(app.deliveries.replay({ listenerId: 'lst_?', since: since() })).rejects.toMatchObject(refused);
      await app.listeners.remove(late.id);
      await expect(app.deliveries.replay({ listenerId: late.id, since: since() })).rejects.toMatchObject(refused);
      const mine = await listen({ owner: 'acme' });
      expect(await app.deliveries.forOwner('acme').replay({ listenerId: mine.id, since: since() })).toBe(1);
    });

    it('never sends an owner events of another owner or of the application', async () => {
      await save('acme');
      await save('globex');
      await app.webhooks.publish('invoice.overdue', {});
      await app.webhooks.publish('invoice.overdue', { for: 'everybody' }, { owner: EVERY_OWNER });
      await app.dispatcher.drain();
      const globex = await listen({ owner: 'globex' });
      expect(await app.deliveries.forOwner('globex').replay({ listenerId: globex.id, since: since() })).toBe(2);
      await app.dispatcher.drain();
      expect(requests().map(({ json }) => json)).toMatchObject([
        { data: { customerId: 'globex' } },
        { data: { for: 'everybody' } },
      ]);
    });

    it('uses transactions of a bounded number of rows, and two concurrent calls make each delivery once', async () => {
      await publishMany(450);
      await app.dispatcher.drain();
      const late = await listen();
      const transactions = changesOf(app);
      const replay = () => app.deliveries.replay({ listenerId: late.id, since: since() });
      const made = await Promise.all([replay(), replay()]);
      expect(made.reduce((sum, count) => sum + count, 0)).toBe(450);
      expect(await countRows(app.dataSource, 'deliveries')).toEqual({ deliveries: 450 });
      for (const { deliveries = 0 } of transactions) expect(deliveries).toBeLessThanOrEqual(200);
      await app.dispatcher.drain();
      expect(requests()).toHaveLength(450);
    });

    it('makes deliveries of events that are older than maxAgeMs, with a complete retry schedule', async () => {
      await save();
      await app.dispatcher.drain();
      app.clock.advance(60 * DAY);
      const late = await listen();
      expect(await app.deliveries.replay({ listenerId: late.id, since: since() })).toBe(1);
      await app.dispatcher.drain();
      expect(requests()).toHaveLength(1);
    });

    it('rejects invalid times', async () => {
      const { id } = await listen();
      const refused = { code: 'INVALID_TIME', httpStatus: 400 };
      await expect(app.deliveries.replay({ listenerId: id, since: undefined as never })).rejects.toMatchObject(refused);
      await expect(
        app.deliveries.replay({ listenerId: id, since: since(), until: new Date('never') }),
      ).rejects.toMatchObject(refused);
    });
  });
});
