import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** As frames name it: a path, or a URL for modules that Node loaded itself. */
const HERE = foldersOf(thisFile());

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

/** This file, as its own frames name it. `import.meta.url` would say it too, and jest runs this file as CommonJS, which has none. */
function thisFile(): string | undefined {
  const frame = new Error().stack?.split('\n')[1];
  return frame && /(?:\(|at )([^()]+?):\d+:\d+\)?$/.exec(frame)?.[1];
}

function foldersOf(file: string | undefined): string[] {
  if (file === undefined) return [];
  if (!file.startsWith('file:')) return [dirname(file)];
  return [dirname(fileURLToPath(file)), new URL('.', file).href];
}

function isOutside(frame: string): boolean {
  return (
    /:\d+:\d+\)?$/.test(frame) &&
    !/[\\/]node_modules[\\/]|node:/.test(frame) &&
    !HERE.some((here) => frame.includes(here))
  );
}
