import { timingSafeEqual } from 'node:crypto';

/**
 * Whether one of the given signatures equals one of the expected signatures. The function compares every pair. So its time depends
 * neither on the position of a difference nor on the position of the matching pair.
 */
export function anyMatches(given: readonly Buffer[], expected: readonly Buffer[]): boolean {
  let matches = false;
  for (const wanted of expected) {
    for (const received of given) {
      if (wanted.length === received.length && timingSafeEqual(wanted, received)) matches = true;
    }
  }
  return matches;
}

/**
 * Decodes a hex signature. Returns `null` if the text is not the hex form of exactly `bytes` bytes. `Buffer.from` would
 * silently stop at the first wrong character.
 */
export function decodeHex(text: string, bytes: number): Buffer | null {
  return text.length === 2 * bytes && /^[0-9a-f]+$/i.test(text) ? Buffer.from(text, 'hex') : null;
}
