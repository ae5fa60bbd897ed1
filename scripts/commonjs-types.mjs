// Copies the types of the built library to dist/commonjs, where a package.json says that they are of CommonJS modules.
//
// Node.js 20.19 and newer run `require('nestjs-entity-webhooks')`: there is one build, of ES modules, and one instance of it. TypeScript
// with `module: node16` refuses to compile that, as it knows types of ES modules only by the package.json above them.
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
 * sql-template-tag has types of ES modules only. A type may be imported from there when the import says so.
 *
 * @param {string} types
 */
function ofCommonJs(types) {
  return types.replaceAll(/^import (?:type )?\{ (?:type )?Sql \} from 'sql-template-tag';$/gm, () => {
    return "import type { Sql } from 'sql-template-tag' with { 'resolution-mode': 'import' };";
  });
}
