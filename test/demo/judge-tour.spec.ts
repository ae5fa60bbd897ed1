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
  lastErrorCode: null,
} as const;

describe('a tour', () => {
  it('succeeds if exactly the expected webhooks were accepted', () => {
    expect(judgeTour([expected], [failed, accepted], [delivered])).toEqual([]);
  });

  it('fails if a webhook is missing, and reports the state of its delivery', () => {
    const exhausted = {
      ...delivered,
      state: 'exhausted',
      attemptCount: 5,
      lastStatus: 500,
      lastErrorCode: 'HTTP_STATUS',
    } as const;
    expect(judgeTour([expected], [failed], [exhausted])).toEqual([
      'missing: order.updated -> shop, at attempt 2, with {"status":"paid"}',
      'not delivered: order.updated is exhausted, after attempt 5, which ended with 500',
    ]);
  });

  it('fails if an unexpected webhook arrives', () => {
    expect(judgeTour([], [accepted], [delivered])).toEqual([
      'unexpected: order.updated -> shop, at attempt 2, with {"id":1,"status":"paid"}',
    ]);
  });

  it('fails if an expected webhook arrives twice', () => {
    expect(judgeTour([expected], [failed, accepted, { ...accepted, attempt: 3 }], [delivered])).toHaveLength(1);
    expect(judgeTour([expected], [accepted, accepted], [delivered])).toHaveLength(1);
  });

  it.each<[string, Partial<Received>]>([
    ['another endpoint', { endpoint: 'bank' }],
    ['another attempt', { attempt: 1 }],
    ['another type', { body: { ...body, type: 'order.created' } }],
    ['other data', { body: { ...body, data: { id: 1, status: 'new' } } }],
  ])('fails if a webhook arrives with %s', (_, other) => {
    expect(judgeTour([expected], [{ ...accepted, ...other }], [delivered])).toEqual([
      expect.stringMatching(/^missing: /),
      expect.stringMatching(/^unexpected: /),
    ]);
  });

  it('fails if a signature is invalid', () => {
    const forged: Received = { ...accepted, status: 401, verdict: 'forged', body: null };
    expect(judgeTour([expected], [failed, accepted, forged], [delivered])).toEqual(['forged: request evt_1 -> shop']);
  });

  it('fails if a delivery is not finished', () => {
    const waiting = {
      ...delivered,
      state: 'due',
      attemptCount: 1,
      lastStatus: null,
      lastErrorCode: 'TIMEOUT',
    } as const;
    expect(judgeTour([], [], [waiting])).toEqual([
      'not delivered: order.updated is due, after attempt 1, which ended with TIMEOUT',
    ]);
  });
});
