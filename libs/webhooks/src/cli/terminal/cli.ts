import { ConfigurationError, WebhooksError } from '../../errors.js';
import { messageOf, oneLine } from '../../foreign-text.js';
import type { ExitCode, Terminal } from './terminal.js';

/** The parts that every command gets. */
export interface Cli {
  readonly terminal: Terminal;
  exitCode: ExitCode;
}

/** Options that every command with a result has. */
export interface ResultOptions {
  readonly json?: boolean;
}

/** The handler of a command: the result of `work` becomes the exit code. */
export function handler<Args extends unknown[]>(
  cli: Cli,
  work: (...args: Args) => Promise<ExitCode>,
): (...args: Args) => Promise<void> {
  return async (...args) => {
    cli.exitCode = await work(...args);
  };
}

/** An error in one line, with its code and without its stack. A driver's error may have a code, too. */
export function errorLine(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  const message = messageOf(error);
  const isShown = typeof code === 'string' && code !== '' && !message.startsWith(`${code}:`) && !message.includes(code);
  return isShown ? `${code}: ${lineOf(error, message)}` : lineOf(error, message);
}

/** An error from a file of the user may have several lines. Messages of this library are always one line. */
function lineOf(error: unknown, message: string): string {
  return error instanceof WebhooksError ? message : message.split('\n').map(oneLine).join('\n');
}

/** The error for a mistake in the arguments that only the command itself can detect. */
export function argumentError(message: string): ConfigurationError {
  return new ConfigurationError('INVALID_ARGUMENT', message);
}
