import { Column, Entity, PrimaryGeneratedColumn, type QueryRunner } from 'typeorm';
import { beforeEach, expect, it } from 'vitest';
import { RetrySchedule, Webhook, type CreateListenerInput, type WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import type { TestApp } from '../support/webhooks-app.js';

@Webhook({ ordering: 'entity', owner: 'customerId' })
@Entity('ordered_ticket')
class Ticket {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int', default: 0 })
  step: number;

  @Column({ type: 'varchar', length: 20, default: 'acme' })
  customerId: string;
}

/** Not ordered by default, but a listener may ask for order. */
@Webhook()
@Entity('ordered_note')
class Note {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int', default: 0 })
  step: number;
}

/** Three attempts, a minute apart; the test moves the clock by hand. */
class EveryMinute extends RetrySchedule {
  override delayMs(failures: number): number | null {
    return failures < 3 ? 60_000 : null;
  }
}

/** One retry, without a pause. */
class AtOnce extends RetrySchedule {
  override delayMs(failures: number): number | null {
    return failures < 5 ? 0 : null;
  }
}

const POLL_MS = 20;

type Body = { type: string; data: { id: number; step: number } };
const bodyOf = ({ json }: ReceivedRequest) => json as Body;

describeDatabases('the events of one row, ordered', (database) => {
  const apps = appsOn(database);
  let app: TestApp;

  const start = (webhooks: WebhooksModuleOptions = {}) =>
    apps.start({
      entities: [Ticket, Note],
      webhooks: { publishedTypes: ['invoice.step'], parts: { retrySchedule: EveryMinute }, ...webhooks },
    });

  beforeEach(async () => {
    app = await start();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['ticket.*'], url: app.receiver.url, ...input } as CreateListenerInput);
  const steps = (of: { requests: readonly ReceivedRequest[] } = app.receiver, id = 1) =>
    of.requests
      .map(bodyOf)
      .filter(({ data }) => data.id === id)
      .map(({ data }) => data.step);

  /** Makes `count` changes of each of these rows, one transaction each. */
  async function change(entity: typeof Ticket | typeof Note, ids: readonly number[], count: number): Promise<void> {
    const repository = app.dataSource.getRepository(entity);
    for (const id of ids) await repository.save({ id, step: 0 });
    for (let step = 1; step <= count; step++) for (const id of ids) await repository.save({ id, step });
  }

  it('arrive one at a time and in the order of their commits, with four workers that claim one event each', async () => {
    const rows = [1, 2, 3];
    const ordered = await listen();
    const asked = await listen({ events: ['note.*'], ordering: 'entity', url: `${app.receiver.url}/notes` });
    const underWay = new Map<string, number>();
    let most = 0;
    app.receiver.respond(async (request, index) => {
      const key = `${request.url} ${bodyOf(request).data.id}`;
      const now = (underWay.get(key) ?? 0) + 1;
      most = Math.max(most, now);
      underWay.set(key, now);
      await new Promise((resolve) => setImmediate(resolve));
      underWay.set(key, now - 1);
      // Every seventh request is refused, and is retried before any later event of its row.
      return { status: index % 7 === 6 ? 500 : 204 };
    });
    const options: WebhooksModuleOptions = {
      parts: { retrySchedule: AtOnce },
      dispatcher: {
        eventsPerBatch: 1,
        concurrency: 4,
        pollIntervalMs: POLL_MS,
        autoStart: true,
        circuit: { failures: 1_000 },
      },
    };
    for (let worker = 0; worker < 4; worker++) await start(options);
    // Each process has its own clock. Four clocks that stand still at different times would wait for each other
    // without end.
    const ticking = setInterval(() => apps.running.forEach(({ clock }) => clock.set(Date.now())), 5);
    try {
      await Promise.all([change(Ticket, rows, 8), change(Note, rows, 8)]);
      await waitUntil(async () => {
        const { succeeded } = await app.deliveries.counts();
        return succeeded === 2 * 3 * 9;
      });
    } finally {
      clearInterval(ticking);
    }
    for (const url of [ordered.url, asked.url]) {
      const path = new URL(url).pathname;
      const requests = app.receiver.requests.filter((request) => request.url === path);
      for (const id of rows) {
        // A refused event appears again directly after itself.
        const seen = steps({ requests }, id).filter((step, index, all) => step !== all[index - 1]);
        expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
      }
    }
    expect(most).toBe(1);
  }, 90_000);

  it('wait for a retry of the event before, and do not delay other rows', async () => {
    await listen();
    app.receiver.failTimes(1);
    await change(Ticket, [1], 2);
    await app.dispatcher.drain();
    expect(steps()).toEqual([0]);
    await change(Ticket, [2], 1);
    await app.dispatcher.drain();
    expect(steps(app.receiver, 2)).toEqual([0, 1]);
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    expect(steps()).toEqual([0, 0, 1, 2]);
  });

  it('continue when the event before is exhausted', async () => {
    await listen();
    app.receiver.failTimes(3);
    await change(Ticket, [1], 1);
    for (let attempt = 0; attempt < 3; attempt++) {
      await app.dispatcher.drain();
      app.clock.advance(60_000);
    }
    expect(steps()).toEqual([0, 0, 0, 1]);
    expect(await app.deliveries.counts()).toMatchObject({ exhausted: 1, succeeded: 1 });
  });

  it('are not delayed by a resend, which is not ordered', async () => {
    await listen();
    app.receiver.failTimes(1);
    await change(Ticket, [1], 1);
    await app.dispatcher.drain();
    const first = (await app.deliveries.list()).items.find(({ attemptCount }) => attemptCount === 1);
    app.receiver.respond({ status: 500 });
    await app.deliveries.resend(first?.id ?? '');
    await app.dispatcher.drain();
    // The resent event and, although it failed again, the next event of the row.
    expect(steps().toSorted()).toEqual([0, 0, 1]);
  });

  it('reach another listener although one listener is behind', async () => {
    await listen();
    await listen({ url: `${app.receiver.url}/other` });
    app.receiver.respond(({ url }) => ({ status: url.endsWith('/other') ? 204 : 500 }));
    await change(Ticket, [1], 2);
    await app.dispatcher.drain();
    const others = app.receiver.requests.filter(({ url }) => url.endsWith('/other'));
    expect(steps({ requests: others })).toEqual([0, 1, 2]);
  });

  it('end for the old owner with a deletion, and continue for the new owner', async () => {
    const old = await listen({ owner: 'acme', url: `${app.receiver.url}/acme` });
    const next = await listen({ owner: 'globex', url: `${app.receiver.url}/globex` });
    const tickets = app.dataSource.getRepository(Ticket);
    await tickets.save({ id: 1, step: 0 });
    await tickets.save({ id: 1, step: 1 });
    await tickets.save({ id: 1, step: 2, customerId: 'globex' });
    await tickets.save({ id: 1, step: 3 });
    app.receiver.failTimes(1);
    for (let round = 0; round < 2; round++) {
      await app.dispatcher.drain();
      app.clock.advance(60_000);
    }
    const received = ({ url }: { url: string }) =>
      app.receiver.requests
        .filter((request) => request.url === new URL(url).pathname)
        .map(({ json }) => json as Body)
        .map(({ type, data }) => `${type} ${data.step ?? '-'}`)
        .filter((text, index, all) => text !== all[index - 1]);
    expect(received(old)).toEqual(['ticket.created 0', 'ticket.updated 1', 'ticket.deleted -']);
    expect(received(next)).toEqual(['ticket.updated 2', 'ticket.updated 3']);
  });

  it('arrive in the order in which two writers locked the row', async () => {
    await listen();
    const tickets = app.dataSource.getRepository(Ticket);
    await tickets.save({ id: 1, step: 0 });
    await Promise.all(
      Array.from({ length: 12 }, (_, index) => tickets.save({ id: 1, step: index + 1 }).catch(() => undefined)),
    );
    const [last] = await tickets.find();
    await app.dispatcher.drain();
    const received = steps();
    expect(received[0]).toBe(0);
    expect(received.at(-1)).toBe(last?.step);
    const stored = await app.dataSource.query<{ payload: string }[]>('SELECT payload FROM webhook_events ORDER BY seq');
    expect(received).toEqual(stored.map(({ payload }) => (JSON.parse(payload) as Body).data.step));
  });

  it('include published events with an order key, for a listener that is ordered', async () => {
    await listen({ events: ['invoice.*'], ordering: 'entity' });
    await listen({ events: ['invoice.*'], url: `${app.receiver.url}/unordered` });
    app.receiver.respond((request, index) => ({ status: index < 2 ? 500 : 204 }));
    for (let step = 0; step < 2; step++) {
      await app.webhooks.publish('invoice.step', { id: 1, step }, { orderKey: 'invoice 1' });
      await app.webhooks.publish('invoice.step', { id: 2, step });
    }
    await app.dispatcher.drain();
    const path = new URL(app.receiver.url).pathname;
    const ordered = () => app.receiver.requests.filter(({ url }) => url === path);
    const unordered = app.receiver.requests.filter(({ url }) => url !== path);
    expect(unordered).toHaveLength(4);
    expect(steps({ requests: ordered() }, 2).toSorted()).toEqual([0, 1]);
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    expect(steps({ requests: ordered() }).filter((step, index, all) => step !== all[index - 1])).toEqual([0, 1]);
  });

  it('are not overtaken by the inline delivery of a later one', async () => {
    await listen();
    await change(Ticket, [1], 0);
    await change(Ticket, [2], 2);
    await app.dataSource.getRepository(Ticket).save({ id: 1, step: 1 });
    // One event a round: the delivery of the inline event exists long before the delivery of the event before it.
    const inline = await start({ dispatch: 'inline', dispatcher: { eventsPerBatch: 1 } });
    await inline.dataSource.getRepository(Ticket).save({ id: 1, step: 2 });
    await inline.dispatcher.drain();
    expect(steps()).toEqual([0, 1, 2]);
  });

  it.skipIf(database.name === 'sqlite')('are not overtaken while another worker holds an earlier event', async () => {
    await listen();
    await change(Ticket, [1, 2], 2);
    const holder = await stalledOn(app, 1);
    try {
      await app.dispatcher.drain();
      expect(steps()).toEqual([]);
      expect(steps(app.receiver, 2)).toEqual([0, 1, 2]);
      // The worker had claimed the event, but no event of the row is lost with it.
      await holder.rollbackTransaction();
      await app.dispatcher.drain();
      expect(steps()).toEqual([0, 1, 2]);
    } finally {
      await holder.release();
    }
  });

  it.skipIf(database.name === 'sqlite')(
    'let other events through when more of them are blocked than fit into a batch',
    async () => {
      await listen();
      await change(Ticket, [1], 9);
      await change(Ticket, [2], 0);
      const other = await start({ dispatcher: { eventsPerBatch: 4, pollIntervalMs: 3_600_000 } });
      const holder = await stalledOn(app, 1);
      try {
        other.dispatcher.start();
        await app.receiver.waitForRequest((request) => bodyOf(request).data.id === 2);
        expect(steps()).toEqual([]);
        // Not only by the poll, once the event is released.
        await holder.rollbackTransaction();
        await waitUntil(() => steps().length === 10);
        expect(steps()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      } finally {
        await holder.release();
      }
    },
  );

  it('carry a number that grows in their order, for a listener that asks for it', async () => {
    await listen({ sequence: true });
    await listen({ url: `${app.receiver.url}/plain` });
    await change(Ticket, [1], 3);
    await app.dispatcher.drain();
    const path = new URL(app.receiver.url).pathname;
    const numbers = app.receiver.requests
      .filter(({ url }) => url === path)
      .map(({ headers }) => String(headers['webhook-sequence']));
    expect(numbers).toHaveLength(4);
    for (const [index, number] of numbers.entries()) {
      expect(number).toMatch(/^[1-9]\d*$/);
      if (index) expect(BigInt(number)).toBeGreaterThan(BigInt(numbers[index - 1] ?? ''));
    }
    const plain = app.receiver.requests.filter(({ url }) => url !== path);
    expect(plain.map(({ headers }) => headers['webhook-sequence'])).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('keep their number in a retry and in a resend', async () => {
    const { id } = await listen();
    expect((await app.listeners.get(id)).sequence).toBe(false);
    expect((await app.listeners.update(id, { sequence: true })).sequence).toBe(true);
    await app.listeners.update(id, { description: 'still' });
    app.receiver.failTimes(1);
    await change(Ticket, [1], 0);
    await app.dispatcher.drain();
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    await app.deliveries.resend(delivery?.id ?? '');
    await app.dispatcher.drain();
    const numbers = app.receiver.requests.map(({ headers }) => headers['webhook-sequence']);
    expect(numbers).toHaveLength(3);
    expect(new Set(numbers).size).toBe(1);
  });
});

/** A worker that has claimed the first event of a row and then stops working. */
async function stalledOn({ dataSource }: TestApp, id: number): Promise<QueryRunner> {
  const runner = dataSource.createQueryRunner();
  await runner.startTransaction('READ COMMITTED');
  const rows = (await runner.query('SELECT seq, payload FROM webhook_events ORDER BY seq')) as {
    seq: unknown;
    payload: string;
  }[];
  const first = rows.find(({ payload }) => (JSON.parse(payload) as Body).data.id === id);
  await runner.query(`SELECT seq FROM webhook_outbox WHERE seq = ${String(first?.seq)} FOR UPDATE`);
  return runner;
}

async function waitUntil(isSo: () => boolean | Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`not so within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
