import { afterEach, describe, expect, it, vi } from 'vitest';
import { Logger } from '@nestjs/common';
import { BadRequestError, WebhookTransport, type Outcome } from 'nestjs-entity-webhooks';
import { oneLine, textOf } from '../../libs/webhooks/src/foreign-text.js';
import { databases } from '../support/databases.js';
import { startApp } from '../support/webhooks-app.js';

const EVIL = 'x\n\u001b[2J[Nest] 1  LOG refund approved\r\u2028\u202e';
const ESCAPED = String.raw`x\n\u001b[2J[Nest] 1  LOG refund approved\r\u2028\u202e`;

describe('foreign text', () => {
  it('is put on one line, with control characters of terminals escaped', () => {
    expect(oneLine(EVIL)).toBe(ESCAPED);
    const turning = ['\u061c', '\u200e', '\u200f', '\u202a', '\u202e', '\u2066', '\u2069'];
    expect(turning.map(oneLine)).toEqual([
      ...[String.raw`\u061c`, String.raw`\u200e`, String.raw`\u200f`, String.raw`\u202a`, String.raw`\u202e`],
      ...[String.raw`\u2066`, String.raw`\u2069`],
    ]);
    expect(oneLine('ä 😀 "quoted" \\ plain')).toBe('ä 😀 "quoted" \\ plain');
    expect(oneLine(ESCAPED)).toBe(ESCAPED);
  });

  it('is shown as text, or named by its type if it is no text', () => {
    const given: unknown[] = ['a', 7, 7n, true, undefined, null, {}, { toString: 1 }, [], Symbol('s'), () => 1];
    expect(given.map(textOf)).toEqual([
      ...['a', '7', '7', 'true', 'undefined', '(null)', '(object)', '(object)', '(object)', '(symbol)', '(function)'],
    ]);
  });

  it('is escaped in the messages of errors', () => {
    expect(new BadRequestError('A_CODE', `There is no '${EVIL}'.`).message).toBe(`There is no '${ESCAPED}'.`);
  });
});

/** Has text in its error that a receiver chose: the name in a certificate. */
class Quoting extends WebhookTransport {
  override send(): Promise<Outcome> {
    const nothing = { status: null, durationMs: 1, response: null, retryAfterMs: null };
    return Promise.resolve({ kind: 'unreachable', errorCode: 'TLS_FAILED', errorDetail: EVIL, ...nothing });
  }
}

/** Throws the same text as an exception. */
class Throwing extends WebhookTransport {
  override send(): Promise<Outcome> {
    return Promise.reject(new Error(EVIL));
  }
}

describe.each([Quoting, Throwing])('a transport that repeats what a receiver said (%o)', (transport) => {
  afterEach(() => vi.restoreAllMocks());

  it('cannot write a separate line into the log or the database', async () => {
    const lines: string[] = [];
    for (const way of ['log', 'warn', 'error'] as const) {
      vi.spyOn(Logger.prototype, way).mockImplementation((text: unknown) => void lines.push(String(text)));
    }
    const fresh = await (databases[0] as (typeof databases)[0]).create();
    const app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: ['tried'], parts: { transport } },
    });
    try {
      await app.listeners.create({ events: ['tried'], url: app.receiver.url, handshake: 'challenge' });
      const { id } = await app.listeners.create({ events: ['tried'], url: app.receiver.url });
      const { deliveryId } = await app.listeners.sendTest(id);
      await app.dispatcher.drain();
      const [attempt] = (await app.deliveries.get(deliveryId)).attempts;
      expect(attempt?.errorDetail).toBe(ESCAPED);
      expect(lines.filter((line) => line.includes('refund approved'))).toHaveLength(1);
      expect(lines.filter((line) => line.includes('\n') || line.includes('\u001b'))).toEqual([]);
    } finally {
      await app.close();
      await fresh.drop();
    }
  });
});
