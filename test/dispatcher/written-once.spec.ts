import { Logger } from '@nestjs/common';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { RetrySchedule, Webhook } from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import type { TestApp } from '../support/webhooks-app.js';

@Webhook()
@Entity('once_note')
class Note {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int', default: 0 })
  step: number;
}

class EveryMinute extends RetrySchedule {
  override delayMs(): number {
    return 60_000;
  }
}

const WRITERS = 8;
const TRANSACTIONS = 15;

describeDatabases('a delivery that is written with its outcome', (database) => {
  const apps = appsOn(database);
  let app: TestApp;
  beforeEach(async () => {
    app = await apps.start({ entities: [Note], webhooks: { parts: { retrySchedule: EveryMinute } } });
  });

  const urlOf = (path: string) => new URL(`/${path}`, app.receiver.url).href;
  const listen = (path: string, input: object = {}) =>
    app.listeners.create({ events: ['note.*'], url: urlOf(path), ...input });
  const notes = () => app.dataSource.getRepository(Note);
  const stepsOf = (path: string) =>
    app.receiver.requests
      .filter(({ url }) => url === `/${path}`)
      .map(({ json }) => (json as { data: { step: number } }).data.step);
  const rows = async (table: string) =>
    (await app.dataSource.query<unknown[]>(`SELECT seq FROM webhook_${table}`)).length;

  it('has one row, and its event is in the outbox until then', async () => {
    await listen('a');
    await notes().save({ step: 0 });
    expect([await rows('outbox'), await rows('deliveries')]).toEqual([1, 0]);
    await app.dispatcher.drain();
    expect([await rows('outbox'), await rows('deliveries'), await rows('attempts')]).toEqual([0, 1, 0]);
    expect(await app.dataSource.query('SELECT token FROM webhook_leases')).toEqual([]);
  });

  it('of a dead ordered listener, or of a slow one, delays no other listener of the same row', async () => {
    await listen('dead', { ordering: 'entity' });
    await listen('slow');
    await listen('fast');
    await listen('ordered', { ordering: 'entity' });
    let release = () => undefined as void;
    const held = new Promise<void>((resolve) => (release = resolve));
    app.receiver.respond(({ url }: ReceivedRequest) => {
      if (url === '/dead') return { status: 500 };
      return { status: 204, ...(url === '/slow' ? { delayUntil: held } : {}) };
    });
    app.dispatcher.start();
    const { id } = await notes().save({ step: 0 });
    for (let step = 1; step < 4; step++) await notes().save({ id, step });
    const all = [0, 1, 2, 3];
    await app.receiver.waitForRequest(() => [...stepsOf('fast'), ...stepsOf('ordered')].length === 8);
    expect(stepsOf('fast').toSorted()).toEqual(all);
    expect(stepsOf('ordered')).toEqual(all);
    expect(stepsOf('dead')).toEqual([0]);
    release();
    await app.dispatcher.stop();
  });

  describe('whose listener changes between its claim and its record', () => {
    /** Sends one delivery, and changes the listener while the request is under way. */
    const during = async (status: number, change: () => Promise<unknown>) => {
      let answer = () => undefined as void;
      app.receiver.respond({ status, delayUntil: new Promise<void>((resolve) => (answer = resolve)) });
      await notes().save({ step: 0 });
      const draining = app.dispatcher.drain();
      await app.receiver.waitFor(1);
      await change();
      answer();
      await draining;
      app.receiver.respond({ status: 204 });
    };

    it('is held when the listener was disabled', async () => {
      const { id } = await listen('a');
      await during(500, () => app.listeners.disable(id));
      expect(await app.deliveries.counts()).toMatchObject({ held: 1 });
      await app.listeners.enable(id);
      apps.advance(60_000);
      await app.dispatcher.drain();
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1 });
    });

    it('is discarded when the listener was removed', async () => {
      const { id } = await listen('a');
      await during(500, () => app.listeners.remove(id));
      apps.advance(60_000);
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(1);
      expect(await app.deliveries.counts()).toMatchObject({ discarded: 1, due: 0 });
      expect(await rows('outbox')).toBe(0);
    });

    it('is retried with the new secret when the secret was rotated', async () => {
      const { id } = await listen('a');
      let secret = '';
      await during(500, async () => {
        ({ secret } = await app.listeners.rotateSecret(id));
      });
      apps.advance(60_000);
      await app.dispatcher.drain();
      const [first, second] = app.receiver.requests;
      expect(second?.headers['webhook-id']).toBe(first?.headers['webhook-id']);
      const verify = (request: ReceivedRequest | undefined) =>
        new StandardWebhook(secret).verify(
          request?.rawBody.toString() ?? '',
          request?.headers as Record<string, string>,
        );
      expect(() => verify(second)).not.toThrow();
      expect(() => verify(first)).toThrow();
    });
  });

  it.runIf(database.name === 'sqlite')('is one of more than a million: that is logged once', async () => {
    const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    const warnings = () => warn.mock.calls.filter(([text]) => String(text).includes('in the outbox'));
    const fill = (from: number, to: number) =>
      app.dataSource.query(
        `INSERT INTO webhook_outbox (seq, event_at, claims)
          WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${to}) SELECT i, 0, 0 FROM n`,
      );
    await fill(1, 1_000_000);
    await app.dispatcher.runChores();
    expect(warnings()).toEqual([]);
    await fill(1_000_001, 1_000_001);
    await app.dispatcher.runChores();
    await app.dispatcher.runChores();
    expect(warnings()).toHaveLength(1);
    warn.mockRestore();
  });

  it.skipIf(database.name === 'sqlite')(
    `is made for each of ${WRITERS} concurrent writers at REPEATABLE READ, and none of them meets a deadlock`,
    async () => {
      await listen('a');
      app.dispatcher.start();
      const write = async () => {
        for (let n = 0; n < TRANSACTIONS; n++) {
          await app.dataSource.transaction('REPEATABLE READ', async (manager) => {
            const { id } = await manager.save(Note, { step: 0 });
            await manager.save(Note, { id, step: 1 });
          });
        }
      };
      await Promise.all(Array.from({ length: WRITERS }, write));
      const count = 2 * WRITERS * TRANSACTIONS;
      await app.receiver.waitForRequest(() => app.receiver.requests.length >= count, { timeoutMs: 30_000 });
      await app.dispatcher.stop();
      expect(new Set(app.receiver.requests.map(({ headers }) => headers['webhook-id'])).size).toBe(count);
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: count });
    },
    60_000,
  );
});
