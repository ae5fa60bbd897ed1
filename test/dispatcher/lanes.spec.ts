// Letters name listeners. cspell:ignore abcabcaa axbycdef abaaa azbzcabc
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Lanes, type LanedDelivery, type LanesOptions, type Source } from '../../libs/webhooks/src/dispatcher/lanes.js';
import type { ClaimedDelivery } from '../../libs/webhooks/src/store/queue/claimed-delivery.js';

let nextSeq = 0;

function deliveries(
  listenerId: string,
  count: number,
  startBefore = Infinity,
  source: Source = 'fresh',
  owner: string | null = null,
): LanedDelivery[] {
  return Array.from({ length: count }, () => ({
    delivery: { seq: String(nextSeq++), owner, listener: { id: listenerId } } as ClaimedDelivery,
    startBefore,
    settled: undefined,
    isAwaited: false,
    source,
  }));
}

/** Lanes whose requests end when the test ends them. */
class Bench {
  readonly sent: LanedDelivery[] = [];
  readonly expired: LanedDelivery[] = [];
  readonly free: (() => void)[] = [];
  hasRoomAgain = 0;
  readonly underWay: { laned: LanedDelivery; end: () => void }[] = [];
  readonly lanes: Lanes;

  constructor(
    options: Partial<
      Pick<LanesOptions, 'concurrency' | 'concurrencyPerListener' | 'concurrencyPerOwner' | 'waiting'>
    > = {},
  ) {
    this.lanes = new Lanes({
      concurrency: 8,
      concurrencyPerListener: 4,
      concurrencyPerOwner: 4,
      waiting: { fresh: 30, backlog: 10 },
      ...options,
      send: (laned, free) => {
        this.sent.push(laned);
        this.free.push(free);
        return new Promise((resolve) => this.underWay.push({ laned, end: resolve }));
      },
      expired: (laned) => this.expired.push(laned),
      hasRoomAgain: () => this.hasRoomAgain++,
    });
  }

  order(): string {
    return this.sent.map(({ delivery }) => delivery.listener.id).join('');
  }

  /** Ends a request. */
  async end(index = 0): Promise<void> {
    const [request] = this.underWay.splice(index, 1);
    request?.end();
    await new Promise((resolve) => setImmediate(resolve));
  }

  sending(listenerId: string): number {
    return this.underWay.filter(({ laned }) => laned.delivery.listener.id === listenerId).length;
  }
}

