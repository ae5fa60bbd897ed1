/**
 * Compares two sequences (whole numbers, not negative), given as numbers or texts. As JavaScript numbers, two different sequences beyond
 * 2^53 may be equal.
 */
export function compareSequences(a: unknown, b: unknown): number {
  const first = String(a);
  const second = String(b);
  return first.length - second.length || (first < second ? -1 : Number(first > second));
}
