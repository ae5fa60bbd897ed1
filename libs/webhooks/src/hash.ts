import { createHash } from 'node:crypto';

/**
 * 16 bytes of SHA-256 over a tuple whose parts carry their length: no part can be written so that it looks like two, long
 * values fit an index, and no collation has a say in comparing them.
 */
export function tupleHash(...parts: readonly string[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) {
    const bytes = Buffer.from(part, 'utf8');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    hash.update(length).update(bytes);
  }
  return hash.digest().subarray(0, 16);
}

/** The key that rows of an owner are found by. */
export function ownerKeyOf(owner: string): Buffer {
  return tupleHash('owner', owner);
}
