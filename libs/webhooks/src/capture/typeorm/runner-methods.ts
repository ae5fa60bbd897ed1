import type { QueryRunner } from 'typeorm';

export type RunnerMethod = (...args: unknown[]) => Promise<unknown>;

/**
 * Replaces methods of one query runner and not of its class. So other runners of the data source keep their methods.
 *
 * @returns the original methods, by the same names
 */
export function replaceRunnerMethods(
  runner: QueryRunner,
  methods: Readonly<Record<string | symbol, (...args: never[]) => Promise<unknown>>>,
): Record<string | symbol, RunnerMethod> {
  const target = runner as unknown as Record<string | symbol, RunnerMethod>;
  const originals: Record<string | symbol, RunnerMethod> = {};
  for (const name of Reflect.ownKeys(methods)) {
    originals[name] = target[name] as RunnerMethod;
    target[name] = methods[name] as RunnerMethod;
  }
  return originals;
}
