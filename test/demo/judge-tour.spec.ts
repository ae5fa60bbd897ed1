import { describe, expect, it } from 'vitest';
import type { Received } from '../../apps/demo/src/receiver/receiver.service.js';
import { type Expected, judgeTour } from '../../apps/demo/src/tour/judge-tour.js';

const expected: Expected = { endpoint: 'shop', type: 'order.updated', attempt: 2, data: { status: 'paid' } };
const body = { type: 'order.updated', timestamp: '2026-01-01T00:00:00.000Z', data: { id: 1, status: 'paid' } };
const failed: Received = { endpoint: 'shop', id: 'evt_1', attempt: 1, status: 500, verdict: 'down', body };
const accepted: Received = { ...failed, attempt: 2, status: 200, verdict: 'verified' };
const delivered = {
  type: 'order.updated',
  state: 'succeeded',
  attemptCount: 2,
  lastStatus: 200,
  lastError: null,
} as const;

describe('a tour', () => {
  it('went well when exactly what was expected was accepted', () => {
    expect(judgeTour([expected], [failed, accepted], [delivered])).toEqual([]);
  });

  it('went wrong when a webhook is missing, and says what became of it', () => {
    const exhausted = {
      ...delivered,
      state: 'exhausted',
      attemptCount: 5,
      lastStatus: 500,
      lastError: 'HTTP_STATUS',
    } as const;
    expect(judgeTour([expected], [failed], [exhausted])).toEqual([
      'missing: order.updated -> shop, at attempt 2, with {"status":"paid"}',
      'not delivered: order.updated is exhausted, after attempt 5, which met 500',
    ]);
  });

  it('went wrong when a webhook arrives that nobody expects', () => {
    expect(judgeTour([], [accepted], [delivered])).toEqual([
      'unexpected: order.updated -> shop, at attempt 2, with {"id":1,"status":"paid"}',
    ]);
  });

  it('went wrong when an expected webhook arrives twice', () => {
    expect(judgeTour([expected], [failed, accepted, { ...accepted, attempt: 3 }], [delivered])).toHaveLength(1);
    expect(judgeTour([expected], [accepted, accepted], [delivered])).toHaveLength(1);
  });

  it.each<[string, Partial<Received>]>([
    ['another endpoint', { endpoint: 'bank' }],
    ['another attempt', { attempt: 1 }],
    ['another type', { body: { ...body, type: 'order.created' } }],
    ['other data', { body: { ...body, data: { id: 1, status: 'new' } } }],
  ])('went wrong when a webhook comes with %s', (_, other) => {
    expect(judgeTour([expected], [{ ...accepted, ...other }], [delivered])).toEqual([
      expect.stringMatching(/^missing: /),
      expect.stringMatching(/^unexpected: /),
    ]);
  });

  it('went wrong when a signature does not fit', () => {
    const forged: Received = { ...accepted, status: 401, verdict: 'forged', body: null };
    expect(judgeTour([expected], [failed, accepted, forged], [delivered])).toEqual(['forged: request evt_1 -> shop']);
  });

  it('went wrong when the sending side has something left to do', () => {
    const waiting = { ...delivered, state: 'due', attemptCount: 1, lastStatus: null, lastError: 'TIMEOUT' } as const;
    expect(judgeTour([], [], [waiting])).toEqual([
      'not delivered: order.updated is due, after attempt 1, which met TIMEOUT',
    ]);
  });
});
