import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** As frames name it: a path, or a URL for modules that Node loaded itself. */
const HERE = [dirname(fileURLToPath(import.meta.url)), new URL('.', import.meta.url).href];

/**
 * Remembers the call stack, and finds in it who called TypeORM: the first frame outside node_modules, Node and this
 * folder. Capturing costs microseconds; the stack becomes text only when `describe` is called.
 */
export function captureCallSite(): { describe(): string | undefined } {
  const trace: { stack?: string } = {};
  Error.captureStackTrace(trace, captureCallSite);
  return {
    describe: () =>
      trace.stack
        ?.split('\n')
        .slice(1)
        .find(isOutside)
        ?.trim()
        .replace(/^at (?:async )?/, ''),
  };
}

function isOutside(frame: string): boolean {
  return (
    /:\d+:\d+\)?$/.test(frame) &&
    !/[\\/]node_modules[\\/]|node:/.test(frame) &&
    !HERE.some((here) => frame.includes(here))
  );
}
