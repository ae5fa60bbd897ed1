/** Maximum number of iterations of PBKDF2. Each iteration blocks the process for about a microsecond. */
const MAX_ITERATIONS = 100_000;
const MAX_DERIVED_BYTES = 64;

/**
 * The DER form, with tag and length, of the object identifiers PBES2 (1.2.840.113549.1.5.13) and PBKDF2
 * (1.2.840.113549.1.5.12).
 */
const PBES2 = Buffer.from('06092a864886f70d01050d', 'hex');
const PBKDF2 = Buffer.from('06092a864886f70d01050c', 'hex');

const INTEGER = 0x02;
const OCTET_STRING = 0x04;
const SEQUENCE = 0x30;

/**
 * Whether a passphrase opens this `EncryptedPrivateKeyInfo` (RFC 5958) in bounded time. The file must use PBES2 with PBKDF2 (RFC 8018) and
 * at most 100,000 iterations. The file sets the number of iterations, and 2^31 is a legal number. With 2^31 iterations, OpenSSL would block
 * the event loop for a quarter of an hour.
 */
export function isDerivedInBoundedTime(der: Buffer): boolean {
  const info = inside(der, SEQUENCE);
  const algorithm = info && inside(info, SEQUENCE);
  const pbes2 = algorithm && after(algorithm, PBES2);
  const parameters = pbes2 && inside(pbes2, SEQUENCE);
  const derivation = parameters && inside(parameters, SEQUENCE);
  const pbkdf2 = derivation && after(derivation, PBKDF2);
  const numbers = pbkdf2 && inside(pbkdf2, SEQUENCE);
  const salt = numbers && elementOf(numbers);
  if (!salt || salt.tag !== OCTET_STRING) return false;
  const iterations = integerOf(salt.rest);
  if (iterations === null || iterations > MAX_ITERATIONS) return false;
  // The next element is the key length. The key length is optional. If it is left out, the next element is not an
  // integer.
  const derivedBytes = integerOf(elementOf(salt.rest)?.rest ?? Buffer.alloc(0));
  return derivedBytes === null || derivedBytes <= MAX_DERIVED_BYTES;
}

interface Element {
  readonly tag: number;
  readonly content: Buffer;
  /** The bytes after this element. */
  readonly rest: Buffer;
}

function elementOf(der: Buffer): Element | null {
  const [tag, first] = der;
  if (tag === undefined || first === undefined) return null;
  const lengthBytes = first < 0x80 ? 0 : first - 0x80;
  if (lengthBytes > 2 || der.length < 2 + lengthBytes || first === 0x80) return null;
  const length = lengthBytes === 0 ? first : der.readUIntBE(2, lengthBytes);
  const start = 2 + lengthBytes;
  if (der.length < start + length) return null;
  return { tag, content: der.subarray(start, start + length), rest: der.subarray(start + length) };
}

function inside(der: Buffer, tag: number): Buffer | null {
  const element = elementOf(der);
  return element?.tag === tag ? element.content : null;
}

function after(der: Buffer, start: Buffer): Buffer | null {
  return der.subarray(0, start.length).equals(start) ? der.subarray(start.length) : null;
}

/**
 * Reads a non-negative integer of at most 6 bytes. Returns `Infinity` for larger and negative integers, because `Infinity`
 * exceeds every limit in this file.
 */
function integerOf(der: Buffer): number | null {
  const content = inside(der, INTEGER);
  if (content === null || content.length === 0) return null;
  return content.length > 6 || (content[0] as number) >= 0x80 ? Infinity : content.readUIntBE(0, content.length);
}
