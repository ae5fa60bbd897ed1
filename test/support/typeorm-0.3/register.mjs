// Replaces TypeORM 1.x with 0.3 in a process and its children: `typeorm` resolves to `typeorm-0.3` of package.json.
// `TYPEORM=0.3 vitest run …` loads this file into every process through NODE_OPTIONS (vitest.config.ts). Node.js 20 has no hook for both
// `import` and `require()`.
import Module, { register } from 'node:module';
import { moved } from './hooks.mjs';

register('./hooks.mjs', import.meta.url);

/** The internal function of Node.js that resolves a `require()`. The documented hook, `registerHooks`, exists from Node.js 22.15. */
const FIND = '_resolveFilename';
const loader = /** @type {Record<typeof FIND, (...args: unknown[]) => string>} */ (/** @type {unknown} */ (Module));
const find = loader[FIND];
loader[FIND] = (...args) => moved(find.apply(loader, args));
