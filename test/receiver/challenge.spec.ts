import { describe, expect, it } from 'vitest';
import { challengeOf, permissionFor } from 'nestjs-entity-webhooks/receiver';

describe('challengeOf()', () => {
  const challenge = 'q0ZCk8e1vS7oVJXyQ2b4Xw';

  it('returns the challenge of a challenge webhook', () => {
    expect(challengeOf({ type: 'webhook.challenge', data: { challenge, listenerId: 'lst_1' } })).toBe(challenge);
  });

  it.each([
    ['another type', { type: 'order.created', data: { challenge } }],
    ['no type', { type: null, data: { challenge } }],
    ['no data', { type: 'webhook.challenge', data: null }],
    ['a challenge that is not a string', { type: 'webhook.challenge', data: { challenge: 7 } }],
    [
      'markup, which a browser would show',
      { type: 'webhook.challenge', data: { challenge: '<b>0123456789abcdef</b>' } },
    ],
    ['a challenge that is too short', { type: 'webhook.challenge', data: { challenge: 'short' } }],
    ['a challenge that is too long', { type: 'webhook.challenge', data: { challenge: 'x'.repeat(257) } }],
  ])('returns null for %s', (_, webhook) => {
    expect(challengeOf(webhook)).toBeNull();
  });
});

describe('permissionFor()', () => {
  const asking = (origin: string) => ({ 'WebHook-Request-Origin': origin });

  it('grants an allowed origin, whatever the case of its letters', () => {
    expect(permissionFor(asking('Events.Example.com'), { origins: ['events.example.com'] })).toEqual({
      allow: 'POST',
      'webhook-allowed-origin': 'Events.Example.com',
      'webhook-allowed-rate': '*',
    });
  });

  it('grants any origin if all are allowed, with the number of requests per minute', () => {
    expect(permissionFor(asking('a.example'), { origins: '*', ratePerMinute: 120 })).toMatchObject({
      'webhook-allowed-origin': 'a.example',
      'webhook-allowed-rate': '120',
    });
  });

  it.each([
    ['is not listed', asking('evil.example')],
    ['only ends like an allowed origin', asking('not-events.example.com')],
    ['sends no origin', {}],
    ['injects a header', asking('events.example.com\r\nset-cookie: a=b')],
    ['has a name that is too long', asking('a'.repeat(254))],
  ])('grants nothing to a sender that %s', (_, headers) => {
    expect(permissionFor(headers, { origins: ['events.example.com', 'a'.repeat(254)] })).toBeNull();
  });

  it.each([0, -1, 1.5, Number.NaN])('rejects a rate of %s', (ratePerMinute) => {
    expect(() => permissionFor(asking('a.example'), { origins: '*', ratePerMinute })).toThrowError(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    );
  });
});
