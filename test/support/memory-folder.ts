import { accessSync, constants, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';

const IN_MEMORY = '/dev/shm';
/** A container often has 64 MB. */
const NEEDED_BYTES = 2 ** 30;

/**
 * Where databases of tests are stored: in memory if the machine offers it, because each COMMIT waits for the disk. Tests kill processes, never
 * the machine, so nothing is lost. Programs may not run from there.
 */
export function memoryFolder(): string {
  try {
    accessSync(IN_MEMORY, constants.W_OK);
    const { bavail, bsize } = statfsSync(IN_MEMORY);
    return bavail * bsize >= NEEDED_BYTES ? IN_MEMORY : tmpdir();
  } catch {
    return tmpdir();
  }
}
