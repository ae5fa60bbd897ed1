/**
 * An exact decimal number of any size: `sign × 0.digits × 10^magnitude`. `digits` neither starts nor ends with a zero.
 * Zero has sign 0 and no digits.
 *
 * Two numbers of this form can be compared without writing out all zeros. So a payload with `1e999999999` costs nothing. A scaled BigInt
 * would need all digits.
 */
export interface Decimal {
  readonly sign: -1 | 0 | 1;
  readonly digits: string;
  readonly magnitude: number;
}

// The integer part and the fraction cannot match the same characters. So the time of the match stays linear, even for
// texts of megabytes.
const DECIMAL = /^([+-]?)(?:(\d+)(?:\.(\d*))?|\.(\d+))(?:[eE]([+-]?\d{1,9}))?$/;
const ZERO: Decimal = { sign: 0, digits: '', magnitude: 0 };
const DIGIT_ZERO = 48;

/**
 * Reads a number, or the text of a number as databases write it (`10.00`, `-0.5`, `1e+21`), without rounding.
 *
 * @returns `undefined` when the value is not a finite decimal: `NaN`, `Infinity`, text with spaces, any other type.
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

/**
 * Compares two numbers exactly. Returns a negative number when `a` is smaller, a positive number when `a` is
 * larger, and 0 when both are the same number.
 */
export function compareDecimals(a: Decimal, b: Decimal): number {
  if (a.sign !== b.sign) return a.sign - b.sign;
  if (a.magnitude !== b.magnitude) return a.sign * (a.magnitude - b.magnitude);
  if (a.digits === b.digits) return 0;
  return a.digits < b.digits ? -a.sign : a.sign;
}

/**
 * Returns the same text for the same number in every notation: `10`, `'10.00'` and `'1e1'` all give `1e1`; `-0` gives `0`.
 *
 * The route keys of listeners are hashes over this text. If the form of the text changes, all route keys must be
 * computed again.
 *
 * @returns `undefined` when the value is not a finite decimal.
 */
export function normaliseDecimal(value: unknown): string | undefined {
  const decimal = parseDecimal(value);
  if (decimal === undefined) return undefined;
  if (decimal.sign === 0) return '0';
  const exponent = decimal.magnitude - decimal.digits.length;
  return `${decimal.sign < 0 ? '-' : ''}${decimal.digits}${exponent === 0 ? '' : `e${exponent}`}`;
}
