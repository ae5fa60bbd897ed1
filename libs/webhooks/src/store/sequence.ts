/** Compares sequences as drivers give them, numbers or texts: as numbers, two beyond 2^53 may be one. */
export function compareSequences(a: unknown, b: unknown): number {
  const [first, second] = [BigInt(String(a)), BigInt(String(b))];
  return first < second ? -1 : Number(first > second);
}
