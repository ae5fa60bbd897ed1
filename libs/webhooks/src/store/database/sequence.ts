/** Compares sequences, whole numbers and never negative, as drivers give them, numbers or texts: as numbers, two beyond 2^53 may be one. */
export function compareSequences(a: unknown, b: unknown): number {
  const first = String(a);
  const second = String(b);
  return first.length - second.length || (first < second ? -1 : Number(first > second));
}
