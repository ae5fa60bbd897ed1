const START = Buffer.from('HTTP/1.');
const STATUS_AT = 'HTTP/1.1 '.length;
const [LF, CR, SPACE, ZERO, ONE, TWO] = [...Buffer.from('\n\r 012')] as [
  number,
  number,
  number,
  number,
  number,
  number,
];

/**
 * Replaces each `100 Continue` with `102 Processing` in the bytes that a receiver sends.
 *
 * A receiver may send any number of 1xx answers before the final answer, and a client must skip these answers (RFC 9110
 * section 15.2). undici (7.30) skips all 1xx answers except 100. After a 100, undici closes the connection, because it did
 * not ask for a 100.
 */
export class InterimAnswers {
  /** The part of an answer to which the next byte belongs. */
  #part: 'first line' | 'interim' | 'final' = 'first line';
  #offset = 0;
  #last = 0;
  #isEmptyLine = false;

  /** Call this method when a request was written. After a final answer, the next answer begins. */
  sent(): void {
    if (this.#part === 'final') this.#begin();
  }

  /** Rewrites received bytes in place. */
  pass(piece: Buffer): void {
    for (let index = 0; index < piece.length && this.#part !== 'final'; index++) {
      if (this.#part === 'interim') this.#passHeader(piece[index] as number);
      else this.#passFirstLine(piece, index);
    }
  }

  #begin(): void {
    this.#part = 'first line';
    this.#offset = 0;
  }

  #passFirstLine(piece: Buffer, index: number): void {
    const byte = piece[index] as number;
    const at = this.#offset;
    // Parsers skip empty lines before an answer.
    if (at === 0 && (byte === CR || byte === LF)) return;
    this.#offset++;
    if (!isExpected(byte, at)) this.#part = 'final';
    if (at === STATUS_AT + 1) this.#last = byte;
    if (at < STATUS_AT + 2) return;
    if (this.#last === ZERO && byte === ZERO) piece[index] = TWO;
    this.#part = 'interim';
    this.#isEmptyLine = false;
  }

  /** Passes the header of a 1xx answer. The header ends with an empty line. After the empty line, the next answer begins. */
  #passHeader(byte: number): void {
    if (byte === LF && this.#isEmptyLine) this.#begin();
    else if (byte !== CR) this.#isEmptyLine = byte === LF;
  }
}

/** Whether the bytes so far can still be the first line of a 1xx answer. */
function isExpected(byte: number, at: number): boolean {
  if (at < START.length) return byte === START[at];
  if (at === STATUS_AT - 1) return byte === SPACE;
  return at !== STATUS_AT || byte === ONE;
}
