import { spawnSync } from 'node:child_process';

/** @returns the version of Prometheus' `promtool` in PATH */
export function installedPromtool(): string | undefined {
  const { status, stdout, stderr } = spawnSync('promtool', ['--version'], { encoding: 'utf8' });
  // Some versions write it to the standard error.
  return status === 0 ? /promtool, version (\S+)/.exec(stdout + stderr)?.[1] : undefined;
}

/** Runs promtool. @returns what it wrote, and whether it succeeded */
export function promtool(...args: string[]): { isPassed: boolean; output: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  return { isPassed: status === 0, output: stdout + stderr };
}
