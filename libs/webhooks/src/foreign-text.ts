/**
 * Control characters, line separators and characters that change the writing direction. A terminal would execute these
 * characters.
 */
const CONTROL_CHARACTERS = /[\p{Cc}\p{Bidi_Control}\u2028\u2029\ufeff]/gu;
const SHORT: Readonly<Record<string, string>> = { '\n': String.raw`\n`, '\r': String.raw`\r`, '\t': String.raw`\t` };

/**
 * Makes foreign text safe for a log, an error or a row: one line, with every control character escaped. Otherwise a receiver could write
 * additional lines into the log, for example with the texts of its certificate.
 */
export function oneLine(text: string): string {
  return text.replaceAll(
    CONTROL_CHARACTERS,
    (character) => SHORT[character] ?? String.raw`\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * Text that every database stores unchanged. PostgreSQL refuses NUL. UTF-8 replaces every half of a surrogate pair by the same character. So
 * two different texts would become the same text.
 */
export const STORED_UNCHANGED = /^[^\0\p{Surrogate}]*$/u;

/** Any given value as text. Never throws, not even for an object from JSON whose `toString` is no function. */
export function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return typeof value === 'object' || typeof value === 'function' || typeof value === 'symbol'
    ? `(${value === null ? 'null' : typeof value})`
    : String(value);
}

/**
 * The message of an error. An `AggregateError` may have no message, for example for a host with several addresses. Then the errors
 * inside the `AggregateError` have the messages.
 */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && !error.message) return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : textOf(error);
}
