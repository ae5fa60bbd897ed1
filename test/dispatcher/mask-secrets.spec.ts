import { describe, expect, it } from 'vitest';

import { maskSecrets } from '../../libs/webhooks/src/dispatcher/mask-secrets.js';

/** Characters that the encodings treat in different ways, and a text that looks encoded. */
const PASSWORD = `pä/s<s>&"w'o r+d=%41\\u0042`;
const TOKEN = 'eyJhbGciOi/JIUzI1+NiJ9==';

const json = (text: string) => JSON.stringify(text).slice(1, -1);
const percent = (text: string) =>
  [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
const form = (text: string) => new URLSearchParams({ '': text }).toString().slice(1);
const everyCharacter = (text: string, encoded: (code: number) => string) =>
  [...text].map((character) => encoded(character.charCodeAt(0))).join('');

const ENCODINGS: Readonly<Record<string, (text: string) => string>> = {
  JSON: json,
  'JSON with escaped slashes, as PHP writes it': (text) => json(text).replaceAll('/', String.raw`\/`),
  'JSON with the characters of HTML as numbers, as Go and Gson write it': (text) =>
    json(text).replaceAll(/[<>&='+]/g, (one) => String.raw`\u00${one.charCodeAt(0).toString(16).toUpperCase()}`),
  'JSON in JSON': (text) => json(json(text)),
  'the escapes of other languages': (text) =>
    everyCharacter(text, (code) => String.raw`\x${code.toString(16).padStart(2, '0')}`),
  'a URL': encodeURIComponent,
  'a URL in lower case': percent,
  'a form': form,
  'a form in JSON': (text) => json(form(text)),
  'a URL in a URL': (text) => encodeURIComponent(encodeURIComponent(text)),
  'HTML by decimal numbers': (text) => everyCharacter(text, (code) => `&#${code};`),
  'HTML by hexadecimal numbers': (text) => everyCharacter(text, (code) => `&#x${code.toString(16)};`),
  'JSON in HTML': (text) => json(text).replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;'),
  base64: (text) => Buffer.from(text).toString('base64'),
};

describe.each(Object.entries(ENCODINGS))('a credential in %s', (_encoding, encoded) => {
  it.each([PASSWORD, TOKEN])('is masked, and the text around it stays: %s', (secret) => {
    const masked = maskSecrets(`got: ${encoded(secret)}; ${encoded(secret)}.`, [secret], false);
    expect(masked).toMatch(/^got: \*{3}=*; \*{3}=*\.$/);
  });

  it.each([PASSWORD, TOKEN])('is masked at whatever character the text is cut: %s', (secret) => {
    const text = `got: ${encoded(secret)}`;
    // Of fewer characters nothing can be said.
    const least = `got: ${encoded(secret.slice(0, 6))}`.length;
    for (let length = least; length < text.length; length++) {
      expect(maskSecrets(text.slice(0, length), [secret], true)).toMatch(/^got: \*{3}=*$/);
    }
  });
});

describe('base64 of a text', () => {
  it.each(['', 'a', 'ab', 'abc'])('has no credential that follows "%s"', (before) => {
    const encoded = Buffer.from(`${before}${TOKEN}, and more`).toString('base64');
    const masked = maskSecrets(encoded, [TOKEN], false);
    expect(masked).toContain('***');
    expect(Buffer.from(masked.split('***')[0] ?? '', 'base64').toString()).not.toContain(TOKEN.slice(0, 2));
    expect(Buffer.from(masked.split('***')[1] ?? '', 'base64').toString('latin1')).not.toContain(TOKEN.slice(-3));
  });

  it('has none in the alphabet of URLs either', () => {
    expect(maskSecrets(Buffer.from('???>>>secret').toString('base64url'), ['???>>>secret'], false)).toBe('***');
  });
});

it('a text without a credential is unchanged, whatever it looks like', () => {
  const text = String.raw`100 %, %zz, %4, \u12, \, &amp; &unknown; &#9999999; ` + PASSWORD.slice(1);
  expect(maskSecrets(text, [PASSWORD, TOKEN], false)).toBe(text);
});
