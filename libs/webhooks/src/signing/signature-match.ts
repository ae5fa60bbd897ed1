import { timingSafeEqual } from 'node:crypto';

/**
 * Whether one of the given signatures is one of the expected ones. Compares every pair, in a time that does not depend on
 * where they differ, nor on which pair it is.
 */
export function anyMatches(given: readonly Buffer[], expected: readonly Buffer[]): boolean {
  let matches = false;
  for (const one of expected) {
    for (const other of given) {
      if (one.length === other.length && timingSafeEqual(one, other)) matches = true;
    }
  }
  return matches;
}

/** A signature in hex, or `null` for what is none of that many bytes: `Buffer.from` would stop at the first wrong character. */
export function decodeHex(text: string, bytes: number): Buffer | null {
  return text.length === 2 * bytes && /^[0-9a-f]+$/i.test(text) ? Buffer.from(text, 'hex') : null;
}
