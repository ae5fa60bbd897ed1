import { hash } from 'node:crypto';

/**
 * The first 16 bytes of SHA-256 over a tuple. The length of each part stands before the part. So different tuples never have the same
 * bytes. The hash of a long value fits into an index, and the value itself may not. Databases compare hashes byte by byte, without a
 * collation.
 */
export function tupleHash(...parts: readonly string[]): Buffer {
  return Buffer.from(tupleHex(...parts), 'hex');
}

/** {@link tupleHash} as hexadecimal text. */
export function tupleHex(...parts: readonly string[]): string {
  let tuple = '';
  for (const part of parts) {
    const length = Buffer.byteLength(part);
    // A length takes four bytes, big-endian. For lengths up to 127, these bytes are four ASCII characters, so the tuple can be built as a
    // string.
    if (length > 127) return digest(bytesOf(parts));
    tuple += `\0\0\0${String.fromCharCode(length)}${part}`;
  }
  return digest(tuple);
}

function bytesOf(parts: readonly string[]): Buffer {
  const tuple = Buffer.allocUnsafe(parts.reduce((length, part) => length + 4 + Buffer.byteLength(part), 0));
  let end = 0;
  for (const part of parts) {
    const length = tuple.write(part, end + 4);
    tuple.writeUInt32BE(length, end);
    end += 4 + length;
  }
  return tuple;
}

/** `hash()` takes half the time of a Hash object, and with hexadecimal output half the time of Buffer output. */
function digest(tuple: string | Buffer): string {
  return hash('sha256', tuple, 'hex').slice(0, 32);
}

/** The owner key of events for every owner. No owner has this key, because the tuple differs. */
export const EVERY_OWNER_KEY = tupleHash('every owner');

/** The key with which the rows of an owner are found. */
export function ownerKeyOf(owner: string): Buffer {
  return tupleHash('owner', owner);
}
