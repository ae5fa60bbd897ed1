import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sharedLookup, unblockableLookup } from '../../libs/webhooks/src/sending/lookup.js';

type Callback = Parameters<LookupFunction>[2];
const ADDRESS: LookupAddress[] = [{ address: '192.0.2.1', family: 4 }];

/** A resolver that answers when the test calls it. */
class Resolver {
  readonly asked: { name: string; answer: () => void; fail: (error: Error) => void }[] = [];
  readonly lookup: LookupFunction = (name, _options, callback: Callback) => {
    this.asked.push({ name, answer: () => callback(null, ADDRESS), fail: (error) => callback(error as never, '') });
  };
  get names(): string[] {
    return this.asked.map(({ name }) => name);
  }
}

const ask = (lookup: LookupFunction, name: string) =>
  new Promise<unknown>((resolve) => lookup(name, { all: true }, (error, found) => resolve(error ?? found)));

describe('a name that several connections look up at the same time', () => {
  it('is looked up once, and all connections get the answer', async () => {
    const resolver = new Resolver();
    const lookup = sharedLookup(resolver.lookup);
    const answers = [ask(lookup, 'a.example'), ask(lookup, 'a.example'), ask(lookup, 'b.example')];
    expect(resolver.names).toEqual(['a.example', 'b.example']);
    for (const { answer } of resolver.asked) answer();
    expect(await Promise.all(answers)).toEqual([ADDRESS, ADDRESS, ADDRESS]);
  });

  it('is looked up again after an answer or an error', async () => {
    const resolver = new Resolver();
    const lookup = sharedLookup(resolver.lookup);
    const first = ask(lookup, 'a.example');
    const error = new Error('no');
    resolver.asked[0]?.fail(error);
    expect(await first).toBe(error);
    const second = ask(lookup, 'a.example');
    resolver.asked[1]?.answer();
    expect(await second).toEqual(ADDRESS);
  });
});

describe('a resolver that never answers', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it('fails all waiting callers after ten seconds, and is asked again for the next caller', async () => {
    const resolver = new Resolver();
    const lookup = sharedLookup(resolver.lookup);
    const answers = [ask(lookup, 'a.example'), ask(lookup, 'a.example')];
    await vi.advanceTimersByTimeAsync(10_000);
    for (const answer of answers) expect(await answer).toMatchObject({ code: 'ETIMEDOUT' });
    const later = ask(lookup, 'a.example');
    expect(resolver.names).toEqual(['a.example', 'a.example']);
    // The late answer to the first lookup reaches no caller.
    resolver.asked[0]?.fail(new Error('too late'));
    resolver.asked[1]?.answer();
    expect(await later).toEqual(ADDRESS);
  });

  it('that throws fails the waiting callers, and no later caller', async () => {
    const error = new Error('broken');
    let isBroken = true;
    const lookup = sharedLookup((_name, _options, callback) => {
      if (isBroken) throw error;
      callback(null, ADDRESS);
    });
    expect(await ask(lookup, 'a.example')).toBe(error);
    isBroken = false;
    expect(await ask(lookup, 'a.example')).toEqual(ADDRESS);
  });
});

describe('while lookups with unresponsive name servers hold every thread', () => {
  let threads: Resolver;
  let lookup: LookupFunction;
  const withoutThread = vi.fn();

  beforeEach(() => {
    vi.useFakeTimers();
    threads = new Resolver();
    withoutThread.mockReset().mockResolvedValue(ADDRESS);
    lookup = unblockableLookup({ withThread: threads.lookup, withoutThread });
    void ask(lookup, 'dead-1.example');
    void ask(lookup, 'dead-2.example');
  });
  afterEach(() => vi.useRealTimers());

  it('another name is resolved without a thread', async () => {
    const found = ask(lookup, 'alive.example');
    await vi.advanceTimersByTimeAsync(200);
    expect(await found).toEqual(ADDRESS);
    expect(threads.names).toEqual(['dead-1.example', 'dead-2.example']);
    threads.asked[0]?.answer();
    expect(threads.names).toHaveLength(2);
  });

  it('a name that only this machine knows waits for a thread', async () => {
    withoutThread.mockRejectedValue(new Error('not known'));
    const found = ask(lookup, 'of-etc-hosts');
    await vi.advanceTimersByTimeAsync(5_000);
    expect(threads.names).toHaveLength(2);
    threads.asked[0]?.answer();
    expect(threads.names[2]).toBe('of-etc-hosts');
    threads.asked[2]?.answer();
    expect(await found).toEqual(ADDRESS);
  });

  it('unknown names wait ten seconds and no longer', async () => {
    withoutThread.mockRejectedValue(new Error('not known'));
    const unknown = Array.from({ length: 100 }, (_, i) => ask(lookup, `unknown-${i}.example`));
    await vi.advanceTimersByTimeAsync(10_000);
    for (const answer of unknown) expect(await answer).toMatchObject({ code: 'ETIMEDOUT' });
    // None of these lookups delays the next one.
    const next = ask(lookup, 'next.example');
    threads.asked[0]?.answer();
    expect(threads.names).toEqual(['dead-1.example', 'dead-2.example', 'next.example']);
    threads.asked[2]?.answer();
    expect(await next).toEqual(ADDRESS);
  });

  it('a name waits for a thread that soon becomes free', async () => {
    const found = ask(lookup, 'next.example');
    threads.asked[1]?.answer();
    threads.asked[2]?.answer();
    expect(await found).toEqual(ADDRESS);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(withoutThread).not.toHaveBeenCalled();
  });
});
