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
/** The state after the circuit opened at {@link NOW}, its pause ends 30 s later. */
const opened = () => judge(HEALTHY, [failed(), failed(), failed()]).state;

describe('a circuit', () => {
  it('stays closed below its number of failures in a row, and pauses nothing', () => {
    const { state } = judge(HEALTHY, [failed(), failed()]);
    expect(state).toMatchObject({ failuresInARow: 2, failingSince: NOW, pausedUntil: null });
    expect(isOpen(state.failuresInARow, POLICY)).toBe(false);
  });

  it('begins to count anew after a success', () => {
    const { state } = judge(HEALTHY, [failed(), failed(), accepted(), failed()]);
    expect(state).toMatchObject({ failuresInARow: 1, pausedUntil: null });
  });

  it('opens with the last of its failures, for the cooldown', () => {
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

  it('learns nothing from failures of what was under way when it opened', () => {
    const state = opened();
    expect(judge(state, [failed(NOW - 10), failed(NOW - 5)], NOW + 100).state).toEqual(state);
  });

  it('learns nothing from failures of another process that had not heard of the pause', () => {
    const state = opened();
    expect(judge(state, [failed(NOW + 10), failed(NOW + 20)], NOW + 100).state).toEqual(state);
  });

  it('learns nothing from these while a probe is under way either', () => {
    const probing = { ...opened(), pausedUntil: NOW + 90_000 };
    expect(judge(probing, [failed(NOW + 20)], NOW + 31_000).state).toEqual(probing);
    expect(judge(probing, [failed(NOW + 30_000)], NOW + 31_000).state).toMatchObject({
      failuresInARow: 4,
      pausedUntil: NOW + 31_000 + 60_000,
    });
  });

  it('closes by a success of what was under way: the receiver is there', () => {
    expect(judge(opened(), [accepted(NOW - 10)], NOW + 100).state).toEqual(HEALTHY);
  });
});

describe('a receiver that answers 429, 502, 503 or 504', () => {
  it.each([429, 502, 503, 504])('is left alone for a second after the first %i', (status) => {
    expect(judge(HEALTHY, [failed(NOW, status)]).state.pausedUntil).toBe(NOW + 1_000);
  });

  it('is left alone for twice as long after each further one', () => {
    const first = judge(HEALTHY, [failed(NOW, 503)]).state;
    const second = judge(first, [failed(NOW + 1_000, 503)], NOW + 1_000).state;
    expect(second.pausedUntil).toBe(NOW + 3_000);
  });

  it('is left alone for once, when several requests under way get the same answer', () => {
    const { state } = judge(HEALTHY, [failed(NOW, 429), failed(NOW, 429), failed(NOW, 429)]);
    expect(state).toMatchObject({ failuresInARow: 1, pausedUntil: NOW + 1_000 });
  });

  it('is left alone for as long as it asks', () => {
    expect(judge(HEALTHY, [failed(NOW, 503, 7_000)]).state.pausedUntil).toBe(NOW + 7_000);
  });

  it('is left alone for the cooldown, when that is longer', () => {
    const before = { ...HEALTHY, failuresInARow: 2, failingSince: NOW };
    expect(judge(before, [failed(NOW, 503, 7_000)]).state.pausedUntil).toBe(NOW + 30_000);
  });

  it.each([500, 404, null])('is not: %s pauses nothing, whatever it asks', (status) => {
    expect(judge(HEALTHY, [failed(NOW, status, 7_000)]).state.pausedUntil).toBeNull();
  });
});

describe('a listener none of whose attempts succeeds', () => {
  const failing = (failuresInARow: number): ListenerState => ({
    ...HEALTHY,
    failuresInARow,
    failingSince: NOW - 1_000_000,
    failuresCountFrom: NOW - 10,
    pausedUntil: NOW - 10,
  });

  it('is given up after the time for it, with ten attempts', () => {
    expect(judge(failing(9), [failed()]).isExpired).toBe(true);
  });

  it('is not given up before ten attempts', () => {
    expect(judge(failing(8), [failed()]).isExpired).toBe(false);
  });

  it('is not given up before the time', () => {
    expect(judge({ ...failing(50), failingSince: NOW - 999_999 }, [failed()]).isExpired).toBe(false);
  });

  it('is not given up when one succeeds', () => {
    expect(judge(failing(50), [failed(), accepted()]).isExpired).toBe(false);
  });
});
