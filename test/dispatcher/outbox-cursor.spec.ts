import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { OutboxCursor } from '../../libs/webhooks/src/dispatcher/outbox-cursor.js';

describe('the cursor of the outbox', () => {
  let cursor: OutboxCursor;
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance'] });
    cursor = new OutboxCursor();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A look that takes `ms` and finds events up to `lastSeq`. @returns where the look began */
  const look = (ms: number, lastSeq: number | null) => {
    const from = cursor.look();
    vi.advanceTimersByTime(ms);
    cursor.found(from, lastSeq);
    return from.afterSeq;
  };

  it('looks from the start first, and then past the last event for nine tenths of the time', () => {
    expect(look(10, 250)).toBe(0);
    expect(look(10, 500)).toBe(250);
    expect(look(89, 750)).toBe(500);
    // 100 ms after the sweep that took 10 ms.
    expect(look(1, 760)).toBe(750);
    expect(look(10, 900)).toBe(0);
    expect(look(10, null)).toBe(900);
  });

  it('does not move back when a sweep finds an event that was committed late', () => {
    look(10, 500);
    vi.advanceTimersByTime(100);
    expect(look(10, 3)).toBe(0);
    expect(look(10, null)).toBe(500);
  });

  it('sweeps at every look if a sweep takes no time', () => {
    expect([look(0, 10), look(0, 20), look(0, 30)]).toEqual([0, 0, 0]);
  });

  it('knows when a look past the last event must be followed by a sweep', () => {
    look(10, 250);
    expect(cursor.untilSweepMs).toBeNull();
    look(30, null);
    expect(cursor.untilSweepMs).toBe(70);
    vi.advanceTimersByTime(80);
    expect(cursor.untilSweepMs).toBe(0);
    look(5, null);
    expect(cursor.untilSweepMs).toBeNull();
  });

  it('does not sweep while other events are being routed, because it would find them again', () => {
    const first = cursor.look();
    cursor.found(first, 250);
    const second = cursor.look(false);
    expect(second.afterSeq).toBe(250);
    cursor.found(second, 500);
    expect(cursor.look(true).afterSeq).toBe(0);
  });

  it('moves back to events that a look has found and not taken', () => {
    look(10, 500);
    cursor.notTaken(300);
    expect(look(10, null)).toBe(300);
  });
});
