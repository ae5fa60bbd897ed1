/** An action that waits for its time. */
interface Planned {
  readonly at: number;
  readonly order: number;
  readonly action: () => void;
}

/** A queue whose smallest item comes first: a binary heap. */
export class SmallestFirst<T> {
  private readonly items: T[] = [];

  /** @param isBefore whether the first item comes before the second */
  constructor(private readonly isBefore: (a: T, b: T) => boolean) {}

  get size(): number {
    return this.items.length;
  }

  get first(): T | undefined {
    return this.items[0];
  }

  add(item: T): void {
    const { items } = this;
    let place = items.length;
    items.push(item);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = items[parent] as T;
      if (!this.isBefore(item, above)) break;
      items[place] = above;
      place = parent;
    }
    items[place] = item;
  }

  take(): T | undefined {
    const { items } = this;
    const [first] = items;
    const last = items.pop();
    if (items.length > 0 && last !== undefined) this.sink(last);
    return first;
  }

  private sink(item: T): void {
    const { items } = this;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && this.isBefore(items[child + 1] as T, items[child] as T)) child++;
      if (!this.isBefore(items[child] as T, item)) break;
      items[place] = items[child] as T;
      place = child;
    }
    items[place] = item;
  }
}

/** A queue from which items leave in the order in which they came. `Array.shift()` is slow for long arrays. */
export class Fifo<T> {
  private items: T[] = [];
  private taken = 0;

  get size(): number {
    return this.items.length - this.taken;
  }

  get first(): T | undefined {
    return this.items[this.taken];
  }

  add(item: T): void {
    this.items.push(item);
  }

  take(): T | undefined {
    const item = this.items[this.taken];
    if (item === undefined) return undefined;
    this.taken++;
    if (this.taken * 2 > this.items.length) {
      this.items = this.items.slice(this.taken);
      this.taken = 0;
    }
    return item;
  }
}

/** Runs actions in the order of their times, and does not wait between them. Times are in ms. */
export class VirtualTime {
  now = 0;
  private order = 0;
  private readonly planned = new SmallestFirst<Planned>((a, b) => a.at < b.at || (a.at === b.at && a.order < b.order));

  at(time: number, action: () => void): void {
    this.planned.add({ at: Math.max(time, this.now), order: this.order++, action });
  }

  after(ms: number, action: () => void): void {
    this.at(this.now + ms, action);
  }

  /** Runs actions until the given time, or until `isDone` is true. */
  run(until: number, isDone: () => boolean = () => false): void {
    while (!isDone()) {
      const { first } = this.planned;
      if (!first || first.at > until) break;
      this.planned.take();
      this.now = first.at;
      first.action();
    }
  }
}

/**
 * Pseudo-random numbers from 0 to 1: the same ones for the same seed, so that the same numbers give the same plan. It is a linear
 * congruential generator of 64 bits.
 */
export function randomNumbers(seed: number): () => number {
  let state = BigInt(seed);
  return () => {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
    return Number(state >> 11n) / 2 ** 53;
  };
}
