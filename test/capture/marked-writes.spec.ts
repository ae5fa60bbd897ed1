import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { keyOf, MarkedWrites, NO_MARK } from '../../libs/webhooks/src/capture/triggers/marked-writes.js';

describe('writes of one query runner with different marks', () => {
  let writes: MarkedWrites;
  let steps: string[];
  beforeEach(() => {
    vi.useFakeTimers();
    writes = new MarkedWrites();
    steps = [];
  });
  afterEach(() => vi.useRealTimers());

  const enter = async (query: string, context: string | null, isAlone = false) => {
    await writes.enter({
      query,
      key: keyOf({ ...NO_MARK, context }),
      isAlone,
      mark: async () => {
        steps.push(`mark ${context}`);
      },
    });
    steps.push(query);
  };
  const settle = () => vi.advanceTimersByTimeAsync(0);

  it('run concurrently with the same mark, and one after another with different marks', async () => {
    void enter('a1', 'a');
    void enter('a2', 'a');
    void enter('b1', 'b');
    void enter('a3', 'a');
    await settle();
    expect(steps).toEqual(['mark a', 'a1', 'a2']);
    writes.leave('a1');
    await settle();
    expect(steps).toHaveLength(3);
    writes.leave('a2');
    await settle();
    expect(steps.slice(3)).toEqual(['mark b', 'b1']);
    writes.leave('b1');
    await settle();
    expect(steps.slice(5)).toEqual(['mark a', 'a3']);
  });

  it('run alone if the mark ends with the write', async () => {
    void enter('a1', 'a', true);
    void enter('a2', 'a', true);
    await settle();
    expect(steps).toEqual(['mark a', 'a1']);
    writes.forget();
    writes.leave('a1');
    await settle();
    expect(steps.slice(2)).toEqual(['mark a', 'a2']);
  });

  it('continue after ten seconds if an earlier write does not end', async () => {
    void enter('lost', null);
    void enter('b', 'b');
    void enter('c', 'c');
    await vi.advanceTimersByTimeAsync(9_999);
    expect(steps).toEqual(['lost']);
    await vi.advanceTimersByTimeAsync(1);
    expect(steps).toEqual(['lost', 'mark b', 'b', 'mark c', 'c']);
  });

  it('continue if a mark cannot be set, and at the end of their transaction', async () => {
    const failing = writes.enter({
      query: 'a',
      key: 'a',
      isAlone: false,
      mark: () => Promise.reject(new Error('aborted')),
    });
    await expect(failing).rejects.toThrow('aborted');
    expect(writes.isUnderWay('a')).toBe(false);
    void enter('b', 'b');
    void enter('c', 'c');
    await settle();
    expect(steps).toEqual(['mark b', 'b']);
    await writes.end();
    await settle();
    expect(steps.slice(2)).toEqual(['mark c', 'c']);
  });
});