describe('the lanes', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('send one listener as many requests as its limit allows, and the next when one ends', async () => {
    const bench = new Bench();
    bench.lanes.add(deliveries('a', 10));
    expect(bench.sent).toHaveLength(4);
    await bench.end();
    expect(bench.sent).toHaveLength(5);
  });

  it('let listeners take turns, however many deliveries one of them has', async () => {
    const bench = new Bench({ concurrency: 2 });
    bench.lanes.add([...deliveries('a', 20), ...deliveries('b', 2), ...deliveries('c', 2)]);
    while (bench.sent.length < 8) await bench.end();
    expect(bench.order()).toBe('abcabcaa');
  });

  it('give all other slots to the others while one listener never answers', async () => {
    const bench = new Bench({ concurrency: 8, concurrencyPerListener: 4 });
    bench.lanes.add(deliveries('a', 20));
    bench.lanes.add(deliveries('b', 10));
    expect([bench.sending('a'), bench.sending('b')]).toEqual([4, 4]);
    for (let ended = 0; ended < 10; ended++) {
      await bench.end(bench.underWay.findIndex(({ laned }) => laned.delivery.listener.id === 'b'));
    }
    expect([bench.sending('a'), bench.sending('b')]).toEqual([4, 0]);
    expect(bench.sent).toHaveLength(14);
  });

  it('never exceed either limit, and send everything in the end, in the order of each lane', async () => {
    const listeners = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 40 });
    const limits = fc.record({
      concurrency: fc.integer({ min: 1, max: 6 }),
      concurrencyPerListener: fc.integer({ min: 1, max: 6 }),
      concurrencyPerOwner: fc.integer({ min: 1, max: 6 }),
    });
    await fc.assert(
      fc.asyncProperty(limits, listeners, fc.array(fc.nat(5), { maxLength: 20 }), async (limit, ids, ends) => {
        const bench = new Bench(limit);
        const ownerOf = (id: string) => (id === 'c' ? null : 'ab');
        const all = ids.flatMap((id) => deliveries(id, 1, Infinity, 'fresh', ownerOf(id)));
        for (const one of all) {
          bench.lanes.add([one]);
          const end = ends.pop();
          if (end !== undefined && end < bench.underWay.length) await bench.end(end);
          expect(bench.underWay.length).toBeLessThanOrEqual(limit.concurrency);
          for (const id of 'abc') expect(bench.sending(id)).toBeLessThanOrEqual(limit.concurrencyPerListener);
          expect(bench.sending('a') + bench.sending('b')).toBeLessThanOrEqual(limit.concurrencyPerOwner);
        }
        while (bench.underWay.length) await bench.end();
        for (const id of 'abc') {
          const of = (laned: readonly LanedDelivery[]) => laned.filter(({ delivery }) => delivery.listener.id === id);
          expect(of(bench.sent)).toEqual(of(all));
        }
        expect(bench.lanes.isEmpty).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('have room for a new listener, up to twice its limit', () => {
    const { lanes } = new Bench();
    expect(lanes.room('fresh').ofListener('new')).toBe(8);
    expect(lanes.room('fresh').total).toBe(8 + 30);
  });

  it('have no room for a listener that never answers, and name the listener', () => {
    const { lanes } = new Bench();
    lanes.add(deliveries('a', 8));
    const room = lanes.room('fresh');
    expect([room.ofListener('a'), room.full]).toEqual([0, ['a']]);
    expect(room.ofListener('b')).toBe(8);
    expect(room.total).toBe(4 + 26);
  });

  it('signal once when a listener that had no room has room again', async () => {
    const bench = new Bench();
    bench.lanes.add(deliveries('a', 8));
    await bench.end();
    // No claim had looked for it.
    expect(bench.hasRoomAgain).toBe(0);
    bench.lanes.add(deliveries('a', 3));
    expect(bench.lanes.room('fresh').full).toEqual(['a']);
    const hasRoomAgain: number[] = [];
    while (bench.underWay.length) {
      await bench.end();
      hasRoomAgain.push(bench.hasRoomAgain);
    }
    // When at most two of four are left in the queue.
    expect(hasRoomAgain).toEqual([0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
  });

  it('queue more deliveries for a listener that answers fast, and fewer when it has become slow', async () => {
    const bench = new Bench();
    bench.lanes.add(deliveries('a', 20));
    for (let ended = 0; ended < 16; ended++) await bench.end();
    // Sixteen ended lately, so twice as many are taken in advance, but no more than fit into memory.
    expect(bench.lanes.room('fresh').ofListener('a')).toBe(30);
    vi.advanceTimersByTime(1_000);
    expect(bench.lanes.room('fresh').ofListener('a')).toBe(4);
  });

  it('run low while at most two thirds of the queue is filled', () => {
    const { lanes } = new Bench();
    lanes.add(deliveries('a', 24));
    expect(lanes.isLow('fresh')).toBe(true);
    lanes.add(deliveries('a', 1));
    expect(lanes.isLow('fresh')).toBe(false);
  });

  it('alternate between fresh and backlog deliveries while both exist', async () => {
    const bench = new Bench({ concurrency: 1 });
    for (const id of ['a', 'b', 'c', 'd', 'e', 'f']) bench.lanes.add(deliveries(id, 1, Infinity, 'backlog'));
    expect(bench.lanes.room('backlog').total).toBe(10 - 5);
    expect(bench.lanes.room('fresh').total).toBe(30);
    for (const id of ['x', 'y']) bench.lanes.add(deliveries(id, 1));
    while (bench.underWay.length) await bench.end();
    expect(bench.order()).toBe('axbycdef');
    expect(bench.lanes.isLow('backlog')).toBe(true);
  });

  it('remove the queued deliveries of one listener, and let requests in flight continue', async () => {
    const bench = new Bench();
    bench.lanes.add([...deliveries('a', 6), ...deliveries('b', 1)]);
    expect(bench.lanes.evict('a')).toHaveLength(2);
    await bench.end();
    expect(bench.order()).toBe('abaaa');
    expect(bench.lanes.evict()).toEqual([]);
    expect(bench.lanes.sending).toBe(4);
  });

  it('do not send a delivery whose lease no longer covers an attempt, and use no slot for it', async () => {
    const bench = new Bench();
    const now = performance.now();
    bench.lanes.add([...deliveries('a', 4), ...deliveries('a', 3, now + 100), ...deliveries('a', 1)]);
    vi.advanceTimersByTime(101);
    await bench.end();
    expect(bench.expired).toHaveLength(3);
    expect(bench.sent).toHaveLength(5);
    while (bench.underWay.length) await bench.end();
    expect(bench.lanes.isEmpty).toBe(true);
  });

  it('let owners take turns before their listeners do', async () => {
    const bench = new Bench({ concurrency: 1, concurrencyPerOwner: 8 });
    const of = (owner: string, id: string) => deliveries(id, 2, Infinity, 'fresh', owner);
    bench.lanes.add([...of('many', 'a'), ...of('many', 'b'), ...of('many', 'c'), ...of('one', 'z')]);
    while (bench.underWay.length) await bench.end();
    expect(bench.order()).toBe('azbzcabc');
  });

  it('leave slots to other owners, however many listeners one owner has', async () => {
    const bench = new Bench({ concurrency: 8, concurrencyPerListener: 4, concurrencyPerOwner: 5 });
    for (const id of 'abcdef') bench.lanes.add(deliveries(id, 2, Infinity, 'fresh', 'many'));
    expect(bench.underWay).toHaveLength(5);
    bench.lanes.add(deliveries('z', 2, Infinity, 'backlog', 'one'));
    expect(bench.sending('z')).toBe(2);
    await bench.end(0);
    expect(bench.underWay).toHaveLength(7);
    bench.lanes.add(deliveries('own', 4, Infinity, 'fresh', null));
    expect(bench.sending('own')).toBe(1);
  });

  it('queue only a share of the memory for one owner, and name an owner that has no room', () => {
    const bench = new Bench({ concurrency: 8, concurrencyPerListener: 4, concurrencyPerOwner: 2 });
    expect(bench.lanes.room('backlog').ofOwner('many')).toBe(2 + 2);
    for (const id of 'abcd') bench.lanes.add(deliveries(id, 1, Infinity, 'backlog', 'many'));
    const room = bench.lanes.room('backlog');
    expect([room.ofOwner('many'), room.fullOwners]).toEqual([0, ['many']]);
    expect([room.ofOwner('one'), room.ofOwner(null)]).toEqual([4, Infinity]);
  });

  it('signal once when an owner that had no room has room again', async () => {
    const bench = new Bench({ concurrency: 8, concurrencyPerListener: 4, concurrencyPerOwner: 2 });
    for (const id of 'abcd') bench.lanes.add(deliveries(id, 1, Infinity, 'fresh', 'many'));
    expect(bench.lanes.room('fresh').fullOwners).toEqual(['many']);
    while (bench.underWay.length) await bench.end();
    expect(bench.hasRoomAgain).toBe(1);
  });

  it('give a slot to the next delivery when an attempt frees its slot before it ends, and only once', async () => {
    const bench = new Bench({ concurrency: 1 });
    bench.lanes.add(deliveries('a', 3));
    bench.free[0]?.();
    bench.free[0]?.();
    expect(bench.sent).toHaveLength(2);
    await bench.end(0);
    expect(bench.sent).toHaveLength(2);
    await bench.end(0);
    expect(bench.sent).toHaveLength(3);
  });
});
