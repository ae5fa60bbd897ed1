import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { addDiscard, addRecover, addReplay } from './commands/bulk.js';
import { addCompletion } from './commands/completion.js';
import { addDeliveries } from './commands/deliveries.js';
import { addDoctor } from './commands/doctor.js';
import { addEvents } from './commands/events.js';
import { addKeys } from './commands/keys.js';
import { addListen } from './commands/listen.js';
import { addListeners } from './commands/listeners.js';
import { addMigrate, addSql } from './commands/migrate.js';
import { addPlan } from './commands/plan.js';
import { addPublish } from './commands/publish.js';
import { addSending } from './commands/sending.js';
import { addStats } from './commands/stats.js';
import { addStatus } from './commands/status.js';
import { addTasks } from './commands/tasks.js';
import { addTest } from './commands/test.js';
import { addTriggers } from './commands/triggers.js';
import { addTypes } from './commands/types.js';
import { addVerify } from './commands/verify.js';
import { errorLine, type Cli } from './terminal/cli.js';
import type { ExitCode, Terminal } from './terminal/terminal.js';

const MORE = `
The module of -d exports your DataSource. It may also export \`webhooks\`: the options of WebhooksModule.forRoot(),
and \`entities\` with the entries of forFeature() that have options.

Exit codes: 0 fine; 1 found something, or the answer is no; 2 could not run.`;

/** The commands, in the order of the help. A command imports TypeORM, Nest and the library only when it runs. */
const COMMANDS = [
  addStatus,
  addStats,
  addDoctor,
  addMigrate,
  addSql,
  addTriggers,
  addTypes,
  addListeners,
  addDeliveries,
  addEvents,
  addTest,
  addPublish,
  addRecover,
  addReplay,
  addDiscard,
  addTasks,
  addSending,
  addKeys,
  addListen,
  addVerify,
  addPlan,
  addCompletion,
];

/** Runs a command line. @param args without the program. @returns the exit code */
export async function run(args: readonly string[], terminal: Terminal): Promise<ExitCode> {
  const cli: Cli = { terminal, exitCode: 0 };
  try {
    await programOf(cli).parseAsync([...args], { from: 'user' });
    return cli.exitCode;
  } catch (error) {
    // Commander has already printed its errors or the help. Only help that the user asked for counts as success.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    terminal.err(errorLine(error));
    return 2;
  }
}

function programOf(cli: Cli): Command {
  const { out, err } = cli.terminal;
  const program = new Command('nestjs-entity-webhooks')
    .description('Operates the webhooks of an application: what is pending, what failed, and why.')
    .version(versionOf())
    .exitOverride()
    .configureOutput({ writeOut: (text) => out(text.trimEnd()), writeErr: (text) => err(text.trimEnd()) })
    .showSuggestionAfterError()
    .addHelpText('after', MORE);
  for (const add of COMMANDS) add(program, cli);
  return program;
}

function versionOf(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
