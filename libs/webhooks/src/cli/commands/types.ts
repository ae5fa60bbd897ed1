import { Option, type Command } from 'commander';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import type { ExitCode } from '../terminal/terminal.js';
import { typeVersion } from '../terminal/arguments.js';
import type { SourceOptions } from '../services/with-command-services.js';
import { withJsonOption, withSourceOptions } from './options.js';
import type { TypesAction } from './run-types.js';

const ACTIONS = ['out', 'openapi', 'asyncapi', 'schemas', 'check', 'write'] as const satisfies readonly TypesAction[];

/** The file that stands for the standard output. */
const PRINTED = '-';

interface Options extends SourceOptions, ResultOptions, Partial<Record<TypesAction, string>> {
  readonly internal?: boolean;
  readonly pin?: Readonly<Record<string, number>>;
}

/** `types`: the event catalogue, as files for receivers and for CI. */
export function addTypes(program: Command, cli: Cli): void {
  const command = program
    .command('types')
    .description(
      'Prints the types of your webhooks, writes their documents, or checks for changes. Needs no connection.',
    )
    .option('--out <file>', 'write TypeScript to this file; without an option, it is printed')
    .addOption(new Option('--openapi [file]', 'a document of OpenAPI 3.1; printed without a file').preset(PRINTED))
    .addOption(new Option('--asyncapi [file]', 'a document of AsyncAPI 3.1; printed without a file').preset(PRINTED))
    .option('--schemas <folder>', 'write a JSON Schema for each event type, such as order.created.json')
    .option('--check <file>', 'list the changes since --write; exits with 1 if one of them breaks receivers')
    .option('--write <file>', 'write the record for --check, such as catalog.json')
    .option(
      '--pin <type=version>',
      "an older version of a type, such as 'order.updated=1'; may be repeated",
      typeVersion,
    )
    .option('--internal', 'include internal types; the record always contains them');
  withJsonOption(withSourceOptions(command)).action(handler(cli, (options: Options) => types(cli, options)));
}

async function types(
  { terminal }: Cli,
  { dataSource, api, token, internal, pin, json, ...options }: Options,
): Promise<ExitCode> {
  const [action = 'out', ...others] = ACTIONS.filter((name) => options[name] !== undefined);
  if (others.length) throw argumentError(`Give at most one of ${ACTIONS.map((name) => `--${name}`).join(', ')}.`);
  const { runTypes, runRemoteTypes } = await import('./run-types.js');
  const path = options[action] ?? PRINTED;
  const isPrinted = path === PRINTED;
  // The API cannot return the record that --check compares.
  if (api !== undefined && action !== 'check' && action !== 'write') {
    if (internal) throw argumentError('Over the API you get the types that the token may see. Leave out --internal.');
    if (pin) throw argumentError('Over the API you get the newest versions. Leave out --pin, or use --data-source.');
    const { remoteClient } = await import('../services/remote-services.js');
    return runRemoteTypes(remoteClient(api, token), { action, path, isPrinted }, { terminal, json });
  }
  const choice = { include: internal ? 'all' : 'public', ...(pin ? { versions: pin } : {}) } as const;
  return runTypes(dataSource, { action, path, isPrinted, choice }, { terminal, json });
}
