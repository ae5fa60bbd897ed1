import { Option, type Command } from 'commander';
import type { Task, TaskKind, TaskState } from '../../deliveries/task.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { grouped, print, printPage, type Cell } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { filterOf, withId, withPageOptions, type PageOptions } from './options.js';

type Common = SourceOptions & ResultOptions;

const STATES: readonly TaskState[] = ['queued', 'running', 'done', 'cancelled', 'failed'];
const KINDS: readonly TaskKind[] = ['recover', 'replay', 'discard', 'erase', 'reseal'];

/** `tasks`: list, show, cancel. */
export function addTasks(program: Command, cli: Cli): void {
  const tasks = program.command('tasks').description('Shows bulk work in the background, and cancels it.');
  addList(tasks, cli);
  const of = (name: string, description: string) => withId(tasks, name, description, 'tsk_…');
  of('show', 'Shows a task and its progress.').action(
    handler(cli, (id: string, options: Common) => show(cli, id, options)),
  );
  of('cancel', 'Cancels a task. What was done stays done.').action(
    handler(cli, (id: string, options: Common) => cancel(cli, id, options)),
  );
}

interface ListOptions extends PageOptions {
  readonly state?: TaskState;
  readonly kind?: TaskKind;
}

function addList(tasks: Command, cli: Cli): void {
  const command = tasks
    .command('list')
    .description('Lists tasks, the newest first.')
    .addOption(new Option('--state <state>', 'only in this state').choices(STATES))
    .addOption(new Option('--kind <kind>', 'only of this kind').choices(KINDS));
  withPageOptions(command).action(handler(cli, (options: ListOptions) => list(cli, options)));
}

async function list(cli: Cli, options: ListOptions): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, options, async ({ tasks }) => {
    const page = await tasks.list(filterOf(options));
    const header = ['ID', 'KIND', 'STATE', 'DONE', 'CREATED', 'ACTOR'];
    printPage(cli.terminal, page, { json: options.json, header, rowOf, name: 'tasks' });
    return 0;
  });
}

function rowOf(task: Task): Cell[] {
  return [task.id, task.kind, task.state, progressOf(task), task.createdAt, task.actor];
}

function progressOf({ done, estimate }: Task): string {
  return estimate === null ? grouped(done) : `${grouped(done)} of ${grouped(estimate)}`;
}

async function show(cli: Cli, id: string, { json, ...source }: Common): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, source, async ({ tasks }) => {
    const task = await tasks.get(id);
    print(cli.terminal, task, { json, rows: detailsOf(task) });
    return task.state === 'failed' ? 1 : 0;
  });
}

function detailsOf(task: Task): Cell[][] {
  const { filter, error, ...details } = task;
  const rows = Object.entries(details).filter(([, value]) => value !== null) as [string, Cell][];
  return [
    ...rows,
    ['filter', JSON.stringify(filter)],
    ...(error === null ? [] : [['error', `${error.code}: ${error.message}`]]),
  ];
}

async function cancel(cli: Cli, id: string, { json, ...source }: Common): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, source, async ({ tasks }) => {
    const task = await tasks.cancel(id);
    print(cli.terminal, task, { json, rows: [[task.id, `cancelled; ${progressOf(task)} done`]] });
    return 0;
  });
}
