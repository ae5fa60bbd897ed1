import { Fifo, type VirtualTime } from './virtual-time.js';

interface Work {
  readonly us: number;
  readonly done: () => void;
}

const US_PER_MS = 1_000;

/** Processor cores that several programs share. Work that finds no free core waits in the order of its arrival. */
export class Cores {
  /** CPU time of all finished work, in microseconds. */
  usedUs = 0;
  private free: number;
  private readonly waiting = new Fifo<Work>();

  /**
   * @param count number of cores
   * @param speed share of each core that this model may use. The rest is in use by other programs
   */
  constructor(
    private readonly time: VirtualTime,
    count: number,
    private readonly speed = 1,
  ) {
    this.free = count;
  }

  run(us: number, done: () => void): void {
    if (this.free > 0) this.begin({ us, done });
    else this.waiting.add({ us, done });
  }

  private begin({ us, done }: Work): void {
    this.free--;
    this.time.after(us / US_PER_MS / this.speed, () => {
      this.free++;
      this.usedUs += us;
      const next = this.waiting.take();
      if (next) this.begin(next);
      done();
    });
  }
}

/** A program that does one piece of work at a time, such as a Node.js process. */
export class Thread {
  usedUs = 0;
  private isBusy = false;
  private readonly waiting = new Fifo<Work>();

  constructor(private readonly cores: Cores) {}

  run(us: number, done: () => void): void {
    this.waiting.add({ us, done });
    if (!this.isBusy) this.next();
  }

  private next(): void {
    const work = this.waiting.take();
    this.isBusy = work !== undefined;
    if (!work) return;
    this.cores.run(work.us, () => {
      this.usedUs += work.us;
      work.done();
      this.next();
    });
  }
}
