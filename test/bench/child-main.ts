// The other end of child.ts: imports one program and calls its functions as it is told.
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
// Whatever is still open there: what was measured has been said.
process.on('disconnect', () => process.exit());

function answer(answer: Answer): void {
  if (process.connected) process.send?.(answer);
}
