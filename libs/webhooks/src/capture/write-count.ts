import type { QueryRunner } from 'typeorm';

/** How often a write builder has begun or ended a write on each query runner: what was read before such a moment may be old. */
export class WriteCount {
  private readonly counts = new WeakMap<QueryRunner, number>();

  on(runner: QueryRunner): number {
    return this.counts.get(runner) ?? 0;
  }

  add(runner: QueryRunner): void {
    this.counts.set(runner, this.on(runner) + 1);
  }

  /** Counts a write that has begun, and once more when it ends. */
  around(runner: QueryRunner, write: Promise<unknown>): void {
    const count = () => this.add(runner);
    count();
    write.then(count, count);
  }
}
