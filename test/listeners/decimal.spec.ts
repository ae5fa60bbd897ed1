import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareDecimals, normaliseDecimal, parseDecimal } from '../../libs/webhooks/src/routing/decimal.js';

function compare(a: string | number, b: string | number): number {
  const [left, right] = [parseDecimal(a), parseDecimal(b)];
  if (!left || !right) throw new Error(`${a} or ${b} is no decimal`);
  return Math.sign(compareDecimals(left, right));
}

/** An independent comparison: both numbers as integers of 10^-40. */
function scaled(units: bigint, scale: number): bigint {
  return units * 10n ** BigInt(40 - scale);
}

const decimal = fc
  .record({ units: fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), scale: fc.integer({ min: 0, max: 30 }) })
  .map(({ units, scale }) => {
    const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, '0');
    const cut = digits.length - scale;
    const text = `${units < 0n ? '-' : ''}${digits.slice(0, cut)}${scale === 0 ? '' : `.${digits.slice(cut)}`}`;
    return { text, exact: scaled(units, scale) };
  });

describe('a decimal', () => {
  it.each([
    [10, '10.00'],
    [10, '1e1'],
    [10, '+0010.'],
    [1e21, '1000000000000000000000'],
    [1e-7, '0.0000001'],
    [0, -0],
    [0, '-0.000'],
    [0, '0e5'],
    [0.5, '.5'],
    [0.1, '0.1'],
    [-12.5, '-0012.50'],
    ['1E+3', '1000'],
  ])('written %s is the same number as %s', (a, b) => {
    expect(normaliseDecimal(a)).toBe(normaliseDecimal(b));
    expect(normaliseDecimal(a)).toBeDefined();
    expect(compare(a, b)).toBe(0);
  });

  it('is exact beyond 2^53, where a number is not', () => {
    expect(Number('9007199254740993')).toBe(Number('9007199254740992'));
    expect(normaliseDecimal('9007199254740993')).not.toBe(normaliseDecimal('9007199254740992'));
    expect(compare('9007199254740993', '9007199254740992')).toBe(1);
    expect(compare('0.30000000000000000001', '0.3')).toBe(1);
  });

  it.each([
    '',
    ' ',
    '10 ',
    ' 10',
    '1,5',
    '1_000',
    '0x10',
    'NaN',
    'Infinity',
    '-',
    '.',
    'e5',
    '1e',
    '--1',
    '١',
    NaN,
    Infinity,
  ])('is not %j', (value) => {
    expect(parseDecimal(value)).toBeUndefined();
    expect(normaliseDecimal(value)).toBeUndefined();
  });

  it.each([[null], [undefined], [true], [{}], [[]], [[10]], [10n]])('is not %o', (value) => {
    expect(parseDecimal(value)).toBeUndefined();
  });

  it('has the same canonical text if it is canonicalized again', () => {
    fc.assert(
      fc.property(decimal, ({ text }) => {
        const canonical = normaliseDecimal(text);
        expect(normaliseDecimal(canonical)).toBe(canonical);
      }),
    );
  });

  it('compares like big integers, and has one text for each value', () => {
    fc.assert(
      fc.property(decimal, decimal, (a, b) => {
        const expected = a.exact === b.exact ? 0 : a.exact < b.exact ? -1 : 1;
        expect(compare(a.text, b.text)).toBe(expected);
        expect(normaliseDecimal(a.text) === normaliseDecimal(b.text)).toBe(expected === 0);
      }),
    );
  });

  it('compares numbers like JavaScript does', () => {
    const number = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.integer(),
      fc.constantFrom(0, -0, 1e21, 5e-324),
    );
    fc.assert(
      fc.property(number, number, (a, b) => {
        expect(compare(a, b)).toBe(a === b ? 0 : a < b ? -1 : 1);
      }),
    );
  });

  it('needs no extra time for a huge exponent', () => {
    expect(compare('1e999999999', '1e-999999999')).toBe(1);
    expect(normaliseDecimal('1e999999999')).toBe('1e999999999');
  });

  it('needs linear time for a megabyte of digits', () => {
    const started = performance.now();
    expect(parseDecimal(`${'0'.repeat(1_000_000)}x`)).toBeUndefined();
    expect(parseDecimal('10'.repeat(500_000))?.magnitude).toBe(1_000_000);
    expect(parseDecimal(`1${'0'.repeat(500_000)}1${'0'.repeat(500_000)}`)?.digits.length).toBe(500_002);
    // Quadratic time would be minutes. A second is enough on a slow machine.
    expect(performance.now() - started).toBeLessThan(1000);
  });
});
