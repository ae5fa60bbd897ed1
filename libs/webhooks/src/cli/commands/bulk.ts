import { Option, type Command } from 'commander';
import type { NewTask, Task, TaskCount } from '../../deliveries/task.js';
import type { CommandServices } from '../services/command-services.js';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { names, pastTime, wholeNumber } from '../terminal/arguments.js';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { Progress } from '../terminal/progress.js';
import { counted, print } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withJsonOption, withSourceOptions } from './options.js';

interface BulkOptions extends SourceOptions, ResultOptions {
  readonly listener?: string;
  readonly since?: Date;
  readonly until?: Date;
  readonly type?: readonly string[];
  readonly error?: string;
  readonly owner?: string;
  readonly state?: string;
  readonly rate?: number;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

const SINCE = 'how long ago, such as 24h, or a time such as 2026-11-30T12:00:00Z';
const ERROR = ['--error <code>', 'only deliveries whose last attempt ended with this error code'] as const;

/** The command `recover` sends failed deliveries again. */
export function addRecover(program: Command, cli: Cli): void {
  const command = program
    .command('recover')
    .description('Sends failed deliveries again, for example after a receiver was down.')
    .requiredOption('--since <time>', `deliveries from this time on: ${SINCE}`, pastTime)
    .addOption(
      new Option('--state <state>', 'which deliveries')
        .choices(['exhausted', 'discarded', 'both'])
        .default('exhausted'),
    )
    .option(...ERROR);
  addBulkOptions(command).action(
    handler(cli, (options: BulkOptions) => {
      const states = statesOf(options, ['exhausted', 'discarded']);
      return bulk(cli, options, 'sent again', { kind: 'recover', ...filterOf(options), ...states });
    }),
  );
}

/** The command `discard` discards pending deliveries. */
export function addDiscard(program: Command, cli: Cli): void {
  const command = program
    .command('discard')
    .description('Discards pending deliveries. `recover --state discarded` sends them later.')
    .option('--since <time>', `deliveries from this time on: ${SINCE}`, pastTime)
    .addOption(new Option('--state <state>', 'which deliveries').choices(['due', 'held', 'both']).default('held'))
    .option(...ERROR)
    .option('--all', 'of all listeners');
  addBulkOptions(command).action(
    handler(cli, (options: BulkOptions & { all?: boolean }) => {
      if ((options.listener === undefined) !== (options.all === true)) {
        throw argumentError('Give --listener <id>, or --all for the deliveries of every listener.');
      }
      const states = statesOf(options, ['due', 'held']);
      return bulk(cli, options, 'discarded', { kind: 'discard', ...filterOf(options), ...states });
    }),
  );
}

/** The command `replay` sends past events to a listener that has no delivery of them, from the tables or from a file of the archive. */
export function addReplay(program: Command, cli: Cli): void {
  const command = program
    .command('replay')
    .description('Sends past events to a listener that has not received them, for example a new one.')
    .option('--since <time>', `events from this time on: ${SINCE}. Required without --archive`, pastTime)
    .option(
      '--archive <file>',
      'restores the events of this file of the archive, and sends them to the listener, if one is given',
    );
  addBulkOptions(command, 'lst_…, the listener. Required without --archive').action(
    handler(cli, async (options: BulkOptions & { archive?: string }) => {
      if (options.archive !== undefined) {
        const { restore } = await import('./restore.js');
        return restore(cli, options.archive, options);
      }
      if (options.since === undefined || options.listener === undefined) {
        throw argumentError('Give --since <time> and --listener <id>, or --archive <file>.');
      }
      return bulk(cli, options, 'made', { kind: 'replay', ...filterOf(options) });
    }),
  );
}

function addBulkOptions(command: Command, listener = 'only deliveries to this listener'): Command {
  command
    .option('--listener <id>', listener)
    .option('--until <time>', 'only before this time; by default, now', pastTime)
    .option('--type <types>', 'only these event types, separated by commas', names)
    .option('--owner <owner>', 'only listeners of this owner')
    .option('--rate <number>', 'at most this many per second', wholeNumber(1, 10_000))
    .option('--dry-run', 'only count')
    .option('-y, --yes', 'do not ask');
  return withJsonOption(withSourceOptions(command));
}

function statesOf(
  { state }: BulkOptions,
  both: readonly ['exhausted' | 'due', 'discarded' | 'held'],
): Pick<NewTask, 'states'> {
  return { states: state === 'both' ? both : both.filter((one) => one === state) };
}

/** Without `until`, the current time is the end. So the work does not include deliveries that are newer than the count. */
function filterOf({
  listener,
  since,
  until = new Date(),
  type,
  error,
  owner,
  rate,
}: BulkOptions): Omit<NewTask, 'kind'> {
  return {
    until,
    ...(since === undefined ? {} : { since }),
    ...(listener === undefined ? {} : { listenerId: listener }),
    ...(type === undefined ? {} : { types: type }),
    ...(error === undefined ? {} : { errorCode: error }),
    ...(owner === undefined ? {} : { owner }),
    ...(rate === undefined ? {} : { ratePerSecond: rate }),
  };
}

/** Counts the deliveries, asks for confirmation, and works on a task. @param verb completes "would be …", such as "sent again" */
async function bulk(cli: Cli, options: BulkOptions, verb: string, input: NewTask): Promise<ExitCode> {
  const { terminal } = cli;
  const { json, dryRun: isDryRun = false, yes: isConfirmed = false } = options;
  if (!isDryRun && !isConfirmed && !terminal.isInteractive) {
    throw argumentError(
      'Nobody can confirm this here. Give --yes to continue without a question, or --dry-run to count only.',
    );
  }
  return withCommandServices<ExitCode>(cli, options, async ({ tasks }) => {
    const expected = await tasks.count(input);
    const what = `${countText(expected)} would be ${verb}`;
    if (isDryRun) {
      print(terminal, { ...expected, dryRun: true }, { json, rows: [[`${what}.`]] });
      return 0;
    }
    if (!isConfirmed && !(await terminal.ask(`${what}. Continue?`))) return 1;
    const task = await workOn(cli, tasks, await tasks.create(input), expected.count);
    return report(cli, task, verb, json);
  });
}

function countText({ count, capped: isCapped }: TaskCount): string {
  return `${isCapped ? 'At least ' : ''}${counted(count, 'delivery', 'deliveries')}`;
}

/** Works on the task in this process, or watches the process that works on it. After Ctrl-C, a running dispatcher continues the task. */
async function workOn(
  { terminal }: Cli,
  tasks: CommandServices['tasks'],
  { id }: Task,
  expected: number,
): Promise<Task> {
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.once('SIGINT', interrupt);
  const progress = new Progress(terminal, expected, `^C leaves the task running (${id})`);
  try {
    return await tasks.run(id, { signal: interrupted.signal, onProgress: ({ done }) => progress.show(done) });
  } finally {
    progress.end();
    process.off('SIGINT', interrupt);
  }
}

function report({ terminal }: Cli, task: Task, verb: string, json: boolean | undefined): ExitCode {
  const { id, state, done, error } = task;
  const result = `${counted(done, 'delivery', 'deliveries')} ${done === 1 ? 'was' : 'were'} ${verb}.`;
  print(terminal, { count: done, dryRun: false, task: id, state }, { json, rows: [[result]] });
  if (state === 'done') return 0;
  if (state === 'failed') {
    terminal.err(`The task ${id} failed: ${error?.code}: ${error?.message}`);
    return 2;
  }
  terminal.err(
    state === 'cancelled'
      ? `The task ${id} was cancelled.`
      : `The task ${id} is not finished. A running dispatcher continues; \`tasks cancel ${id}\` ends it.`,
  );
  return 1;
}
