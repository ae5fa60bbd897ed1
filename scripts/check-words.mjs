// Finds words that the vocabulary has replaced (`scripts/old-words.mjs`), and checks that the dictionaries of the spell checker are sorted.
//
//   node scripts/check-words.mjs             the places that the list names
//   node scripts/check-words.mjs FILE…       these files
//
// In Markdown, code and the targets of links are not looked at: they name things as the code does.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { OLD_WORDS, PLACES } from './old-words.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const DICTIONARIES = ['.cspell/words.txt', '.cspell/code.txt'];
const CHECKED = /\.(md|ts|mjs)$/;

const given = process.argv.slice(2);
const found = [];
for (const file of given.length > 0 ? given : PLACES.flatMap(filesOf)) {
  const text = readFileSync(join(given.length > 0 ? '' : root, file), 'utf8');
  for (const [index, line] of (file.endsWith('.md') ? withoutCode(text) : text).split('\n').entries()) {
    for (const { old, use, in: where } of OLD_WORDS) {
      if (where && !where.test(file)) continue;
      const [word] = old.exec(line) ?? [];
      if (word) found.push(`${file}:${index + 1}: '${word}' is no longer used. Write: ${use}.`);
    }
  }
}
for (const dictionary of DICTIONARIES) {
  const words = readFileSync(join(root, dictionary), 'utf8').trimEnd().split('\n');
  const sorted = [...new Set(words)].toSorted((a, b) => a.localeCompare(b, 'en'));
  const misplaced = words.find((word, index) => word !== sorted[index]);
  if (misplaced) found.push(`${dictionary}: '${misplaced}' is out of order or there twice. Keep the words sorted.`);
}

if (found.length > 0) {
  console.error(found.join('\n'));
  process.exit(1);
}

/** @param {string} place */
function filesOf(place) {
  if (!statSync(join(root, place)).isDirectory()) return [place];
  return readdirSync(join(root, place), { recursive: true })
    .map((name) => `${place}/${String(name).replaceAll('\\', '/')}`)
    .filter((name) => CHECKED.test(name));
}

/**
 * Blanks fenced blocks, inline code, comments and link targets; line numbers stay.
 *
 * @param {string} markdown
 */
function withoutCode(markdown) {
  const blank = (/** @type {string} */ text) => text.replaceAll(/[^\n]/g, ' ');
  return markdown
    .replaceAll(/^ *(```|~~~)[\s\S]*?^ *\1/gm, blank)
    .replaceAll(/<!--[\s\S]*?-->/g, blank)
    .replaceAll(/(`+)(?!`)[\s\S]*?[^`]\1(?!`)/g, blank)
    .replaceAll(/\]\([^)]*\)/g, blank);
}
