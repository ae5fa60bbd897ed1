/** Control characters, separators of lines, and what turns the direction of writing: a terminal or a log would obey them. */
const OBEYED = /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;
const SHORT: Readonly<Record<string, string>> = { '\n': String.raw`\n`, '\r': String.raw`\r`, '\t': String.raw`\t` };

/**
 * Text of somebody else as it may stand in a log, an error or a row: in one line, with every character that a terminal obeys escaped. A
 * receiver chooses what its certificate says, and would write lines into the log with it.
 */
export function oneLine(text: string): string {
  return text.replaceAll(
    OBEYED,
    (character) => SHORT[character] ?? String.raw`\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** What was given in the place of a text. Never throws: JSON can hold an object without a usable `toString`. */
export function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return typeof value === 'object' || typeof value === 'function' || typeof value === 'symbol'
    ? `(${value === null ? 'null' : typeof value})`
    : String(value);
}

/** An error in one line. Several at once, as of a host with several addresses, have no message of their own. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && !error.message) return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : textOf(error);
}
