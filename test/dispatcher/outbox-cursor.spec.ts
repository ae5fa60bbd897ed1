import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { OutboxCursor } from '../../libs/webhooks/src/dispatcher/outbox-cursor.js';

describe('where the outbox is looked at', () => {
  let cursor: OutboxCursor;
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance'] });
    cursor = new OutboxCursor();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A look that takes `ms` and finds events up to `lastSeq`. @returns where it began */
  const look = (ms: number, lastSeq: number | null) => {
    const from = cursor.look();
    vi.advanceTimersByTime(ms);
    cursor.found(from, lastSeq);
    return from.afterSeq;
  };

  it('is the start at first, and then past the last event, for nine tenths of the time', () => {
    expect(look(10, 250)).toBe(0);
    expect(look(10, 500)).toBe(250);
    expect(look(89, 750)).toBe(500);
    // 100 ms after the sweep that took 10.
    expect(look(1, 760)).toBe(750);
    expect(look(10, 900)).toBe(0);
    expect(look(10, null)).toBe(900);
  });

  it('never goes back, when the start has an event that was committed late', () => {
    look(10, 500);
    vi.advanceTimersByTime(100);
    expect(look(10, 3)).toBe(0);
    expect(look(10, null)).toBe(500);
  });

  it('is the start at once again, where looking there takes no time', () => {
    expect([look(0, 10), look(0, 20), look(0, 30)]).toEqual([0, 0, 0]);
  });

  it('says when a look past the last event is to be followed by one from the start', () => {
    look(10, 250);
    expect(cursor.untilSweepMs).toBeNull();
    look(30, null);
    expect(cursor.untilSweepMs).toBe(70);
    vi.advanceTimersByTime(80);
    expect(cursor.untilSweepMs).toBe(0);
    look(5, null);
    expect(cursor.untilSweepMs).toBeNull();
  });

  it('is never the start while other events are being routed, which would be found there again', () => {
    const first = cursor.look();
    cursor.found(first, 250);
    const second = cursor.look(false);
    expect(second.afterSeq).toBe(250);
    cursor.found(second, 500);
    expect(cursor.look(true).afterSeq).toBe(0);
  });

  it('goes back to what a look has found and left', () => {
    look(10, 500);
    cursor.left(300);
    expect(look(10, null)).toBe(300);
  });
});
