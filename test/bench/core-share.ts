import { readFile } from 'node:fs/promises';
import { cpus } from 'node:os';

/** Linux counts CPU time in hundredths of a second. */
const TICKS_PER_SECOND = 100;

/** CPU time of all programs of this machine since its start, in seconds; 0 where there is no `/proc`. */
async function busySeconds(): Promise<number> {
  const text = await readFile('/proc/stat', 'latin1').catch(() => '');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (text.split('\n')[0] ?? '')
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND;
}

/**
 * Measures which share of the machine the measured programs could use, because other programs used the rest.
 *
 * @param work returns the CPU time of the measured programs, in seconds
 */
export async function shareOfCores<T extends { ownCpuSeconds: number; seconds: number }>(
  work: () => Promise<T>,
): Promise<T & { share: number }> {
  const before = await busySeconds();
  const result = await work();
  const others = Math.max(0, (await busySeconds()) - before - result.ownCpuSeconds);
  return { ...result, share: Math.max(0.01, 1 - others / (result.seconds * cpus().length)) };
}
