import { Option, type Command } from 'commander';
import { withApiOptions } from '../services/api-options.js';
import { several } from '../terminal/arguments.js';

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

/** Adds `--json`. */
export function withJsonOption(command: Command): Command {
  return command.option('--json', 'print the result as JSON');
}
