import { MASK } from '../listeners/credentials/listener-auth.js';

/** Shorter values are not masked. Almost every text contains such short values, and they are too short to be secret. */
const MIN_SECRET_LENGTH = 4;
/** Minimum length of a masked piece of base64. Shorter pieces also occur by chance in other base64 texts. */
const MIN_BASE64_LENGTH = 8;
/** How many times a text may be encoded. An example with three encodings is JSON in a form in JSON. */
const MAX_ENCODINGS = 3;

/** An encoded character in JSON and similar literals, in URLs and forms, or in HTML. */
const ENCODED =
  /\\u(?<json>[\da-f]{4})|\\x(?<hex>[\da-f]{2})|\\(?<escaped>["'\\/])|%(?<url>[\da-f]{2})|&#(?<decimal>\d{1,3});|&#x(?<html>[\da-f]{1,2});|&(?<named>amp|lt|gt|quot|apos);/giu;
const NAMED: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
/** The beginning of an encoded character that is cut off at the end of the text. */
const CUT_CHARACTER = /(?:\\(?:u[\da-f]{0,3}|x[\da-f]?)?|%[\da-f]?|&(?:#x?[\da-f]{0,3}|[a-z]{0,4}))$/iu;

/** A text after one level of encoding was removed. */
interface Decoded {
  readonly text: string;
  /**
   * For each character of `text`, the position at which it begins in the original text. The last entry is the length of
   * the original text.
   */
  readonly starts: readonly number[];
}

type Range = readonly [from: number, to: number];

/**
 * Masks credentials in a text of a receiver, because the text may repeat the request. The function finds credentials in the form in which
 * they were sent, and in the encodings of JSON, HTML, URLs, forms and base64.
 *
 * @param mayBeCut whether the text may end in the middle of a credential
 */
export function maskSecrets(text: string, values: readonly string[], mayBeCut: boolean): string {
  const secrets = new Set(values.flatMap(formsOf).filter((form) => form.length >= MIN_SECRET_LENGTH));
  const ranges: Range[] = [];
  let decoded = undecoded(text);
  for (let level = 0; level <= MAX_ENCODINGS; level++) {
    for (const secret of secrets) ranges.push(...rangesOf(secret, decoded, mayBeCut));
    const next = decode(decoded, mayBeCut);
    if (next.text.length === decoded.text.length) break;
    decoded = next;
  }
  return withMasks(text, ranges);
}

/**
 * Returns the forms of a secret that remain in a text after decoding. A form may write a space as `+`, or write each UTF-8 byte as a
 * character. A part of the secret may look like an encoded character. A text with the secret may be written in base64.
 */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret, 'utf8');
  const base64 = [0, 1, 2].flatMap((offset) => base64Of(bytes, offset));
  const decoded = [secret, bytes.toString('latin1'), decode(undecoded(secret), false).text];
  return [...decoded, ...decoded.map((text) => text.replaceAll(' ', '+')), ...base64];
}

/**
 * The base64 characters of these bytes. Characters that also depend on the neighbouring bytes are left out. The bytes begin at this
 * offset of a group of three bytes.
 */
function base64Of(bytes: Buffer, offset: number): string[] {
  const encoded = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64');
  const from = Math.ceil((offset * 8) / 6);
  const own = encoded.slice(from, Math.floor(((offset + bytes.length) * 8) / 6));
  return own.length < MIN_BASE64_LENGTH ? [] : [own, own.replaceAll('+', '-').replaceAll('/', '_')];
}

function rangesOf(secret: string, { text, starts }: Decoded, mayBeCut: boolean): Range[] {
  const ranges: Range[] = [];
  const head = secret.slice(0, MIN_SECRET_LENGTH);
  for (let at = text.indexOf(head); at >= 0; at = text.indexOf(head, at + 1)) {
    const isWhole = text.startsWith(secret, at);
    if (!isWhole && !(mayBeCut && secret.startsWith(text.slice(at)))) continue;
    ranges.push([starts[at] as number, isWhole ? (starts[at + secret.length] as number) : Infinity]);
  }
  return ranges;
}

function undecoded(text: string): Decoded {
  return { text, starts: Array.from({ length: text.length + 1 }, (_, index) => index) };
}

function decode({ text, starts }: Decoded, mayBeCut: boolean): Decoded {
  const whole = mayBeCut ? text.replace(CUT_CHARACTER, '') : text;
  const characters: string[] = [];
  const kept: number[] = [];
  let from = 0;
  const copyTo = (to: number) => {
    for (; from < to; from++) {
      characters.push(whole.charAt(from));
      kept.push(starts[from] as number);
    }
  };
  for (const match of whole.matchAll(ENCODED)) {
    copyTo(match.index);
    characters.push(characterOf(match.groups as Readonly<Record<string, string | undefined>>));
    kept.push(starts[from] as number);
    from += match[0].length;
  }
  copyTo(whole.length);
  return { text: characters.join(''), starts: [...kept, starts.at(-1) as number] };
}

function characterOf({
  escaped,
  named,
  decimal,
  json,
  hex,
  url,
  html,
}: Readonly<Record<string, string | undefined>>): string {
  if (escaped !== undefined) return escaped;
  if (named !== undefined) return NAMED[named.toLowerCase()] as string;
  return String.fromCharCode(decimal === undefined ? parseInt(json ?? hex ?? url ?? html ?? '', 16) : Number(decimal));
}

function withMasks(text: string, ranges: readonly Range[]): string {
  let masked = '';
  let from = 0;
  for (const [start, end] of ranges.toSorted(([a], [b]) => a - b)) {
    if (end <= from) continue;
    if (start >= from) masked += text.slice(from, start) + MASK;
    from = end;
  }
  return masked + text.slice(from);
}
