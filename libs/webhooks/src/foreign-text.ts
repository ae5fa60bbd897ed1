/** Control characters, line separators and characters that change the writing direction. A terminal would execute them. */
const CONTROL_CHARACTERS = /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;
const SHORT: Readonly<Record<string, string>> = { '\n': String.raw`\n`, '\r': String.raw`\r`, '\t': String.raw`\t` };

/**
 * Makes foreign text safe for a log, an error or a row: one line, with every control character escaped. Otherwise a receiver could write
 * lines into the log, for example with the texts of its certificate.
 */
export function oneLine(text: string): string {
  return text.replaceAll(
    CONTROL_CHARACTERS,
    (character) => SHORT[character] ?? String.raw`\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A given value as text, also if the value is not a text. Never throws, although JSON can contain an object whose `toString` is no function. */
export function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return typeof value === 'object' || typeof value === 'function' || typeof value === 'symbol'
    ? `(${value === null ? 'null' : typeof value})`
    : String(value);
}

/** The message of an error. An `AggregateError`, such as for a host with several addresses, may have no message: its parts have one. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && !error.message) return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : textOf(error);
}
