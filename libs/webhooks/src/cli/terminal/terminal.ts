import { createInterface } from 'node:readline/promises';

/** 0: success; 1: the command found a problem, or the answer is no; 2: the command could not run. */
export type ExitCode = 0 | 1 | 2;

/** The output of a command, and its questions to the user. */
export interface Terminal {
  /** Writes a line of the result to the standard output. */
  readonly out: (text: string) => void;
  /** Writes a line that is not part of the result, such as an error or a warning, to the standard error. */
  readonly err: (text: string) => void;
  /** Whether the standard output is a terminal, so it may be drawn again. */
  readonly isTerminal: boolean;
  /** Whether the standard output may have colors. False with `NO_COLOR` (https://no-color.org). */
  readonly hasColor: boolean;
  /** Whether a person can answer a question. */
  readonly isInteractive: boolean;
  /** Draws one line again on the standard error, if that is a terminal. `''` removes the line. */
  readonly draw: (line: string) => void;
  /** Asks a question. @returns whether the answer is yes */
  readonly ask: (question: string) => Promise<boolean>;
}

/** The parts of a process that a terminal uses. */
export interface TerminalStreams {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly env: Readonly<Record<string, string | undefined>>;
}

const CLEAR_LINE = '\r\u001b[K';

/** The terminal of a process. */
export function terminalOf(streams: TerminalStreams): Terminal {
  const { stdout, stderr, env } = streams;
  const isTerminal = stdout.isTTY === true;
  return {
    out: (text) => void stdout.write(`${text}\n`),
    err: (text) => void stderr.write(`${text}\n`),
    isTerminal,
    hasColor: isTerminal && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb',
    // The first use of `process.stdin` makes it non-blocking, and a file that is read from it would then fail (EAGAIN).
    get isInteractive() {
      return stderr.isTTY === true && streams.stdin.isTTY === true;
    },
    draw(line) {
      if (stderr.isTTY === true) stderr.write(CLEAR_LINE + line);
    },
    async ask(question) {
      const reader = createInterface({ input: streams.stdin, output: stderr });
      try {
        return /^y(es)?$/i.test((await reader.question(`${question} [y/N] `)).trim());
      } finally {
        reader.close();
      }
    },
  };
}

const CODES = { red: 31, green: 32, yellow: 33, dim: 2 } as const;

/** Colors a text, if the terminal has colors. */
export function colored({ hasColor }: Terminal, color: keyof typeof CODES, text: string): string {
  return hasColor ? `\u001b[${CODES[color]}m${text}\u001b[0m` : text;
}
