import { describe, expect, it } from 'vitest';
import { afterAttempts, isOpen, type CircuitPolicy, type HealthSign } from '../../libs/webhooks/src/health/circuit.js';
import type { ListenerState } from '../../libs/webhooks/src/health/listener-state.js';

const POLICY: CircuitPolicy = { failures: 3, cooldownMs: 30_000, maxCooldownMs: 100_000, disableAfterMs: 1_000_000 };
const NOW = 1_800_000_000_000;

const HEALTHY: ListenerState = {
  seq: '1',
  listenerId: 'lst_1',
  readyAt: null,
  failuresInARow: 0,
  failingSince: null,
  failuresCountFrom: null,
  pausedUntil: null,
  rateTaken: null,
  handshakeAt: null,
  handshakeFrom: null,
  handshakeTries: 0,
};

const accepted = (at = NOW): HealthSign => ({ accepted: true, status: 204, retryAfterMs: null, at });
const failed = (at = NOW, status: number | null = 500, retryAfterMs: number | null = null): HealthSign => ({
  accepted: false,
  status,
  retryAfterMs,
  at,
});
const judge = (before: ListenerState, signs: readonly HealthSign[], now = NOW) =>
  afterAttempts(before, signs, now, POLICY);
/** The state after the circuit opened at {@link NOW}. The pause ends 30 s later. */
const opened = () => judge(HEALTHY, [failed(), failed(), failed()]).state;

describe('a circuit', () => {
  it('stays closed without a pause below its number of failures in a row', () => {
    const { state } = judge(HEALTHY, [failed(), failed()]);
    expect(state).toMatchObject({ failuresInARow: 2, failingSince: NOW, pausedUntil: null });
    expect(isOpen(state.failuresInARow, POLICY)).toBe(false);
  });

  it('counts from zero after a success', () => {
    const { state } = judge(HEALTHY, [failed(), failed(), accepted(), failed()]);
    expect(state).toMatchObject({ failuresInARow: 1, pausedUntil: null });
  });

  it('opens for the cooldown when the number of failures is reached', () => {
    const state = opened();
    expect(isOpen(state.failuresInARow, POLICY)).toBe(true);
    expect(state).toMatchObject({ failuresInARow: 3, pausedUntil: NOW + 30_000 });
  });

  it('pauses twice as long after each probe that fails, up to the longest cooldown', () => {
    let state = opened();
    const pauses: number[] = [];
    for (let probe = 0; probe < 4; probe++) {
      const at = state.pausedUntil ?? NaN;
      ({ state } = judge(state, [failed(at)], at + 5));
      pauses.push((state.pausedUntil ?? NaN) - at - 5);
    }
    expect(pauses).toEqual([60_000, 100_000, 100_000, 100_000]);
  });

  it('closes when the probe succeeds', () => {
    const { state } = judge(opened(), [accepted(NOW + 30_000)], NOW + 30_001);
    expect(state).toEqual(HEALTHY);
  });

  it('ignores failures of requests that were in flight when it opened', () => {
    const state = opened();
    expect(judge(state, [failed(NOW - 10), failed(NOW - 5)], NOW + 100).state).toEqual(state);
  });

  it('ignores failures of another process that did not know of the pause', () => {
    const state = opened();
    expect(judge(state, [failed(NOW + 10), failed(NOW + 20)], NOW + 100).state).toEqual(state);
  });

  it('ignores such failures while a probe is in flight, too', () => {
    const probing = { ...opened(), pausedUntil: NOW + 90_000 };
    expect(judge(probing, [failed(NOW + 20)], NOW + 31_000).state).toEqual(probing);
    expect(judge(probing, [failed(NOW + 30_000)], NOW + 31_000).state).toMatchObject({
      failuresInARow: 4,
      pausedUntil: NOW + 31_000 + 60_000,
    });
  });

  it('closes after a success of a request that was in flight', () => {
    expect(judge(opened(), [accepted(NOW - 10)], NOW + 100).state).toEqual(HEALTHY);
  });
});

describe('a receiver that answers 429, 502, 503 or 504', () => {
  it.each([429, 502, 503, 504])('is left alone for a second after the first %i', (status) => {
    expect(judge(HEALTHY, [failed(NOW, status)]).state.pausedUntil).toBe(NOW + 1_000);
  });

  it('gets a pause that doubles after each further such answer', () => {
    const first = judge(HEALTHY, [failed(NOW, 503)]).state;
    const second = judge(first, [failed(NOW + 1_000, 503)], NOW + 1_000).state;
    expect(second.pausedUntil).toBe(NOW + 3_000);
  });

  it('gets one pause if several requests in flight get this answer', () => {
    const { state } = judge(HEALTHY, [failed(NOW, 429), failed(NOW, 429), failed(NOW, 429)]);
    expect(state).toMatchObject({ failuresInARow: 1, pausedUntil: NOW + 1_000 });
  });

  it('gets the pause that it asks for', () => {
    expect(judge(HEALTHY, [failed(NOW, 503, 7_000)]).state.pausedUntil).toBe(NOW + 7_000);
  });

  it('gets a pause of the cooldown if that is longer', () => {
    const before = { ...HEALTHY, failuresInARow: 2, failingSince: NOW };
    expect(judge(before, [failed(NOW, 503, 7_000)]).state.pausedUntil).toBe(NOW + 30_000);
  });

  it.each([500, 404, null])('is not: %s pauses nothing, whatever it asks', (status) => {
    expect(judge(HEALTHY, [failed(NOW, status, 7_000)]).state.pausedUntil).toBeNull();
  });
});

describe('a listener without a successful attempt', () => {
  const failing = (failuresInARow: number): ListenerState => ({
    ...HEALTHY,
    failuresInARow,
    failingSince: NOW - 1_000_000,
    failuresCountFrom: NOW - 10,
    pausedUntil: NOW - 10,
  });

  it('is disabled after disableAfterMs and ten attempts', () => {
    expect(judge(failing(9), [failed()]).isExpired).toBe(true);
  });

  it('is not disabled before ten attempts', () => {
    expect(judge(failing(8), [failed()]).isExpired).toBe(false);
  });

  it('is not disabled before disableAfterMs', () => {
    expect(judge({ ...failing(50), failingSince: NOW - 999_999 }, [failed()]).isExpired).toBe(false);
  });

  it('is not disabled if an attempt succeeds', () => {
    expect(judge(failing(50), [failed(), accepted()]).isExpired).toBe(false);
  });
});
