// Finds checks that are switched off without a reason: comments that disable a rule or expect a type error, and rules that
// `.oxlintrc.json` turns off. `npm run lint` runs it.
//
//   node scripts/check-reasons.mjs             all files
//   node scripts/check-reasons.mjs FILE…       these files
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const FOLDERS = ['libs', 'apps', 'test', 'scripts', '.ci'];
const CODE = /\.[cm]?[jt]s$/;
const FOREIGN = /(?:^|[\\/])(?:node_modules|dist)[\\/]/;
const LINT_CONFIG = '.oxlintrc.json';

const DIRECTIVE = /\/[/*]\s*((?:ox|es)lint-disable[a-z-]*|@ts-(?:expect-error|ignore|nocheck))\b(.*)/;
// Two words at least: a reason is more than the name of the rule.
const REASON = /\s--\s+\S+\s+(?!\*\/)\S+/;
const TURNED_OFF = /"([^"]+)": "off"/;

const given = process.argv.slice(2);
const files =
  given.length > 0
    ? given
    : [LINT_CONFIG, ...filesOf('.', false), ...FOLDERS.flatMap((folder) => filesOf(folder, true))];
const found = files.flatMap((file) => {
  const lines = readFileSync(join(given.length > 0 ? '' : root, file), 'utf8').split('\n');
  const withoutReason = file.endsWith(LINT_CONFIG) ? ruleWithoutReason : directiveWithoutReason;
  return lines.flatMap((line, index) => {
    const name = withoutReason(line, lines[index - 1] ?? '');
    return name ? [`${file}:${index + 1}: '${name}' has no reason.`] : [];
  });
});

if (found.length > 0) {
  console.error(`${found.join('\n')}\nWrite it after ' -- ', and in ${LINT_CONFIG} into a comment on the line above.`);
  process.exit(1);
}

/** @param {string} line */
function directiveWithoutReason(line) {
  const [, name, rest = ''] = DIRECTIVE.exec(line) ?? [];
  return REASON.test(rest) ? undefined : name;
}

/** @param {string} line @param {string} above */
function ruleWithoutReason(line, above) {
  return above.trimStart().startsWith('// ') ? undefined : TURNED_OFF.exec(line)?.[1];
}

/** @param {string} folder @param {boolean} recursive */
function filesOf(folder, recursive) {
  return readdirSync(join(root, folder), { recursive })
    .map((name) => join(folder, String(name)))
    .filter((name) => CODE.test(name) && !FOREIGN.test(name));
}
