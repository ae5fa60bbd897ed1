import { readFile } from 'node:fs/promises';
import { cpus } from 'node:os';

/** Linux counts CPU time in hundredths of a second. */
const TICKS_PER_SECOND = 100;

/** CPU time of all programs of this machine since its start, in seconds; 0 where there is no `/proc`. */
export async function busySeconds(): Promise<number> {
  const text = await readFile('/proc/stat', 'latin1').catch(() => '');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (text.split('\n')[0] ?? '')
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND;
}

/**
 * The share of the machine that the measured programs could use, because other programs used the rest.
 *
 * @param busy CPU time of all programs in this time, in seconds
 * @param own CPU time of the measured programs, in seconds
 */
export function shareOfCores({ busy, own, seconds }: { busy: number; own: number; seconds: number }): number {
  return Math.max(0.01, 1 - Math.max(0, busy - own) / (seconds * cpus().length));
}
