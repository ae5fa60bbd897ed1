/** How long a number of operations took. */
export interface Measurement {
  readonly count: number;
  readonly seconds: number;
  /** CPU time, user and system, of the process per operation, in microseconds. */
  readonly cpuUs: number;
}

/** Times `work`, which does `count` operations. */
export async function measure(count: number, work: () => Promise<unknown>): Promise<Measurement> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { count, seconds, cpuUs: (user + system) / count };
}

/** Operations per second. */
export function rate({ count, seconds }: Pick<Measurement, 'count' | 'seconds'>): number {
  return count / seconds;
}

/** Runs an operation `count` times, at most `concurrency` at a time. Rejects with the first error. */
export async function atATime(concurrency: number, count: number, work: () => Promise<void>): Promise<void> {
  let begun = 0;
  const worker = async (): Promise<void> => {
    while (begun < count) {
      begun++;
      await work();
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}

/** The value that `percent` of the values do not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** Milliseconds on the clock that all processes of a host share: `performance.now()` starts at 0 in each process. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
