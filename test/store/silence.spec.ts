import { once } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { endAfterSilence } from '../../libs/webhooks/src/store/database/silence.js';

const LIMIT_MS = 50;

/** Blocks the event loop of this process. */
function block(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

describe('a timeout for answers', () => {
  it('expires without an answer', async () => {
    const ended = new AbortController();
    const began = performance.now();
    endAfterSilence(LIMIT_MS, () => ended.abort());
    await once(ended.signal, 'abort');
    expect(performance.now() - began).toBeGreaterThanOrEqual(LIMIT_MS - 1);
  });

  it('restarts with each answer', async () => {
    const end = vi.fn();
    const silence = endAfterSilence(LIMIT_MS, end);
    for (let n = 0; n < 5; n++) {
      await new Promise((resolve) => setTimeout(resolve, LIMIT_MS / 2));
      silence.restart();
    }
    silence.stop();
    expect(end).not.toHaveBeenCalled();
  });

  it('does not count the time in which the process was suspended', async () => {
    const end = vi.fn();
    const silence = endAfterSilence(LIMIT_MS, end);
    block(LIMIT_MS + 600);
    // Its timer has expired by then, and the answer is read only now.
    await new Promise((resolve) => setTimeout(resolve, 1));
    silence.stop();
    expect(end).not.toHaveBeenCalled();
  });
});
