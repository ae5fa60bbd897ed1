import type { Command } from 'commander';
import type { Examined } from '../doctor/examine.js';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { print, type Cell } from '../terminal/table.js';
import { colored, type ExitCode } from '../terminal/terminal.js';
import { withDataSourceOption, withJsonOption, type DataSourceOptions } from './options.js';

interface Options extends DataSourceOptions, ResultOptions {
  readonly url?: string;
  readonly secret?: string;
}

const COLORS = { ok: 'green', warn: 'yellow', FAIL: 'red' } as const;

/** `doctor`: looks for what is wrong, and says how to repair it. */
export function addDoctor(program: Command, cli: Cli): void {
  const command = program
    .command('doctor')
    .description('Looks for what is wrong, and says what to do. Changes nothing. Exits with 1 if a check FAILs.')
    .option('--url <url>', 'also check whether webhooks from here reach this URL: sends it a test event')
    .option('--secret <secret>', 'the secret of the receiver at --url: also check whether it verifies the raw body');
  withJsonOption(withDataSourceOption(command)).action(handler(cli, (options: Options) => doctor(cli, options)));
}

async function doctor(cli: Cli, { dataSource, url, secret, json }: Options): Promise<ExitCode> {
  if (secret !== undefined && url === undefined) throw argumentError('--secret needs --url, the URL of the receiver.');
  const { examine } = await import('../doctor/examine.js');
  const examined = await examine(dataSource, { url, secret });
  const rows = examined.flatMap(({ level, check, text, fix }): Cell[][] => [
    [level.padEnd(4), check, text],
    ...(fix === undefined ? [] : [['    ', '', `fix: ${fix}`]]),
  ]);
  print({ ...cli.terminal, out: (line) => cli.terminal.out(withColor(cli, line)) }, examined, { json, rows });
  return examined.some(({ level }) => level === 'FAIL') ? 1 : 0;
}

function withColor({ terminal }: Cli, line: string): string {
  const level = line.split(' ', 1)[0] as Examined['level'];
  return level in COLORS ? colored(terminal, COLORS[level], level) + line.slice(level.length) : line;
}
