// Puts TypeORM 0.3 in the place of 1.x in a process and its children: `typeorm-0.3` of package.json wherever `typeorm` is asked for.
// `TYPEORM=0.3 vitest run …` loads it into every process through NODE_OPTIONS (vitest.config.ts). Node.js 20 has no hook that is for
// `import` and `require()` alike.
import Module, { register } from 'node:module';
import { moved } from './hooks.mjs';

register('./hooks.mjs', import.meta.url);

const loader = /** @type {{ _resolveFilename: (...args: unknown[]) => string }} */ (/** @type {unknown} */ (Module));
const resolveFilename = loader._resolveFilename;
loader._resolveFilename = (...args) => moved(resolveFilename.apply(loader, args));
