// Field codes stand before the words of the message. cspell:ignore SFATAL VFATAL Mterminating
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Parcel } from '../support/dispatching-process.js';
import { createProxied, networked, type ProxiedDatabase } from '../support/proxied-database.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const WAIT = { timeout: 20_000, interval: 20 };

/** What PostgreSQL sends when an administrator ends a session (57P01), in its wire format. */
function terminated(): Buffer {
  const fields = Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0');
  const head = Buffer.from('E\0\0\0\0');
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}

/** `ReadyForQuery`, which ends the answer to a new connection. It follows the key with which queries are cancelled. */
const isReady = (answer: string) => answer.includes('K\0\0\0\x0c') && answer.endsWith('Z\0\0\0\x05I');

const postgres = networked.filter(({ name }) => name === 'postgres');

describe.each(postgres)('a session that the server ends as soon as it is open ($name)', (target) => {
  let database: ProxiedDatabase;
  let app: TestApp;
  let uncaught: unknown[];
  const remember = (error: unknown) => uncaught.push(error);

  beforeEach(async () => {
    uncaught = [];
    database = await createProxied(target);
    app = await startApp({
      database: database.proxied,
      entities: [Parcel],
      webhooks: { dispatcher: { pollIntervalMs: 100 }, wakeUp: false },
    });
    process.prependListener('uncaughtException', remember);
  });
  afterEach(async () => {
    process.off('uncaughtException', remember);
    await app.close();
    await database.drop();
  });

  it('does not end the process, and the work goes on over other sessions', async () => {
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.getRepository(Parcel).save({ name: 'before' });
    let endedSessions = 0;
    database.proxy.cut();
    database.proxy.mend();
    database.proxy.endAnswerWith((answer) => isReady(answer) && ++endedSessions > 0, terminated());
    app.dispatcher.start();
    await vi.waitFor(() => expect(endedSessions).toBe(1), WAIT);
    await app.receiver.waitFor(1, { timeoutMs: 10_000 });
    expect(uncaught).toEqual([]);
  });
});
