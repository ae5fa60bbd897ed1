import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allowanceOf, limitOf, type RateLimit } from '../../libs/webhooks/src/health/rate-limit.js';

const NOW = 1_800_000_000_000;

/** Takes as many requests as are allowed, at most `wanted`, at each of these times. */
function take(limit: RateLimit, asks: readonly { at: number; wanted: number }[]): { at: number; count: number }[] {
  let taken: string | null = null;
  return asks.map(({ at, wanted }) => {
    const allowance = allowanceOf(limit, taken, at);
    const count = Math.min(wanted, allowance.allowed);
    if (count) taken = allowance.takenAfter(count);
    return { at, count };
  });
}

describe('a rate limit', () => {
  it('allows the whole limit immediately, and the next request one period after the first', () => {
    const limit = { limit: 5, perSeconds: 60 };
    const first = allowanceOf(limit, null, NOW);
    expect(first.allowed).toBe(5);
    expect(first.nextAt(4)).toBe(NOW);
    const at = first.nextAt(5);
    const taken = first.takenAfter(5);
    expect(allowanceOf(limit, taken, at - 1).allowed).toBe(0);
    expect(allowanceOf(limit, taken, at).allowed).toBe(5);
    // The delay is at most a twentieth of the period.
    expect(at - NOW).toBeGreaterThan(60_000);
    expect(at - NOW).toBeLessThanOrEqual(63_000);
  });

  it('holds in every period, wherever the period begins', () => {
    const limits = fc.record({ limit: fc.integer({ min: 1, max: 50 }), perSeconds: fc.integer({ min: 1, max: 60 }) });
    const asks = fc.array(fc.record({ after: fc.nat(4_000), wanted: fc.integer({ min: 1, max: 60 }) }), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(limits, asks, (limit, steps) => {
        let at = NOW;
        const gone = take(
          limit,
          steps.map(({ after, wanted }) => ({ at: (at += after), wanted })),
        );
        for (const { at: end } of gone) {
          const inStretch = gone.filter((one) => one.at > end - limit.perSeconds * 1_000 && one.at <= end);
          expect(inStretch.reduce((sum, { count }) => sum + count, 0)).toBeLessThanOrEqual(limit.limit);
        }
      }),
    );
  });

  it('returns to the millisecond when the next request is allowed', () => {
    const limits = fc.record({ limit: fc.integer({ min: 1, max: 20 }), perSeconds: fc.integer({ min: 1, max: 10 }) });
    fc.assert(
      fc.property(limits, fc.array(fc.nat(900), { minLength: 1, maxLength: 40 }), (limit, steps) => {
        let at = NOW;
        let taken: string | null = null;
        for (const step of steps) {
          at += step;
          const allowance = allowanceOf(limit, taken, at);
          const count = Math.min(1, allowance.allowed);
          if (count) taken = allowance.takenAfter(count);
          const next = allowance.nextAt(count);
          expect(allowanceOf(limit, taken, Math.max(at, next)).allowed).toBeGreaterThan(0);
          if (next > at) expect(allowanceOf(limit, taken, next - 1).allowed).toBe(0);
        }
      }),
    );
  });

  it('allows at least 95 % of the limit if deliveries are always pending', () => {
    const limit = { limit: 100, perSeconds: 10 };
    const asks = Array.from({ length: 10_000 }, (_, index) => ({ at: NOW + index * 10, wanted: 100 }));
    const total = take(limit, asks).reduce((sum, { count }) => sum + count, 0);
    expect(total).toBeLessThanOrEqual(1_000);
    expect(total).toBeGreaterThanOrEqual(950);
  });

  it('stores no more than its slots, however long it is used', () => {
    const limit = { limit: 1_000_000, perSeconds: 1 };
    let taken: string | null = null;
    for (let at = NOW; at < NOW + 5_000; at++) taken = allowanceOf(limit, taken, at).takenAfter(3);
    expect((JSON.parse(taken ?? '[]') as unknown[]).length).toBeLessThanOrEqual(22);
  });

  it('allows no extra request if a clock is behind the one before', () => {
    const limit = { limit: 4, perSeconds: 1 };
    const taken = allowanceOf(limit, null, NOW + 200).takenAfter(3);
    const behind = allowanceOf(limit, taken, NOW);
    expect(behind.allowed).toBe(1);
    expect(allowanceOf(limit, behind.takenAfter(1), NOW + 999).allowed).toBe(0);
  });
});

describe('a limit of the listener together with a limit of its receiver', () => {
  it.each([
    { own: null, granted: null, expected: null },
    { own: null, granted: 2, expected: { limit: 2, perSeconds: 60 } },
    { own: { limit: 5, perSeconds: 1 }, granted: null, expected: { limit: 5, perSeconds: 1 } },
    { own: { limit: 10, perSeconds: 1 }, granted: 300, expected: { limit: 5, perSeconds: 1 } },
    { own: { limit: 10, perSeconds: 1 }, granted: 30, expected: { limit: 10, perSeconds: 60 } },
    { own: { limit: 1_000, perSeconds: 3_600 }, granted: 300, expected: { limit: 16, perSeconds: 60 } },
    { own: { limit: 10, perSeconds: 3_600 }, granted: 300, expected: { limit: 10, perSeconds: 3_600 } },
  ])('is kept with it: $own and $granted a minute', ({ own, granted, expected }) => {
    expect(limitOf(own && JSON.stringify(own), granted)).toEqual(expected);
  });
});
