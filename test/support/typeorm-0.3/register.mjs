// Puts TypeORM 0.3 in the place of 1.x in a process and its children: `typeorm-0.3` of package.json wherever `typeorm` is asked for.
// `TYPEORM=0.3 vitest run …` loads it into every process through NODE_OPTIONS (vitest.config.ts). Node.js 20 has no hook that is for
// `import` and `require()` alike.
import Module, { register } from 'node:module';
import { moved } from './hooks.mjs';

register('./hooks.mjs', import.meta.url);

/** Node's name for what finds the file of a `require()`; the documented way to it, `registerHooks`, came with Node.js 22.15. */
const FIND = '_resolveFilename';
const loader = /** @type {Record<typeof FIND, (...args: unknown[]) => string>} */ (/** @type {unknown} */ (Module));
const find = loader[FIND];
loader[FIND] = (...args) => moved(find.apply(loader, args));
