import type { Command } from 'commander';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withDataSourceOption, withJsonOption, type DataSourceOptions } from './options.js';
import type { TriggerAction } from './run-triggers.js';

const ACTIONS = ['print', 'install', 'check'] as const satisfies readonly TriggerAction[];

type Options = DataSourceOptions & ResultOptions & { readonly [A in TriggerAction]?: boolean };

/** `triggers`: the triggers of entities with `capture: 'trigger'`. */
export function addTriggers(program: Command, cli: Cli): void {
  const command = program
    .command('triggers')
    .description("Manages the triggers of entities with capture: 'trigger'.")
    .option('--print', 'print the SQL that --install would run')
    .option('--install', 'install, replace and drop triggers so that they fit the entities')
    .option('--check', 'list triggers that are missing, out of date or not needed; exits with 1 if there are any');
  withJsonOption(withDataSourceOption(command)).action(handler(cli, (options: Options) => triggers(cli, options)));
}

async function triggers({ terminal }: Cli, { dataSource, json, ...options }: Options): Promise<ExitCode> {
  const [action, ...others] = ACTIONS.filter((name) => options[name]);
  if (!action || others.length) throw argumentError('Give one of --print, --install and --check.');
  const { runTriggers } = await import('./run-triggers.js');
  return runTriggers(action, dataSource, { terminal, json });
}
