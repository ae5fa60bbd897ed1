// Copies the types of the built library to dist/commonjs, where a package.json marks them as types of CommonJS modules.
//
// Node.js 20.19 and newer run `require('nestjs-entity-webhooks')` on the only build, of ES modules. TypeScript with `module: node16`
// rejects this call, because the nearest package.json of the types says that they belong to ES modules.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../libs/webhooks/dist', import.meta.url));
const target = join(dist, 'commonjs');

rmSync(target, { recursive: true, force: true });
for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
  if (!file.endsWith('.d.ts')) continue;
  mkdirSync(dirname(join(target, file)), { recursive: true });
  writeFileSync(join(target, file), ofCommonJs(readFileSync(join(dist, file), 'utf8')));
}
writeFileSync(join(target, 'package.json'), '{ "type": "commonjs" }\n');

/**
 * sql-template-tag has types of ES modules only. CommonJS types may import from it only with a `resolution-mode`.
 *
 * @param {string} types
 */
function ofCommonJs(types) {
  return types.replaceAll(/^import (?:type )?\{ (?:type )?Sql \} from 'sql-template-tag';$/gm, () => {
    return "import type { Sql } from 'sql-template-tag' with { 'resolution-mode': 'import' };";
  });
}
