import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of this library in the form that stack frames use: a path, or a URL for modules that Node loaded itself. */
const HERE = foldersOf(thisFile());

/**
 * Captures the call stack, and finds the code that called TypeORM. This code is the first frame outside node_modules, Node and this
 * library. (A link may place this library outside of node_modules.) To capture the stack takes microseconds. The stack becomes text only
 * when `describe` is called.
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

/** The path of this file in stack frames. `import.meta.url` does not work here, because jest runs this file as CommonJS. */
function thisFile(): string | undefined {
  const frame = new Error().stack?.split('\n')[1];
  return frame && /(?:\(|at )([^()]+?):\d+:\d+\)?$/.exec(frame)?.[1];
}

function foldersOf(file: string | undefined): string[] {
  if (file === undefined) return [];
  if (!file.startsWith('file:')) return [dirname(dirname(file))];
  return [dirname(dirname(fileURLToPath(file))), new URL('..', file).href];
}

function isOutside(frame: string): boolean {
  return (
    /:\d+:\d+\)?$/.test(frame) &&
    !/[\\/]node_modules[\\/]|node:/.test(frame) &&
    !HERE.some((here) => frame.includes(here))
  );
}
