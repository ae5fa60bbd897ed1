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
 * Makes `102 Processing` of each `100 Continue`, in the bytes that a receiver sends.
 *
 * A receiver may send any number of answers of 1xx before the real one, and a client must read past them (RFC 9110, 15.2). undici (7.30)
 * reads past all of them but 100, at which it closes the connection, since it has asked for none.
 */
export class InterimAnswers {
  /** Where in an answer's first line, or in which part of one. */
  #part: 'first line' | 'interim' | 'final' = 'first line';
  #offset = 0;
  #last = 0;
  #isEmptyLine = false;

  /** Something was sent to the receiver: after an answer that was final, another one begins. */
  sent(): void {
    if (this.#part === 'final') this.#begin();
  }

  /** What has come, which is changed in place. */
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
    // Parsers skip empty lines in front of an answer.
    if (at === 0 && (byte === CR || byte === LF)) return;
    this.#offset++;
    if (!isExpected(byte, at)) this.#part = 'final';
    if (at === STATUS_AT + 1) this.#last = byte;
    if (at < STATUS_AT + 2) return;
    if (this.#last === ZERO && byte === ZERO) piece[index] = TWO;
    this.#part = 'interim';
    this.#isEmptyLine = false;
  }

  /** Its header ends with an empty line, and then the next answer begins. */
  #passHeader(byte: number): void {
    if (byte === LF && this.#isEmptyLine) this.#begin();
    else if (byte !== CR) this.#isEmptyLine = byte === LF;
  }
}

/** Whether the first line may still be that of an answer of 1xx. */
function isExpected(byte: number, at: number): boolean {
  if (at < START.length) return byte === START[at];
  if (at === STATUS_AT - 1) return byte === SPACE;
  return at !== STATUS_AT || byte === ONE;
}
