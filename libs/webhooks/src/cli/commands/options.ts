import { Option, type Command } from 'commander';
import { withApiOptions } from '../services/api-options.js';
import type { SourceOptions } from '../services/with-command-services.js';
import { several, wholeNumber } from '../terminal/arguments.js';
import type { ResultOptions } from '../terminal/cli.js';

/** Options of commands that need a data source. */
export interface DataSourceOptions {
  readonly dataSource?: string;
}

/** Adds `-d`, which every command with a database has. */
export function withDataSourceOption(command: Command): Command {
  return command.addOption(
    new Option(
      '-d, --data-source <file>',
      'a module that exports your DataSource, as for the TypeORM CLI; also TypeScript if the project has ts-node or tsx',
    ).env('WEBHOOKS_DATA_SOURCE'),
  );
}

/** Adds `--api` and `-d`, for commands that work over the API or over a data source. */
export function withSourceOptions(command: Command): Command {
  return withApiOptions(withDataSourceOption(command));
}

/** The option `--secret` of a receiver. A secret in an environment variable does not appear in the history of the shell. */
export function secretOption(): Option {
  return new Option('--secret <secret>', 'the secret, or a public key whpk_…; several times during a rotation')
    .env('WEBHOOKS_SECRET')
    .argParser(several);
}

/** Options of commands that list something. */
export interface PageOptions extends SourceOptions, ResultOptions {
  readonly limit: number;
  readonly cursor?: string;
}

/** Adds `--limit`, `--cursor`, and what every command over the API or a data source has. */
export function withPageOptions(command: Command): Command {
  command
    .option('--limit <count>', 'how many', wholeNumber(1, 500), 50)
    .option('--cursor <cursor>', 'continue after the last page');
  return withJsonOption(withSourceOptions(command));
}

/** The options of a list that choose its rows: without those that say where it is read and how it is printed. */
export function filterOf<Options extends PageOptions>(
  options: Options,
): Omit<Options, 'json' | 'dataSource' | 'api' | 'token'> {
  const { json: _, dataSource: __, api: ___, token: ____, ...filter } = options;
  return filter;
}

/** Adds a command for one thing, such as `deliveries show <id>`. @param id how an id looks, such as `dlv_…` */
export function withId(parent: Command, name: string, description: string, id: string): Command {
  return withJsonOption(withSourceOptions(parent.command(name).description(description))).argument('<id>', id);
}

/** Adds `--json`. */
export function withJsonOption(command: Command): Command {
  return command.option('--json', 'print the result as JSON');
}
