/**
 * A decimal number of any size, exactly: `sign × 0.digits × 10^magnitude`. `digits` neither starts nor ends with a zero;
 * zero itself has sign 0 and no digits.
 *
 * Kept apart like this, and not as a scaled BigInt, because two such numbers compare without ever being written out:
 * a payload that says `1e999999999` costs nothing.
 */
export interface Decimal {
  readonly sign: -1 | 0 | 1;
  readonly digits: string;
  readonly magnitude: number;
}

// The integer part and the fraction share no digit, so the match stays linear on texts of megabytes.
const DECIMAL = /^([+-]?)(?:(\d+)(?:\.(\d*))?|\.(\d+))(?:[eE]([+-]?\d{1,9}))?$/;
const ZERO: Decimal = { sign: 0, digits: '', magnitude: 0 };
const DIGIT_ZERO = 48;

/**
 * Reads a number, or the text of one as databases write it (`10.00`, `-0.5`, `1e+21`), without rounding.
 *
 * @returns `undefined` for what is no finite decimal: `NaN`, `Infinity`, a text with spaces, any other type.
 */
export function parseDecimal(value: unknown): Decimal | undefined {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined;
  const match = DECIMAL.exec(typeof value === 'number' ? String(value) : value);
  if (match === null) return undefined;
  const integer = match[2] ?? '';
  const all = integer + (match[3] ?? match[4] ?? '');
  let start = 0;
  let end = all.length;
  while (start < end && all.charCodeAt(start) === DIGIT_ZERO) start++;
  if (start === end) return ZERO;
  while (all.charCodeAt(end - 1) === DIGIT_ZERO) end--;
  return {
    sign: match[1] === '-' ? -1 : 1,
    digits: all.slice(start, end),
    magnitude: integer.length - start + Number(match[5] ?? 0),
  };
}

/** Negative when `a` is the smaller, positive when it is the larger, 0 when both are the same number. Exact. */
export function compareDecimals(a: Decimal, b: Decimal): number {
  if (a.sign !== b.sign) return a.sign - b.sign;
  if (a.magnitude !== b.magnitude) return a.sign * (a.magnitude - b.magnitude);
  if (a.digits === b.digits) return 0;
  return a.digits < b.digits ? -a.sign : a.sign;
}

/**
 * One text per number, however it was written: `10`, `'10.00'` and `'1e1'` all give `1e1`; `-0` gives `0`.
 *
 * Routes of listeners are hashed over it: changing the form means to make all route keys again.
 *
 * @returns `undefined` for what is no finite decimal.
 */
export function normaliseDecimal(value: unknown): string | undefined {
  const decimal = parseDecimal(value);
  if (decimal === undefined) return undefined;
  if (decimal.sign === 0) return '0';
  const exponent = decimal.magnitude - decimal.digits.length;
  return `${decimal.sign < 0 ? '-' : ''}${decimal.digits}${exponent === 0 ? '' : `e${exponent}`}`;
}
