// The child side of child.ts: imports one program and calls its functions as messages ask for.
import 'reflect-metadata';
import type { Answer, Call } from './child.js';

const [, , name = ''] = process.argv;
const program = (await import(`./programs/${name}.js`)) as Record<string, (...args: readonly unknown[]) => unknown>;

process.on('message', ({ id, name, args }: Call) => {
  Promise.resolve()
    .then(() => program[name]?.(...args))
    .then(
      (value) => answer({ id, value }),
      (error: unknown) =>
        answer({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
});
// Ends the process even if connections are still open: the results were sent already.
process.on('disconnect', () => process.exit());

function answer(answer: Answer): void {
  if (process.connected) process.send?.(answer);
}
